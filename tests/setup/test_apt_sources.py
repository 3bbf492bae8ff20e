"""How the archive to fetch Debian's source from is read off the machine's own apt configuration."""

import subprocess
from pathlib import Path

import pytest

PROGRAM = Path(__file__).parents[2] / "scripts" / "lib" / "apt-sources.awk"


def stanza(uri: str, *more: str) -> str:
    """Write one stanza of the result."""
    return "\n".join(["types: deb-src", f"uris: {uri}", "suites: trixie", "components: main", *more, "", ""])


def derived(folder: Path, **files: str) -> str:
    """Run the program on source files; `a_list` stands for a.list."""
    written = []
    for name, text in files.items():
        file = folder / name.replace("_", ".")
        file.write_text(text)
        written.append(file)
    return subprocess.run(
        ["awk", "-v", "suite=trixie", "-f", PROGRAM, *written], capture_output=True, text=True, check=True
    ).stdout


@pytest.mark.parametrize(
    "line",
    [
        "deb http://a.example/debian bookworm main",
        "deb-src http://a.example/debian trixie main",
        "  deb\thttp://a.example/debian   stable   contrib main non-free-firmware # why",
        "deb [arch=amd64] http://a.example/debian sid main",
        "deb http://a.example/debian bookworm main\ndeb-src http://a.example/debian bookworm main",
    ],
)
def test_one_line_entries(tmp_path: Path, line: str) -> None:
    """Any Debian release by name or alias, said once."""
    assert derived(tmp_path, a_list=line) == stanza("http://a.example/debian")


@pytest.mark.parametrize(
    "line",
    [
        "# deb http://a.example/debian bookworm main",
        "deb http://a.example/debian bookworm-updates main",
        "deb http://a.example/debian-security bookworm-security main",
        "deb http://a.example/linux bookworm stable",
        "deb http://a.example/ubuntu noble main",
        "deb cdrom:[Debian_12]/ bookworm main",
        "rpm http://a.example/debian bookworm main",
        "",
    ],
)
def test_one_line_entries_of_something_else(tmp_path: Path, line: str) -> None:
    """Comments, partial archives, other distributions, other sections."""
    assert derived(tmp_path, a_list=line) == ""


def test_trust_is_carried_over_from_one_line(tmp_path: Path) -> None:
    """A mirror's own key is asked for again; an architecture means nothing to a source."""
    line = (
        "deb [ arch=amd64,arm64 signed-by=/k/a.gpg,/k/b.gpg trusted=yes ] http://a.example/debian stable main"
    )
    assert derived(tmp_path, a_list=line) == stanza(
        "http://a.example/debian", "signed-by: /k/a.gpg /k/b.gpg", "trusted: yes"
    )


def test_stanzas(tmp_path: Path) -> None:
    """Fields in any case and order, over several lines, with comments in between."""
    text = """\
# A comment
types: deb deb-src
URIs: http://a.example/debian
 http://b.example/debian
Components: contrib
 main
# another
Suites: bookworm bookworm-updates
Signed-By: /k/a.gpg

Types: deb
URIs: http://a.example/debian-security
Suites: bookworm-security
Components: main
"""
    assert derived(tmp_path, a_sources=text) == stanza(
        "http://a.example/debian", "signed-by: /k/a.gpg"
    ) + stanza("http://b.example/debian", "signed-by: /k/a.gpg")


def test_a_key_within_the_stanza_stays_whole(tmp_path: Path) -> None:
    """Its line breaks and leading blanks are part of the syntax."""
    key = "signed-by:\n -----BEGIN PGP PUBLIC KEY BLOCK-----\n .\n mDMEY865UxYJ\n =abcd\n -----END"
    text = f"Types: deb\nURIs: http://a.example/debian\nSuites: stable\nComponents: main\n{key}\n"
    assert derived(tmp_path, a_sources=text).replace(": \n", ":\n") == stanza("http://a.example/debian", key)


def test_a_disabled_stanza_is_left_out(tmp_path: Path) -> None:
    """Whatever word it is disabled with."""
    text = "Types: deb\nURIs: http://a.example/debian\nSuites: stable\nComponents: main\nEnabled: {}\n"
    for word in ("no", "False", "off"):
        assert derived(tmp_path, a_sources=text.format(word)) == ""
    assert derived(tmp_path, a_sources=text.format("yes")) != ""


def test_formats_and_files_do_not_run_into_one_another(tmp_path: Path) -> None:
    """A file that ends without an empty line ends its stanza all the same; one archive is tried once."""
    open_end = "Types: deb\nURIs: http://{}.example/debian\nSuites: stable\nComponents: main"
    line = "deb http://{}.example/debian stable main\n"
    assert derived(
        tmp_path,
        a_sources=open_end.format("a"),
        b_list=line.format("b") + line.format("a"),
        c_sources=open_end.format("c"),
    ) == "".join(stanza(f"http://{name}.example/debian") for name in "abc")
