"""The programs in docs/TESTING.md are right."""

import re

import child
import pytest

TEXT = (child.ROOT / "docs" / "TESTING.md").read_text()
PROGRAMS = re.findall(r"^```python\n(.*?)^```$", TEXT, re.MULTILINE | re.DOTALL)


def test_there_are_programs() -> None:
    """Another way of writing blocks must not turn the test below into a pass over nothing."""
    assert len(PROGRAMS) == TEXT.count("```python") == 3


@pytest.mark.parametrize("number", range(len(PROGRAMS)))
def test_program(number: int) -> None:
    """Each asserts what the text says."""
    child.check(PROGRAMS[number] + '\nprint("ok")\n')
