"""The make-believe machine as a fixture."""

from pathlib import Path

import pytest
from machine import Machine


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    """A machine with a Rust toolchain and a C compiler, and without any Python."""
    return Machine(tmp_path)
