"""The repository keeps to the layering table of its design: lower rooms never import higher ones."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import rules

ROOT = Path(__file__).parents[2]
RUNTIME = ROOT / "runtime"

# Files longer than rules.LONGEST_FILE, each with its reason.
ALLOWED_LENGTH: dict[str, str] = {}
FOLDERS = ("benches", "examples", "pybind", "runtime", "scripts", "tests")


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


def test_the_runtime_knows_no_python() -> None:
    """The core stays usable, testable and understandable without an interpreter."""
    fail_on(rules.python_violations(RUNTIME))


def test_the_runtime_reads_no_wall_clock() -> None:
    """Somebody who sets the time of day changes no timeout, timer or turn."""
    fail_on(rules.wall_clock_violations(RUNTIME / "src"))


def test_lib_holds_no_logic() -> None:
    """lib.rs is the map of the rooms, and only that."""
    fail_on(rules.lib_violations(RUNTIME / "src" / "lib.rs"))


def test_files_are_short() -> None:
    """A file above the limit is split by noun, or says why not."""
    fail_on(rules.length_violations(ROOT, FOLDERS, ALLOWED_LENGTH))
