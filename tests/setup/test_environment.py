"""The rest of the setup: toolchain, .venv, doing nothing twice, and taking up what was interrupted."""

import pytest
from machine import Machine

PIP = "python -m pip install --quiet --"


@pytest.fixture
def ready(machine: Machine) -> Machine:
    """A machine with an interpreter."""
    machine.python("python3.14t", "3.14.7", "free-threaded")
    return machine


def work(machine: Machine) -> list[str]:
    """Run the setup, expecting success; give what it did to make the environment, without folders."""
    answer = machine.setup()
    assert answer.code == 0, answer.stderr
    return [call.split(f"{machine.checkout}/")[0].strip() for call in machine.calls() if " -m " in call]


FULL = ["python3.14t -m venv --clear", f"{PIP}upgrade pip>=25.1", f"{PIP}group"]


def test_the_second_time_does_nothing(ready: Machine) -> None:
    """An environment that stands is left alone."""
    assert work(ready) == FULL
    assert work(ready) == []


def test_an_interrupted_environment_is_made_anew(ready: Machine) -> None:
    """Killed before its last act it has no stamp, however whole it looks."""
    work(ready)
    (ready.checkout / ".venv" / "setup.stamp").unlink()
    assert work(ready) == FULL


def test_a_failed_installation_is_tried_again(ready: Machine) -> None:
    """It is reported, and leaves no environment that passes for a finished one."""
    no_network = ready.root / "calls.log.no-network"
    no_network.touch()
    answer = ready.setup()
    assert answer.code == 2
    assert answer.said("error", "could not install the development tools")
    ready.calls()
    no_network.unlink()
    assert work(ready) == FULL


def test_a_broken_environment_is_made_anew(ready: Machine) -> None:
    """As after an upgrade that took the interpreter's libraries away."""
    work(ready)
    (ready.checkout / ".venv" / "bin" / "python").write_text("#!/bin/sh\nexit 1\n")
    assert work(ready) == FULL


def test_changed_pins_and_interpreters_are_followed(ready: Machine) -> None:
    """Everything the environment depends on is in its stamp, and nothing else of pyproject.toml."""
    work(ready)
    with (ready.checkout / "pyproject.toml").open("a") as file:
        file.write('x = "changed"\n')
    assert work(ready) == []
    ready.pin("pytest==2")
    assert work(ready) == FULL
    ready.python("python3.14t", "3.14.8", "free-threaded")
    assert work(ready) == FULL


def test_another_folder_can_be_asked_for(ready: Machine) -> None:
    """One environment an interpreter, for test-all."""
    folder = ready.checkout / ".build" / "venvs" / "x"
    assert ready.setup("--venv", str(folder)).code == 0
    assert (folder / "setup.stamp").exists()
    assert not (ready.checkout / ".venv").exists()


def test_without_rust_it_says_what_to_do(ready: Machine) -> None:
    """The one thing the setup does not install itself."""
    (ready.bin / "cargo").unlink()
    answer = ready.setup()
    assert answer.code == 2
    assert answer.said("no Rust toolchain", "1.89", "rustup")


@pytest.mark.parametrize(
    ("version", "enough"),
    [
        ("1.88.9", False),
        ("1.9.0", False),
        ("0.200.0", False),
        ("1.89.0", True),
        ("1.100.0", True),
        ("2.0.0", True),
    ],
)
def test_the_age_of_rust_is_compared_by_number(ready: Machine, version: str, enough: bool) -> None:
    """1.100 is newer than 1.89."""
    ready.program("cargo", f"echo 'cargo {version}-nightly (abc)'")
    assert (ready.setup("--toolchain").code == 0) is enough


def test_without_a_compiler_the_package_is_named(ready: Machine) -> None:
    """Where it cannot be installed: no apt here."""
    (ready.bin / "cc").unlink()
    answer = ready.setup("--toolchain")
    assert answer.code == 2
    assert answer.said("no C compiler", "gcc", "libc6-dev")


def test_root_on_debian_gets_a_compiler(ready: Machine) -> None:
    """With an update of the package lists in between when they are too old."""
    (ready.bin / "cc").unlink()
    (ready.bin / "id").unlink()
    ready.program("id", "echo 0")
    updated = ready.root / "updated"
    ready.program(
        "apt-get",
        f'case "$*" in *update) : >"{updated}" ;;\n'
        f'*install*) [ -e "{updated}" ] && cp "{ready.bin}/cargo" "{ready.bin}/cc" ;; esac',
    )
    assert ready.setup("--toolchain").code == 0
    assert [call.split()[-1] for call in ready.calls() if call.startswith("apt-get")] == [
        "libc6-dev",
        "update",
        "libc6-dev",
    ]
