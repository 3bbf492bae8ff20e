# shellcheck shell=bash
# Route 4: a free-threaded CPython 3.13, built from the source package `python3.13` of Debian's trixie.
#
# For machines that reach a Debian archive and nothing else. Where the archive is, how to get there and whose
# signature to ask for are read off the machine's own apt configuration; that configuration, its package lists
# and its hooks are left untouched, since everything here runs on a private copy of apt's state.
#
# Upstream's tarball is built as it is, without Debian's patches: those move site-packages, take away
# ensurepip and leave out the test suite, all of which a private interpreter for development wants as upstream
# has them.
#
# Each step leaves a stamp, so an interrupted build goes on where it stopped; within the longest, make does.
# The result is installed into a staging folder, tried there, and moved into place in one rename: what stands
# at $debian_prefix is always a whole interpreter. The name carries a number to raise when the recipe changes.

suite=trixie
source_package=python3.13
debian_prefix="$cache/interpreters/debian-3.13t-1"
debian_python="$debian_prefix/bin/python3.13t"
debian_work="$cache/build/debian-3.13t-1"
build_packages=(
    build-essential ca-certificates libbz2-dev libffi-dev liblzma-dev libncurses-dev libreadline-dev
    libsqlite3-dev libssl-dev pkg-config uuid-dev xz-utils zlib1g-dev
)
# What the build must be able to import, or it is thrown away: configure leaves out, without failing, every
# module whose library it does not find.
must_import='bz2, ctypes, hashlib, lzma, readline, sqlite3, ssl, uuid, zlib'

debian_source_possible() {
    local missing
    if ! have apt-get || ! have dpkg-query; then
        why_not="no apt here, so no Debian source package"
        return 1
    fi
    if ! apt_sources "$(apt_folder)" | grep -q .; then
        why_not="the apt sources of this machine name no Debian archive"
        return 1
    fi
    missing=$(missing_packages "${build_packages[@]}")
    if [ -n "$missing" ] && ! may_install_packages; then
        why_not="to build 3.13t, root must install: ${missing% }"
        return 1
    fi
}

apt_folder() {
    local folder
    eval "$(apt-config shell folder Dir::Etc/d)"
    printf '%s\n' "${folder:-/etc/apt/}"
}

# Prints, as deb822 stanzas for sources of $suite, what the machine's apt entries say of a Debian archive.
apt_sources() {
    local folder="${1%/}" file
    local -a files=()
    for file in "$folder"/sources.list "$folder"/sources.list.d/*.list "$folder"/sources.list.d/*.sources; do
        [ ! -r "$file" ] || files+=("$file")
    done
    [ "${#files[@]}" -eq 0 ] || awk -v suite="$suite" -f "$library/apt-sources.awk" "${files[@]}"
}

# apt's settings for a world of its own below $debian_work/apt. They go through `-c`, which is read after the
# machine's configuration: proxies and certificates stay in force, hooks that run after an update do not.
private_apt_conf() {
    local private="$1"
    mkdir -p "$private"/{sources.d,lists/partial,cache/archives/partial,state}
    cat <<END
Dir::Etc::sourcelist "/dev/null";
Dir::Etc::sourceparts "$private/sources.d";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::State "$private/state";
Dir::State::lists "$private/lists";
Dir::Cache "$private/cache";
Dir::Cache::archives "$private/cache/archives";
Acquire::Languages "none";
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
END
    # The download user of apt cannot write below a home folder; the index's hashes are checked either way.
    [ "$(id -u)" -ne 0 ] || printf 'APT::Sandbox::User "root";\n'
}

# Tries one archive after the other. A failing one is no error by itself: a mirror may carry one release only.
fetch_source() {
    local private="$debian_work/apt" download="$debian_work/download" stanza
    rm -rf "$debian_work/candidates"
    mkdir -p "$debian_work/candidates" "$download"
    private_apt_conf "$private" >"$debian_work/apt.conf"
    apt_sources "$(apt_folder)" | awk -v folder="$debian_work/candidates" -v RS= \
        '{ file = sprintf("%s/%03d.sources", folder, NR); print > file; close(file) }'
    for stanza in "$debian_work"/candidates/*.sources; do
        rm -f "$private"/sources.d/*
        cp "$stanza" "$private/sources.d/"
        if (
            cd "$download" || exit
            apt-get -q -c "$debian_work/apt.conf" update &&
                apt-get -q -c "$debian_work/apt.conf" source --download-only --only-source "$source_package"
        ) </dev/null; then
            return 0
        fi
    done
    return 1
}

unpack_source() {
    local tarball
    for tarball in "$debian_work"/download/"$source_package"_*.orig.tar.*; do
        case "$tarball" in *.asc) continue ;; esac
        rm -rf "$debian_work/unpacked"
        mkdir "$debian_work/unpacked"
        tar -xf "$tarball" -C "$debian_work/unpacked" --strip-components=1 || return 1
        rm -rf "$debian_work/source"
        mv "$debian_work/unpacked" "$debian_work/source"
        return 0
    done
    return 1
}

configure_source() {
    (cd "$debian_work/source" && ./configure --prefix="$debian_prefix" --disable-gil --with-ensurepip=install)
}

compile_source() { make -C "$debian_work/source" -j"$(nproc)"; }

# The prefix is compiled in, so the staging folder is a DESTDIR; Python finds itself from there all the same.
publish() {
    local stage="$debian_work/stage"
    rm -rf "$stage"
    make -C "$debian_work/source" DESTDIR="$stage" install || return 1
    "$stage$debian_python" -I -c "import $must_import, sys; sys.exit(sys._is_gil_enabled())" || return 1
    rm -rf "$debian_prefix"
    mkdir -p "$(dirname "$debian_prefix")"
    mv "$stage$debian_prefix" "$debian_prefix"
}

install_build_packages() {
    local missing
    missing=$(missing_packages "${build_packages[@]}")
    # shellcheck disable=SC2086 # a list of package names, split on purpose
    [ -z "$missing" ] || install_packages $missing
}

# Runs one step unless an earlier run finished it. The log is kept for the one who has to find out why.
step() {
    local name="$1" message="$2" log="$debian_work/$1.log"
    [ ! -e "$debian_work/$name.done" ] || return 0
    say "setup: $message"
    if ! "$name" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        why_not="building 3.13t from Debian's source failed in $name; the whole log is $log"
        return 1
    fi
    : >"$debian_work/$name.done"
}

build_steps() {
    step fetch_source "fetching Debian's source of $source_package" &&
        step unpack_source "unpacking it" &&
        step configure_source "configuring a build without the GIL" &&
        step compile_source "compiling (about 3 minutes on 2 cores)" &&
        step publish "installing into $debian_prefix"
}

build_from_debian_source() {
    local begin="$SECONDS" resumed=''
    hold_lock "$debian_work.lock"
    # Whoever held the lock may have built it.
    [ ! -x "$debian_python" ] || return 0
    install_build_packages || { why_not="apt-get could not install what the build needs" && return 1; }
    mkdir -p "$debian_work"
    [ ! -e "$debian_work/fetch_source.done" ] || resumed=yes
    if ! build_steps; then
        [ -n "$resumed" ] || return 1
        # Killed outright, a compiler leaves half a file that make takes for a whole one.
        say "setup: what the interrupted build left is of no use; starting over"
        rm -rf "$debian_work"
        mkdir -p "$debian_work"
        build_steps || return 1
    fi
    rm -rf "$debian_work"
    say "setup: built 3.13t in $((SECONDS - begin)) s"
}
