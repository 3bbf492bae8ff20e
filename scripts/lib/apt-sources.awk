# Reads apt source files, in both of apt's formats (sources.list(5)), and prints for each entry of a Debian
# archive's main section a deb822 stanza that names the source packages of another suite of that archive.
#
#   awk -v suite=trixie -f apt-sources.awk sources.list debian.sources
#
# An entry counts when its suite is a Debian release by name or by alias: that leaves out updates, security
# and backports, which are separate archives or have no base suite, and nearly all foreign archives. A foreign
# one that calls its suite `stable` gets through; it has no such source package, and the caller goes on to the
# next.
#
# Carried over is what decides how the archive is trusted, a key written into the entry included.

BEGIN {
    split("buster bullseye bookworm trixie forky duke sid " \
          "oldoldstable oldstable stable testing unstable", names, " ")
    for (i in names) is_release[names[i]] = 1
    split("signed-by trusted allow-insecure allow-weak check-valid-until check-date", carried, " ")
}

function forget(    key) {
    for (key in field) delete field[key]
    last = ""
}

function emit(    uris, suites, components, n, i, matches, body) {
    if (("types" in field) && tolower(field["enabled"]) !~ /^(no|false|without|off|disable)$/) {
        n = split(field["suites"], suites, " ")
        for (i = 1; i <= n; i++) if (suites[i] in is_release) matches = 1
        if (matches && (" " field["components"] " ") ~ /[ \t\n]main[ \t\n]/) {
            for (i = 1; i in carried; i++)
                if (carried[i] in field) body = body carried[i] ": " field[carried[i]] "\n"
            n = split(field["uris"], uris, " ")
            for (i = 1; i <= n; i++) if (uris[i] !~ /^cdrom:/ && !seen[uris[i], body]++)
                printf "types: deb-src\nuris: %s\nsuites: %s\ncomponents: main\n%s\n", uris[i], suite, body
        }
    }
    forget()
}

FNR == 1 {
    emit()
    one_line = FILENAME ~ /\.list$/
}

one_line {
    sub(/#.*/, "")
    if ($1 != "deb" && $1 != "deb-src") next
    line = $0
    options = ""
    # Only right after the type: the URI of a cdrom has brackets of its own.
    if (match(line, /^[ \t]*deb(-src)?[ \t]+\[[^]]*\]/)) {
        options = substr(line, 1, RLENGTH - 1)
        sub(/^[^[]*\[/, "", options)
        line = $1 " " substr(line, RLENGTH + 1)
    }
    count = split(options, option, " ")
    for (i = 1; i <= count; i++) {
        equals = index(option[i], "=")
        value = substr(option[i], equals + 1)
        gsub(/,/, " ", value)
        field[tolower(substr(option[i], 1, equals - 1))] = value
    }
    count = split(line, word, " ")
    field["types"] = word[1]
    field["uris"] = word[2]
    field["suites"] = word[3]
    for (i = 4; i <= count; i++) field["components"] = field["components"] " " word[i]
    emit()
    next
}

/^#/ { next }
/^[ \t]*$/ { emit(); next }

# A continuation keeps its leading blank and its line break: inside a key both are part of the syntax.
/^[ \t]/ {
    if (last != "") field[last] = field[last] "\n" $0
    next
}

{
    colon = index($0, ":")
    last = tolower(substr($0, 1, colon - 1))
    value = substr($0, colon + 1)
    sub(/^[ \t]+/, "", value)
    field[last] = value
}

END { emit() }
