"""The stubs say what the extension module has."""

import os
import subprocess
import sys


def test_stubs() -> None:
    """Names, parameters, kinds; mypy's own test of stubs."""
    done = subprocess.run(
        [sys.executable, "-m", "mypy.stubtest", "roving._roving", "--concise"],
        capture_output=True,
        text=True,
        check=False,
        # Away from the settings of this repository, where the sources stand beside what was installed.
        cwd=os.path.dirname(sys.executable),
    )
    assert done.returncode == 0, done.stdout + done.stderr
