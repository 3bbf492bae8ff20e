"""The build of Debian's source package, on stubs: its steps, its stamps, and what a failure leaves behind."""

import fcntl
import shutil
import tarfile
from pathlib import Path

import pytest
from machine import Machine

PREFIX = "interpreters/debian-3.13t-1"


@pytest.fixture
def debian(machine: Machine) -> Machine:
    """A machine whose apt delivers a source package, and whose make builds a stub interpreter of it.

    A file named after a step, beside the machine, makes that step fail.
    """
    root = machine.root
    built = machine.python(root / "built", "3.13.5", "free-threaded", executable=str(python_of(machine)))
    tree = root / "python3.13-3.13.5"
    tree.mkdir()
    (tree / "configure").write_text(
        f'#!/bin/sh\necho "configure $*" >>"{machine.log}"\n[ ! -e "{root}/configure" ]'
    )
    (tree / "configure").chmod(0o755)
    package = root / "python3.13_3.13.5.orig.tar.gz"
    with tarfile.open(package, "w:gz") as archive:
        archive.add(tree, tree.name)
    machine.apt("deb http://a.example/debian stable main\ndeb http://b.example/debian bookworm main\n")
    machine.program(
        "apt-get",
        f"""
        sources=$(cat {machine.cache}/build/debian-3.13t-1/apt/sources.d/*)
        case "$*" in
            *update) [ ! -e "{root}/update" ] ;;
            *source*) case "$sources" in *a.example*) exit 100 ;; *b.example*) cp "{package}" . ;; esac ;;
        esac""",
    )
    machine.program(
        "make",
        f"""
        case "$*" in
            *install)
                stage="${{3#DESTDIR=}}{machine.cache}/{PREFIX}/bin"
                mkdir -p "$stage" && cp "{built}" "$stage/python3.13t" ;;
            *) [ ! -e "{root}/compile" ] ;;
        esac""",
    )
    return machine


def python_of(machine: Machine) -> Path:
    """Tell where the built interpreter is to stand."""
    return machine.cache / PREFIX / "bin" / "python3.13t"


def steps(machine: Machine) -> list[str]:
    """Name the steps that were run since the last time, by the tools they call."""
    names = []
    for call in machine.calls():
        if call.startswith("configure"):
            names.append("configure")
        elif call.startswith("apt-get") and " source " in call:
            names.append("fetch")
        elif call.startswith("make"):
            names.append("install" if call.endswith("install") else "compile")
    return names


def test_a_build_from_nothing(debian: Machine) -> None:
    """The second archive has the package; the result is in place, and the work folder gone."""
    answer = debian.setup("--interpreter", "--routes", "4")
    assert answer.code == 0, answer.stderr
    assert answer.stdout.strip() == str(python_of(debian))
    calls = debian.calls()
    assert f"configure --prefix={debian.cache / PREFIX} --disable-gil --with-ensurepip=install" in calls
    assert [call.split()[-1] for call in calls if call.startswith("apt-get")] == [
        "update",
        "python3.13",
        "update",
        "python3.13",
    ]
    assert not (debian.cache / "build" / "debian-3.13t-1").exists()


def test_a_build_that_stands_is_not_built_again(debian: Machine) -> None:
    """Not even where nothing else is remembered."""
    debian.setup("--interpreter", "--routes", "4")
    steps(debian)
    assert debian.setup("--interpreter", "--routes", "4", "--refresh").code == 0
    assert steps(debian) == []


def test_an_interrupted_build_goes_on_where_it_stopped(debian: Machine) -> None:
    """What has its stamp is not done again."""
    (debian.root / "configure").touch()
    answer = debian.setup("--interpreter", "--routes", "4")
    assert answer.said("route 4 (debian)", "failed in configure_source", "configure_source.log")
    assert steps(debian) == ["fetch", "fetch", "configure"]
    assert not python_of(debian).exists()

    work = debian.cache / "build" / "debian-3.13t-1"
    (work / "source" / "configure").write_text("#!/bin/sh\n")
    assert debian.setup("--interpreter", "--routes", "4").code == 0
    assert steps(debian) == ["compile", "install"]


def test_a_resumed_build_that_fails_starts_over(debian: Machine) -> None:
    """Once: what a kill left behind may be the reason; if it is not, starting over again will not help."""
    (debian.root / "compile").touch()
    debian.setup("--interpreter", "--routes", "4")
    steps(debian)
    answer = debian.setup("--interpreter", "--routes", "4")
    assert answer.code == 2
    assert answer.said("starting over")
    assert steps(debian) == ["compile", "fetch", "fetch", "configure", "compile"]
    assert answer.said("route 4 (debian)", "failed in compile_source")


def test_a_failed_first_build_does_not_start_over(debian: Machine) -> None:
    """Nothing was left behind that could be the reason."""
    (debian.root / "compile").touch()
    assert not debian.setup("--interpreter", "--routes", "4").said("starting over")
    assert steps(debian) == ["fetch", "fetch", "configure", "compile"]


def test_a_build_without_its_modules_is_not_put_in_place(debian: Machine) -> None:
    """configure leaves out silently what it finds no library for."""
    built = (debian.root / "built").read_text()
    (debian.root / "built").write_text(built.replace("case", 'case "$*" in *ssl*) exit 1 ;; esac\ncase', 1))
    answer = debian.setup("--interpreter", "--routes", "4")
    assert answer.said("route 4 (debian)", "failed in publish")
    assert not (debian.cache / PREFIX).exists()


def test_two_setups_build_once(debian: Machine) -> None:
    """The second waits for the first, and then takes what that has built."""
    lock = debian.cache / "build" / "debian-3.13t-1.lock"
    lock.parent.mkdir(parents=True)
    with lock.open("w") as held:
        fcntl.flock(held, fcntl.LOCK_EX)
        with debian.start_setup("--interpreter", "--routes", "4") as second:
            assert second.stderr is not None
            assert "waiting for it" in second.stderr.readline()
            python_of(debian).parent.mkdir(parents=True)
            shutil.copy(debian.root / "built", python_of(debian))
            fcntl.flock(held, fcntl.LOCK_UN)
            assert second.communicate(timeout=60)[0].strip() == str(python_of(debian))
    assert steps(debian) == []


def test_the_machines_own_apt_is_left_alone(debian: Machine) -> None:
    """Every call that fetches runs on the private configuration."""
    debian.setup("--interpreter", "--routes", "4")
    private = f"-c {debian.cache}/build/debian-3.13t-1/apt.conf"
    fetching = [call for call in debian.calls() if call.startswith("apt-get")]
    assert fetching
    assert all(private in call for call in fetching)
