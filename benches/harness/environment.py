"""The environment that Python's benches run in: one for each interpreter, with roving and the peers."""

import json
import re
import subprocess
import sys
from pathlib import Path

_FACTS = """
import json, platform, sys, sysconfig
print(json.dumps({
    "base": sys._base_executable,
    "tag": sysconfig.get_config_var("SOABI"),
    "free_threaded": bool(sysconfig.get_config_var("Py_GIL_DISABLED")),
    "version": platform.python_version(),
    "compiler": platform.python_compiler(),
}))
"""


class Environment:
    """A virtual environment, and why what is missing in it is."""

    def __init__(self, repository: Path, python: Path) -> None:
        """Prepare an environment of this interpreter's."""
        known = json.loads(_output([str(python), "-I", "-c", _FACTS]))
        self.repository = repository
        self.base = str(known["base"])
        self.free_threaded = bool(known["free_threaded"])
        kind = "free-threaded" if self.free_threaded else "with the GIL"
        self.interpreter = f"CPython {known['version']}, {kind} ({known['compiler']})"
        self.folder = repository / ".build" / "bench" / str(known["tag"])
        self.python = self.folder / "bin" / "python"
        self.missing: dict[str, str] = {}
        self.versions: dict[str, str] = {}

    def prepare(self) -> None:
        """Make it, build roving into it, install the peers that are to be had."""
        if not self.python.exists():
            subprocess.run([self.base, "-m", "venv", str(self.folder)], check=True)
        builder = str(self.repository / "scripts" / "build-python")
        subprocess.run([builder, str(self.python)], check=True, stdout=sys.stderr)
        wanted = (self.repository / "benches" / "python" / "requirements.txt").read_text()
        for name, version in re.findall(r"^([\w-]+)==(\S+)$", wanted, re.MULTILINE):
            if name == "gevent" and self.free_threaded:
                self.missing[name] = "importing it on a free-threaded build switches the GIL on"
            elif self._install(name, version):
                self.versions[name] = version
            else:
                self.missing[name] = f"{name} {version} cannot be installed on this interpreter"

    def _install(self, name: str, version: str) -> bool:
        """Install a distribution; wheels only, since building one can take long."""
        asked = f"import importlib.metadata as m; assert m.version({name!r}) == {version!r}"
        if subprocess.run([self.python, "-I", "-c", asked], stderr=subprocess.DEVNULL).returncode == 0:
            return True
        print(f"installing {name}", file=sys.stderr, flush=True)
        command = [
            self.python,
            "-m",
            "pip",
            "install",
            "--quiet",
            "--only-binary=:all:",
            f"{name}=={version}",
        ]
        try:
            return subprocess.run(command, stdout=sys.stderr, timeout=300).returncode == 0
        except subprocess.TimeoutExpired:
            return False


def _output(command: list[str]) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
