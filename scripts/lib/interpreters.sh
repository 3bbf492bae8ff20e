# shellcheck shell=bash
# Which Python: five routes, tried in order, each either giving an interpreter or a reason why not.
#
#   1 env     $PYTHON. A wrong one is an error: falling through would test something else than was asked for.
#   2 path    python3.15t or python3.14t on PATH
#   3 uv      uv python install 3.14t
#   4 debian  3.13t built from Debian's source package (debian-source.sh)
#   5 gil     a build with the GIL, 3.13 or newer, on PATH or under pyenv
#
# A route leaves its answer in `found_*`, or its reason in `why_not`. Routes 1 and 2 cost milliseconds and are
# looked at every time. What the slow ones answered, their failures too, is kept in $cache/choice beside the
# circumstances it was found under, and serves as long as those are the same and the interpreter still runs.

route_names=([1]=env [2]=path [3]=uv [4]=debian [5]=gil)
oldest_minor=13
first_slow_route=3
uv_seconds=120

found_executable='' found_version='' found_threading='' found_route=''
why_not=''

# Asks an interpreter what it is; leaves it in found_*, or says why it will not do in why_not.
# stdin is closed and -I given so that neither a prompt nor the user's environment can get in between.
examine() {
    local candidate="$1" line name version threading headers venv executable minor
    if ! line=$("$candidate" -I "$library/probe.py" 2>/dev/null </dev/null); then
        # -I came with Python 3.4: what stops here is too old, or a pyenv shim with no version behind it.
        why_not="$candidate does not run, or is far too old"
        return 1
    fi
    IFS=$'\t' read -r name version threading headers venv executable <<<"$line"
    minor="${version#3.}"
    minor="${minor%%.*}"
    if [ "$name" != cpython ]; then
        why_not="$candidate is ${name:-not a Python}, not CPython"
    elif [ "${version%%.*}" != 3 ] || [ "$minor" -lt "$oldest_minor" ]; then
        why_not="$candidate is $version; roving needs 3.$oldest_minor or newer"
    elif [ "$headers" != headers ]; then
        why_not="$candidate ($version) comes without its C headers (Debian: python3.$minor-dev)"
    elif [ "$venv" != venv ]; then
        why_not="$candidate ($version) cannot make virtual environments (Debian: python3.$minor-venv)"
    else
        found_executable="$executable" found_version="$version" found_threading="$threading"
        return 0
    fi
    return 1
}

examine_free_threaded() {
    examine "$1" || return 1
    [ "$found_threading" = free-threaded ] && return 0
    why_not="$1 ($found_version) has the GIL"
    return 1
}

route_env() {
    if [ -z "${PYTHON:-}" ]; then
        why_not="\$PYTHON is not set"
        return 1
    fi
    have "$PYTHON" || die "\$PYTHON is $PYTHON, and there is no such program"
    examine "$PYTHON" || die "\$PYTHON will not do: $why_not"
}

route_path() {
    local name reasons=''
    for name in python3.15t python3.14t; do
        have "$name" || continue
        examine_free_threaded "$name" && return 0
        reasons+="${reasons:+; }$why_not"
    done
    why_not="${reasons:-no python3.15t or python3.14t on PATH}"
    return 1
}

# Without internet uv tries again for minutes unless told otherwise; a slow but working line gets uv_seconds.
route_uv() {
    local executable
    if ! have uv; then
        why_not="no uv on PATH"
        return 1
    fi
    if [ -n "$dry_run" ]; then
        why_not="would run: uv python install 3.14t"
        return 1
    fi
    say "setup: trying uv python install 3.14t (at most $uv_seconds s)"
    if ! UV_HTTP_TIMEOUT=5 UV_HTTP_CONNECT_TIMEOUT=5 UV_HTTP_RETRIES=0 UV_PYTHON_INSTALL_BIN=0 \
        timeout "$uv_seconds" uv python install 3.14t >/dev/null 2>&1 </dev/null; then
        why_not="uv python install 3.14t failed, or took more than $uv_seconds s"
        return 1
    fi
    if ! executable=$(uv python find --no-project 3.14t 2>/dev/null </dev/null); then
        why_not="uv installed 3.14t but does not find it"
        return 1
    fi
    examine_free_threaded "$executable"
}

route_debian() {
    if [ -x "$debian_python" ] && examine_free_threaded "$debian_python"; then
        return 0
    fi
    debian_source_possible || return 1
    if [ -n "$dry_run" ]; then
        why_not="would build 3.13t from Debian's source package into $debian_prefix"
        return 1
    fi
    build_from_debian_source && examine_free_threaded "$debian_python"
}

pyenv_pythons() {
    local root="${PYENV_ROOT:-$HOME/.pyenv}" file
    for file in "$root"/versions/*/bin/python3; do
        [ -x "$file" ] && printf '%s\n' "$file"
    done
    return 0
}

gil_candidates() {
    local name
    for name in python3.15 python3.14 python3.13 python3; do
        command -v "$name" || true
    done
    pyenv_pythons
}

# The newest wins, and of two equal ones the first: PATH comes before pyenv.
route_gil() {
    local candidate best='' best_minor=0 minor
    while read -r candidate; do
        examine "$candidate" || continue
        minor="${found_version#3.}"
        minor="${minor%%.*}"
        if [ "$minor" -gt "$best_minor" ]; then
            best="$candidate" best_minor="$minor"
        fi
    done < <(gil_candidates)
    if [ -z "$best" ]; then
        why_not="no usable Python 3.$oldest_minor or newer on PATH or under pyenv"
        return 1
    fi
    examine "$best"
}

# All that the answer of the slow routes depends on, as text. The reason why the Debian route cannot even be
# tried is part of it: who was told to install packages, and did, must not be given the old answer again.
circumstances() {
    local name
    printf 'routes %s\n' "$routes"
    for name in uv python3.15 python3.14 python3.13 python3; do
        printf '%s %s\n' "$name" "$(command -v "$name" || true)"
    done
    pyenv_pythons
    debian_source_possible || printf '%s\n' "$why_not"
}

remembered_choice() {
    local file="$cache/choice" executable route
    [ -z "$refresh" ] && [ -f "$file" ] || return 1
    [ "$(sed '1,2d' "$file")" = "$(circumstances)" ] || return 1
    { read -r executable && read -r route; } <"$file"
    examine "$executable" || return 1
    found_route="$route"
}

remember_choice() {
    { printf '%s\n%s\n' "$found_executable" "$found_route" && circumstances; } |
        write_atomically "$cache/choice"
}

announce() {
    say "setup: taking $found_executable (CPython $found_version, $found_threading): route $found_route$1"
    [ "$found_threading" = gil ] || return 0
    say "setup: WARNING: this interpreter has the GIL. It will do, but nothing will run in parallel."
}

# Finds the interpreter, saying on the way why earlier routes were passed over.
find_interpreter() {
    local number name
    for number in $routes; do
        if [ "$number" -ge "$first_slow_route" ] && remembered_choice; then
            announce " (remembered; scripts/setup --refresh searches again)"
            return 0
        fi
        name="${route_names[$number]}"
        if "route_$name"; then
            found_route="$number ($name)"
            announce ''
            [ "$number" -lt "$first_slow_route" ] || remember_choice
            return 0
        fi
        say "setup: route $number ($name) passed over: $why_not"
    done
    die "no route gave an interpreter; set \$PYTHON to a CPython 3.$oldest_minor or newer" \
        "(docs/DEVELOPING.md says more)"
}

# What each route would give, changing nothing.
explain_routes() {
    local number name
    for number in $routes; do
        name="${route_names[$number]}"
        if "route_$name"; then
            say "route $number ($name): $found_executable (CPython $found_version, $found_threading)"
        else
            say "route $number ($name): $why_not"
        fi
    done
}

# Every interpreter that is here already, one line each: version, threading, path. Nothing is fetched or
# built.
list_interpreters() {
    local candidate seen=$'\n'
    while read -r candidate; do
        examine "$candidate" || continue
        case "$seen" in *$'\n'"$found_executable"$'\n'*) continue ;; esac
        seen+="$found_executable"$'\n'
        printf '%s\t%s\t%s\n' "$found_version" "$found_threading" "$found_executable"
    done < <(
        [ -z "${PYTHON:-}" ] || command -v "$PYTHON" || true
        command -v python3.15t || true
        command -v python3.14t || true
        [ ! -x "$debian_python" ] || printf '%s\n' "$debian_python"
        gil_candidates
    )
}
