# shellcheck shell=bash
# What every part of the setup shares: speaking, failing, waiting, installing packages.
#
# Everything a person reads goes to stderr; stdout carries only answers (the path of an interpreter), so
# that `scripts/setup --interpreter` can be used in a command substitution.

cache="${XDG_CACHE_HOME:-$HOME/.cache}/roving"

say() { printf '%s\n' "$*" >&2; }

die() {
    printf 'setup: error: %s\n' "$*" >&2
    exit 2
}

have() { command -v "$1" >/dev/null 2>&1; }

# Takes an exclusive lock until the script ends or takes another. The kernel releases it when the holder dies,
# kill -9 included: a lock made of a file's existence would have to be cleared by hand after a crash. Where
# there is no flock (it is in util-linux), two setups at once are the user's to avoid.
hold_lock() {
    local file="$1"
    mkdir -p "$(dirname "$file")"
    have flock || return 0
    exec 9>"$file"
    if ! flock -n 9; then
        say "setup: another setup holds $file; waiting for it"
        flock 9
    fi
}

# Puts a file in place whole or not at all: an interrupted setup must not leave half an answer behind.
write_atomically() {
    local file="$1"
    mkdir -p "$(dirname "$file")"
    cat >"$file.new.$$"
    mv -f "$file.new.$$" "$file"
}

may_install_packages() { have apt-get && [ "$(id -u)" -eq 0 ]; }

# Prints those of the named Debian packages that are not installed.
missing_packages() {
    local package installed
    installed=$(dpkg-query -W -f '${Package} ${Status}\n' "$@" 2>/dev/null || true)
    for package in "$@"; do
        case $'\n'"$installed"$'\n' in
            *$'\n'"$package install ok installed"$'\n'*) ;;
            *) printf '%s ' "$package" ;;
        esac
    done
}

# Images are often shipped with their package lists deleted, or old: so a second try after an update.
install_packages() {
    local -a apt=(apt-get -y -qq --no-install-recommends install "$@")
    say "setup: installing Debian packages: $*"
    export DEBIAN_FRONTEND=noninteractive
    "${apt[@]}" >&2 </dev/null || { apt-get -qq update >&2 </dev/null && "${apt[@]}" >&2 </dev/null; }
}
