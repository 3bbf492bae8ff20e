# shellcheck shell=bash
# The Rust toolchain and the C compiler it links with.

# The oldest Rust that will do is said once, in Cargo.toml.
wanted_rust() { sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$repository/Cargo.toml"; }

# 1.89 is older than 1.100: compare number by number.
at_least() {
    local -a has wants
    local i
    IFS=. read -ra has <<<"$1"
    IFS=. read -ra wants <<<"$2"
    for i in 0 1 2; do
        [ "${has[$i]:-0}" -eq "${wants[$i]:-0}" ] || break
    done
    [ "${has[$i]:-0}" -ge "${wants[$i]:-0}" ]
}

check_rust() {
    local wanted version
    wanted=$(wanted_rust)
    if ! have cargo || ! version=$(cargo --version 2>/dev/null </dev/null); then
        die "no Rust toolchain. Install Rust $wanted or newer with rustup (\`rustup toolchain install stable\`)," \
            "see that \`cargo\` is on PATH, and run this again."
    fi
    version="${version#cargo }"
    version="${version%%[ -]*}"
    at_least "$version" "$wanted" ||
        die "cargo is $version; roving needs Rust $wanted or newer: \`rustup update stable\`."
}

check_c_compiler() {
    if have cc; then return 0; fi
    if may_install_packages && install_packages gcc libc6-dev && have cc; then return 0; fi
    die "no C compiler: Rust links with \`cc\`. On Debian, as root: apt-get install gcc libc6-dev"
}
