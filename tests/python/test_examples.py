"""The examples run, small, in processes of their own."""

import re
import subprocess
import sys

import child
import pytest

EXAMPLES = child.ROOT / "examples" / "python"
# What each is asked to do, and what it then says.
SMALL = {
    "fan_out": ("300", "300 calls"),
    "word_count": ("4", "320,000 words"),
    "pipeline": ("2000", "2,000 requests for 10 paths, 20 errors"),
    "shared_index": ("300", "300 documents"),
}


def test_every_example_is_here() -> None:
    """An example that nobody runs would rot."""
    # A site runs in test_serve_tasks.
    assert {file.stem for file in EXAMPLES.glob("*.py")} == {*SMALL, "words_site"}


@pytest.mark.parametrize("name", SMALL)
def test_example(name: str) -> None:
    """It ends well and says what it is to say."""
    argument, said = SMALL[name]
    done = subprocess.run(
        [sys.executable, "-W", "error", str(EXAMPLES / f"{name}.py"), argument],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert said in done.stdout
    # A machine that is busy may make any call look as if it blocked; that is said with the places below it.
    said_else = re.sub(r"^a call in .*\n(  .*\n)*", "", done.stderr, flags=re.M)
    assert not said_else


def test_the_readme() -> None:
    """The program that everybody reads first does what it says."""
    (program,) = re.findall(r"^```python\n(.*?)^```$", (child.ROOT / "README.md").read_text(), re.M | re.S)
    done = child.run(program)
    assert (done.returncode, done.stdout, done.stderr) == (0, "10000 333283335000\n", "")
