"""The interpreter the setup gave us is what it was taken for, and has what roving builds on.

These run on every interpreter there is (`make test-all`), so that a build that lacks something fails here,
with its reason, and not somewhere inside a test of something else.
"""

import importlib
import platform
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
import roving

PROBE = Path(__file__).parents[2] / "scripts" / "lib" / "probe.py"
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def test_the_probe_tells_the_truth() -> None:
    """Above all the base executable: these tests run in an environment, and it is not to be named."""
    answer = subprocess.run([sys.executable, "-I", PROBE], capture_output=True, text=True, check=True).stdout
    name, version, threading, headers, venv, executable = answer.rstrip("\n").split("\t")
    assert (name, headers, venv) == ("cpython", "headers", "venv")
    assert version == platform.python_version()
    assert (threading == "free-threaded") is FREE_THREADED
    base = subprocess.run(
        [executable, "-I", "-c", "import sys; print(sys.prefix)"], capture_output=True, text=True, check=True
    )
    assert base.stdout.rstrip("\n") == sys.base_prefix


@pytest.mark.parametrize("name", ["ctypes", "hashlib", "sqlite3", "ssl", "zlib"])
def test_the_compiled_standard_library_is_there(name: str) -> None:
    """Patched, served or stored through later; a build that missed a library has not got them."""
    importlib.import_module(name)


def test_nothing_here_has_turned_the_gil_on() -> None:
    """On a free-threaded build an extension can do so at import, the ones above and pytest's included."""
    assert sys._is_gil_enabled() is not FREE_THREADED


def test_the_internal_headers_are_there() -> None:
    """The C shim is compiled against them."""
    assert (Path(sysconfig.get_path("include")) / "internal" / "pycore_frame.h").is_file()


def test_names_of_the_package_are_plain() -> None:
    """A module with a `__getattr__` is not specialised for by the interpreter."""
    assert not hasattr(roving, "__getattr__")
