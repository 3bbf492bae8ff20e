"""A make-believe machine for scripts/setup: a PATH of a few true tools and of stubs, a home, an apt folder.

Nothing of the machine the tests run on shows through: no interpreter, no uv, no apt. A stub interpreter
answers the probe with what the test says it is, makes an environment by copying itself, and writes down its
calls.
"""

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

REPOSITORY = Path(__file__).parents[2]

# Everything of a bare Debian that scripts/setup may rely on before it has found a Python.
# fmt: off
TOOLS = (
    "awk", "bash", "cat", "cp", "dirname", "env", "flock", "grep", "gzip", "id", "mkdir", "mv", "nproc", "rm",
    "sed", "sh", "tail", "tar", "timeout",
)
# fmt: on

_STUB = """#!/bin/sh
echo "$0 $*" >>"{log}"
case "$*" in
    *probe.py) printf '{name}\\t{version}\\t{threading}\\t{headers}\\t{venv}\\t{executable}\\n' ;;
    '-m venv --clear '*)
        rm -rf "$4" && mkdir -p "$4/bin" && cp "$0" "$4/bin/python" ;;
    '-m pip '*) [ ! -e "{log}.no-network" ] ;;
esac
"""


@dataclass(frozen=True)
class Answer:
    """What a run of scripts/setup said."""

    code: int
    stdout: str
    stderr: str

    @property
    def lines(self) -> list[str]:
        """The lines meant for a person."""
        return self.stderr.splitlines()

    def said(self, *parts: str) -> bool:
        """Tell whether one line holds all the parts."""
        return any(all(part in line for part in parts) for line in self.lines)


class Machine:
    """A machine below one folder."""

    def __init__(self, root: Path) -> None:
        """Lay out the folders, and copy scripts/ beside a pyproject.toml and a Cargo.toml of its own."""
        self.root = root
        self.bin = root / "bin"
        self.home = root / "home"
        self.cache = self.home / ".cache" / "roving"
        self.checkout = root / "checkout"
        self.log = root / "calls.log"
        self.environment: dict[str, str] = {}
        self.home.mkdir()
        self.bin.mkdir()
        self.log.touch()
        for tool in TOOLS:
            found = shutil.which(tool)
            assert found is not None, f"the tests of the setup need {tool}"
            (self.bin / tool).symlink_to(found)
        shutil.copytree(REPOSITORY / "scripts", self.checkout / "scripts")
        (self.checkout / "Cargo.toml").write_text('rust-version = "1.89"\n')
        self.pin("pytest==1")
        self.program("cargo", "echo 'cargo 1.95.0 (abc 2026-01-01)'")
        self.program("cc", "")

    def pin(self, requirement: str) -> None:
        """Set the development tools the checkout asks for."""
        (self.checkout / "pyproject.toml").write_text(
            f'[dependency-groups]\ndev = ["{requirement}"]\n[tool]\n'
        )

    def program(self, name: str, body: str) -> Path:
        """Put a shell script on the PATH, or at an absolute path."""
        file = self.bin / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(f'#!/bin/sh\necho "$0 $*" >>"{self.log}"\n{body}\n')
        file.chmod(0o755)
        return file

    def python(self, place: str | Path, version: str, threading: str = "gil", **fields: str) -> Path:
        """Put a stub interpreter on the PATH, or at an absolute path."""
        file = self.bin / place
        file.parent.mkdir(parents=True, exist_ok=True)
        values = {"name": "cpython", "headers": "headers", "venv": "venv", "executable": str(file)} | fields
        file.write_text(_STUB.format(log=self.log, version=version, threading=threading, **values))
        file.chmod(0o755)
        return file

    def apt(self, sources: str) -> None:
        """Give the machine an apt that has sources and every package, and can fetch nothing."""
        folder = self.root / "apt"
        (folder / "sources.list.d").mkdir(parents=True)
        (folder / "sources.list").write_text(sources)
        self.program("apt-get", "echo 'E: no network' >&2; exit 100")
        self.program("apt-config", f"echo \"folder='{folder}/'\"")
        self.program(
            "dpkg-query", 'shift 3; for package in "$@"; do echo "$package install ok installed"; done'
        )

    def setup(self, *arguments: str, **environment: str) -> Answer:
        """Run scripts/setup there."""
        process = self.start_setup(*arguments, **environment)
        stdout, stderr = process.communicate(timeout=60)
        return Answer(process.returncode, stdout, stderr)

    def start_setup(self, *arguments: str, **environment: str) -> subprocess.Popen[str]:
        """Start scripts/setup there, and do not wait for it."""
        return subprocess.Popen(
            [self.checkout / "scripts" / "setup", *arguments],
            env={"PATH": str(self.bin), "HOME": str(self.home), **environment},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )

    def calls(self) -> list[str]:
        """Give the calls of stubs since the last time this was asked, by the stubs' names."""
        lines = self.log.read_text().splitlines()
        os.truncate(self.log, 0)
        return [line.rpartition("/bin/")[2] for line in lines if not line.endswith("probe.py")]
