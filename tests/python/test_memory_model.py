"""The programs in docs/MEMORY_MODEL.md are right."""

import re
import subprocess
import sys

import child
import pytest

TEXT = (child.ROOT / "docs" / "MEMORY_MODEL.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_there_are_programs() -> None:
    """Another way of writing blocks must not turn the test below into a pass over nothing."""
    assert len(PROGRAMS) == TEXT.count("```python") >= 5


@pytest.mark.parametrize("workers", [1, 4])
@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program(number: int, workers: int) -> None:
    """Each asserts what the text says, on one worker and on several."""
    done = child.run(PROGRAMS[number], workers=workers)
    assert done.returncode == 0, PROGRAMS[number] + done.stderr
    assert not done.stderr


def test_a_wrong_program_fails() -> None:
    """The asserts in the programs are looked at."""
    wrong = PROGRAMS[0].replace("is rows[number]", "is not rows[number]")
    assert wrong != PROGRAMS[0]
    done = subprocess.run([sys.executable, "-c", wrong], capture_output=True, check=False)
    assert b"AssertionError" in done.stderr
