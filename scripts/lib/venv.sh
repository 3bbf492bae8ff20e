# shellcheck shell=bash
# Virtual environments with the development tools of pyproject.toml's group `dev`.

# What an environment depends on, as text. It is written into the environment as the last act of making it:
# an interrupted one has no stamp, a changed pin or interpreter has another, and both are made anew.
venv_inputs() {
    printf '%s %s %s\n' "$found_executable" "$found_version" "$found_threading"
    awk '/^\[/ { inside = ($0 == "[dependency-groups]") } inside' "$repository/pyproject.toml"
}

venv_is_ready() {
    [ "$(cat "$1/setup.stamp" 2>/dev/null)" = "$(venv_inputs)" ] && "$1/bin/python" -I -c '' 2>/dev/null
}

pip_install() {
    local folder="$1"
    shift
    "$folder/bin/python" -m pip install --quiet "$@" >&2 </dev/null
}

# Makes the environment $1 from the interpreter in found_*, unless it stands already.
ensure_venv() {
    local folder="$1"
    venv_is_ready "$folder" && return 0
    hold_lock "$repository/.build/setup.lock"
    # Whoever held the lock may have made it.
    venv_is_ready "$folder" && return 0
    say "setup: making ${folder#"$repository/"} with CPython $found_version"
    rm -f "$folder/setup.stamp"
    "$found_executable" -m venv --clear "$folder" >&2 || die "could not make $folder"
    # Dependency groups came with pip 25.1; older interpreters bundle an older pip.
    if ! pip_install "$folder" --upgrade 'pip>=25.1' ||
        ! pip_install "$folder" --group "$repository/pyproject.toml:dev"; then
        die "could not install the development tools into $folder"
    fi
    venv_inputs | write_atomically "$folder/setup.stamp"
}
