"""Says what an interpreter is: one line of tab-separated fields, read by interpreters.sh.

Runs on whatever calls itself python on the PATH, so it must parse everywhere, Python 2 included.
"""

import os
import sys

try:
    from importlib.util import find_spec
    from sysconfig import get_config_var, get_path

    free_threaded = bool(get_config_var("Py_GIL_DISABLED"))
    headers = os.path.exists(os.path.join(get_path("include"), "Python.h"))
    venv = find_spec("venv") is not None and find_spec("ensurepip") is not None
    name = sys.implementation.name
except ImportError:
    free_threaded = headers = venv = False
    name = "python2"

# The base executable, not sys.executable: `python3.14t` on the PATH may be the one inside our own .venv,
# and a .venv made from itself is destroyed by the first --clear.
executable = getattr(sys, "_base_executable", None) or sys.executable
fields = [
    name,
    "%d.%d.%d" % sys.version_info[:3],
    "free-threaded" if free_threaded else "gil",
    "headers" if headers else "no-headers",
    "venv" if venv else "no-venv",
    executable,
]
print("\t".join(fields))
