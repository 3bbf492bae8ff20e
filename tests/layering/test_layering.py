"""The repository keeps to the layering table of its design: lower rooms never import higher ones."""

import tomllib
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rules

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime"
HTTP = ROOT / "http"
PYBIND = ROOT / "pybind"
STORE = ROOT / "store"

# Files longer than rules.LONGEST_FILE, each with its reason.
ALLOWED_LENGTH: dict[str, str] = {}
FOLDERS = ("benches", "examples", "http", "pybind", "runtime", "scripts", "store", "tests")


def fail_on(violations: Iterator[str]) -> None:
    """Fail with every violation, one a line."""
    found = [line.replace(f"{ROOT}/", "") for line in violations]
    if found:
        pytest.fail("\n".join(found), pytrace=False)


def test_there_is_something_to_check() -> None:
    """A moved source folder must not turn every check below into a pass over nothing."""
    assert {file.relative_to(RUNTIME / "src").parts[0] for file in rules.rust_files(RUNTIME / "src")} >= {
        "lib.rs",
        "loom",
        "context",
        "stack",
    }


@pytest.mark.parametrize("rule", [rules.room_violations, rules.owner_violations, rules.smuggling_violations])
def test_rooms(rule: Callable[[Path], Iterator[str]]) -> None:
    """Each room of the runtime names only lower rooms, and dangerous crates have one importer."""
    fail_on(rule(RUNTIME / "src"))


@pytest.mark.parametrize("crate", [RUNTIME, HTTP, STORE], ids=lambda crate: crate.name)
def test_it_knows_no_python(crate: Path) -> None:
    """The core, HTTP and the job store stay usable, testable and understandable without an interpreter."""
    assert rules.rust_files(crate / "src")
    fail_on(rules.python_violations(crate))


def test_the_store_knows_no_fibers() -> None:
    """Whoever calls it says how to wait: `Done`."""
    manifest = tomllib.loads((STORE / "Cargo.toml").read_text())
    assert not {"roving-runtime", "roving-python"} & {
        *manifest["dependencies"],
        *manifest.get("dev-dependencies", {}),
    }


def test_hyper_has_two_users() -> None:
    """The runtime lends it streams and timers, the HTTP crate knows the protocol."""
    allowed = (RUNTIME / "src" / "runtime" / "hyper.rs",)
    found = list(rules.name_violations(RUNTIME / "src", "hyper", allowed))
    found += rules.name_violations(PYBIND / "src", "hyper", ())
    assert list(rules.name_violations(HTTP / "src", "hyper", ()))
    fail_on(iter(found))


@pytest.mark.parametrize("crate", [RUNTIME, HTTP])
def test_it_reads_no_wall_clock(crate: Path) -> None:
    """Somebody who sets the time of day changes no timeout, timer or turn."""
    fail_on(rules.wall_clock_violations(crate / "src"))


@pytest.mark.parametrize("crate", [RUNTIME, HTTP, STORE], ids=lambda crate: crate.name)
def test_lib_holds_no_logic(crate: Path) -> None:
    """lib.rs is the map of the rooms, and only that."""
    fail_on(rules.lib_violations(crate / "src" / "lib.rs"))


def test_files_are_short() -> None:
    """A file above the limit is split by noun, or says why not."""
    fail_on(rules.length_violations(ROOT, FOLDERS, ALLOWED_LENGTH))
