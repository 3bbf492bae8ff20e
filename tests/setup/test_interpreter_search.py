"""Which interpreter the setup takes: the five routes, their order, and what it says of those passed over."""

import pytest
from machine import Machine

ARCHIVE = "deb http://archive.example/debian bookworm main\n"
PYENV_PYTHON = "home/.pyenv/versions/3.13.0/bin/python3"


def chosen(machine: Machine, *arguments: str, **environment: str) -> str:
    """Search, expecting success; give the chosen path relative to the machine."""
    answer = machine.setup("--interpreter", *arguments, **environment)
    assert answer.code == 0, answer.stderr
    return answer.stdout.strip().removeprefix(f"{machine.root}/")


def add_uv(machine: Machine) -> None:
    """Put a uv on the PATH that has a 3.14t to install."""
    python = machine.python(machine.root / "uv" / "bin" / "python3.14t", "3.14.2", "free-threaded")
    machine.program("uv", f'case "$*" in "python find"*) echo "{python}" ;; esac')


def add_debian_build(machine: Machine) -> str:
    """Put into the cache what an earlier build of Debian's source left there."""
    place = machine.cache / "interpreters" / "debian-3.13t-1" / "bin" / "python3.13t"
    machine.python(place, "3.13.5", "free-threaded")
    return str(place.relative_to(machine.root))


def test_each_route_serves_when_the_ones_before_it_do_not(machine: Machine) -> None:
    """From the last to the first, each newly possible route takes the choice away from the one below it."""
    machine.python(machine.root / PYENV_PYTHON, "3.13.0")
    assert chosen(machine) == PYENV_PYTHON
    machine.python("python3", "3.14.1")
    assert chosen(machine) == "bin/python3"
    built = add_debian_build(machine)
    assert chosen(machine, "--refresh") == built
    add_uv(machine)
    assert chosen(machine) == "uv/bin/python3.14t"
    machine.python("python3.14t", "3.14.7", "free-threaded")
    assert chosen(machine) == "bin/python3.14t"
    machine.python("python3.15t", "3.15.0", "free-threaded")
    assert chosen(machine) == "bin/python3.15t"
    mine = machine.python("mine", "3.13.9")
    assert chosen(machine, PYTHON=str(mine)) == "bin/mine"
    assert chosen(machine, PYTHON="mine") == "bin/mine"


def test_every_route_passed_over_gets_its_line(machine: Machine) -> None:
    """With nothing there, the reader learns what each route would have needed, and how to go on."""
    answer = machine.setup("--interpreter")
    assert answer.code == 2
    assert answer.stdout == ""
    assert answer.said("route 1 (env)", "$PYTHON is not set")
    assert answer.said("route 2 (path)", "no python3.15t or python3.14t on PATH")
    assert answer.said("route 3 (uv)", "no uv on PATH")
    assert answer.said("route 4 (debian)", "no apt here")
    assert answer.said("route 5 (gil)", "no usable Python 3.13 or newer")
    assert answer.said("error", "no route gave an interpreter")
    assert len(answer.lines) == 6


@pytest.mark.parametrize(
    ("version", "fields", "reason"),
    [
        ("3.12.9", {}, "3.12.9; roving needs 3.13 or newer"),
        ("2.7.18", {"name": "python2"}, "python2, not CPython"),
        ("3.13.1", {"name": "pypy"}, "pypy, not CPython"),
        ("3.13.1", {"headers": "no-headers"}, "without its C headers"),
        ("3.13.1", {"venv": "no-venv"}, "cannot make virtual environments"),
    ],
)
def test_a_wrong_python_variable_is_an_error(
    machine: Machine, version: str, fields: dict[str, str], reason: str
) -> None:
    """Falling through to a good interpreter would test another one than was asked for."""
    machine.python("python3.14t", "3.14.7", "free-threaded")
    wrong = machine.python("wrong", version, **fields)
    answer = machine.setup("--interpreter", PYTHON=str(wrong))
    assert answer.code == 2
    assert answer.said("error", "$PYTHON will not do", reason)


def test_a_python_variable_that_names_nothing_is_an_error(machine: Machine) -> None:
    """A typing mistake is no reason to take another interpreter."""
    machine.python("python3.14t", "3.14.7", "free-threaded")
    answer = machine.setup("--interpreter", PYTHON="python3.41")
    assert answer.code == 2
    assert answer.said("error", "python3.41", "no such program")


def test_a_python_that_does_not_run_is_passed_over(machine: Machine) -> None:
    """As a pyenv shim is, with no version selected behind it."""
    machine.program("python3.14t", "exit 127")
    machine.python("python3.13", "3.13.2")
    answer = machine.setup("--interpreter")
    assert answer.stdout.strip().endswith("bin/python3.13")
    assert answer.said("route 2 (path)", "python3.14t does not run")


def test_a_threaded_name_on_a_gil_build_is_passed_over(machine: Machine) -> None:
    """What counts is what the interpreter says of itself, not what it is called."""
    machine.python("python3.14t", "3.14.7", "gil")
    answer = machine.setup("--interpreter", "--routes", "2")
    assert answer.code == 2
    assert answer.said("route 2 (path)", "python3.14t (3.14.7) has the GIL")


def test_the_base_of_an_environment_is_taken(machine: Machine) -> None:
    """A .venv made from the python inside it would be destroyed by its own making."""
    base = machine.python(machine.root / "base" / "python3.14t", "3.14.7", "free-threaded")
    machine.python("python3.14t", "3.14.7", "free-threaded", executable=str(base))
    assert chosen(machine) == "base/python3.14t"


def test_a_gil_build_comes_with_a_warning(machine: Machine) -> None:
    """It works, and nothing runs in parallel: both are to be known."""
    machine.python("python3.13", "3.13.2")
    assert machine.setup("--interpreter").said("WARNING", "nothing will run in parallel")
    machine.python("python3.14t", "3.14.7", "free-threaded")
    assert not machine.setup("--interpreter").said("WARNING")


def test_the_newest_gil_build_wins(machine: Machine) -> None:
    """And pyenv's other root is looked at."""
    machine.python("python3.13", "3.13.2")
    machine.python("python3", "3.12.1")
    newest = machine.python(machine.root / "pyenv" / "versions" / "3.14.1" / "bin" / "python3", "3.14.1")
    assert chosen(machine, PYENV_ROOT=str(machine.root / "pyenv")) == str(newest.relative_to(machine.root))


def test_uv_that_cannot_fetch_is_passed_over(machine: Machine) -> None:
    """No internet is an ordinary circumstance."""
    machine.program("uv", "exit 1")
    answer = machine.setup("--interpreter")
    assert answer.said("route 3 (uv)", "uv python install 3.14t failed")


def test_a_slow_answer_is_remembered(machine: Machine) -> None:
    """The second search asks nobody, and says how to ask again."""
    machine.program("uv", "exit 1")
    machine.python("python3.13", "3.13.2")
    assert chosen(machine) == "bin/python3.13"
    assert "uv python install 3.14t" in machine.calls()
    answer = machine.setup("--interpreter")
    assert answer.stdout.strip().endswith("bin/python3.13")
    assert answer.said("route 5 (gil)", "remembered", "--refresh")
    assert answer.said("WARNING")
    assert machine.calls() == []
    assert chosen(machine, "--refresh") == "bin/python3.13"
    assert "uv python install 3.14t" in machine.calls()


def test_a_remembered_interpreter_that_is_gone_is_not_taken(machine: Machine) -> None:
    """The memory is checked against the machine before it is believed."""
    add_uv(machine)
    assert chosen(machine) == "uv/bin/python3.14t"
    (machine.root / "uv" / "bin" / "python3.14t").unlink()
    machine.python("python3.13", "3.13.2")
    assert chosen(machine) == "bin/python3.13"


def test_new_circumstances_end_the_memory(machine: Machine) -> None:
    """An interpreter or a uv that was not there before is seen at once."""
    machine.python("python3.13", "3.13.2")
    assert chosen(machine) == "bin/python3.13"
    machine.python("python3.14", "3.14.1")
    assert chosen(machine) == "bin/python3.14"
    add_uv(machine)
    assert chosen(machine) == "uv/bin/python3.14t"


def test_routes_can_be_chosen(machine: Machine) -> None:
    """By option or by environment, in any order; nonsense is refused."""
    machine.python("python3.14t", "3.14.7", "free-threaded")
    machine.python("python3.13", "3.13.2")
    assert chosen(machine, "--routes", "5,2") == "bin/python3.13"
    assert chosen(machine, ROVING_SETUP_ROUTES="5") == "bin/python3.13"
    assert chosen(machine, "--routes", "2", ROVING_SETUP_ROUTES="5") == "bin/python3.14t"
    for nonsense in ("", "6", "2;5", "path"):
        assert machine.setup("--routes", nonsense).said("routes are numbers from 1 to 5")
    assert machine.setup("--routes").said("--routes needs a value")


def test_a_dry_run_tells_of_every_route_and_changes_nothing(machine: Machine) -> None:
    """Nothing installed, fetched or remembered."""
    machine.apt(ARCHIVE)
    machine.program("uv", "")
    machine.python("python3.14t", "3.14.7", "free-threaded")
    machine.python("python3.13", "3.13.2")
    answer = machine.setup("--dry-run")
    assert answer.code == 0
    assert answer.said("route 2 (path)", "bin/python3.14t", "3.14.7, free-threaded")
    assert answer.said("route 3 (uv)", "would run: uv python install 3.14t")
    assert answer.said("route 4 (debian)", "would build 3.13t")
    assert answer.said("route 5 (gil)", "bin/python3.13", "3.13.2, gil")
    assert not machine.cache.exists()
    assert not [call for call in machine.calls() if call.startswith(("uv", "apt-get"))]


def test_an_archive_out_of_reach_is_passed_over(machine: Machine) -> None:
    """With the end of the log, and the path of the whole."""
    machine.apt(ARCHIVE)
    machine.python("python3.13", "3.13.2")
    answer = machine.setup("--interpreter")
    assert answer.stdout.strip().endswith("bin/python3.13")
    assert answer.said("E: no network")
    assert answer.said("route 4 (debian)", "failed in fetch_source", "fetch_source.log")


def test_a_machine_without_a_debian_archive_is_passed_over(machine: Machine) -> None:
    """Another distribution's apt has no source package of Debian's."""
    machine.apt("deb http://archive.example/ubuntu noble main\n")
    assert machine.setup("--interpreter").said("route 4 (debian)", "name no Debian archive")


def test_packages_only_root_can_install_are_named(machine: Machine) -> None:
    """And their arrival is noticed, though an answer was remembered without them."""
    machine.apt(ARCHIVE)
    machine.python("python3.13", "3.13.2")
    machine.bin.joinpath("id").unlink()
    machine.program("id", "echo 1000")
    everything = machine.bin.joinpath("dpkg-query").read_text()
    machine.program("dpkg-query", "echo 'zlib1g-dev install ok installed'; exit 1")
    answer = machine.setup("--interpreter")
    assert answer.said("route 4 (debian)", "root must install", "build-essential", "libssl-dev")
    assert not answer.said("zlib1g-dev")
    machine.bin.joinpath("dpkg-query").write_text(everything)
    assert machine.setup("--interpreter").said("fetching Debian's source")


def test_the_list_holds_each_interpreter_once(machine: Machine) -> None:
    """What test-all goes through: usable ones only, nothing fetched."""
    machine.program("uv", "")
    threaded = machine.python("python3.14t", "3.14.7", "free-threaded")
    gil = machine.python("python3.13", "3.13.2")
    machine.python("python3", "3.13.2", executable=str(gil))
    machine.python(machine.root / "home/.pyenv/versions/3.12.1/bin/python3", "3.12.1")
    built = add_debian_build(machine)
    assert machine.setup("--list").stdout.splitlines() == [
        f"3.14.7\tfree-threaded\t{threaded}",
        f"3.13.5\tfree-threaded\t{machine.root / built}",
        f"3.13.2\tgil\t{gil}",
    ]
    assert not [call for call in machine.calls() if call.startswith("uv")]
