"""What there is to know about the machine and the programs, so that figures can be compared later."""

import os
import platform
import re
import subprocess
import time
from pathlib import Path


def run(*command: str) -> str | None:
    """Return the first line a command prints, or None when there is no such command."""
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    lines = done.stdout.strip().splitlines()
    return lines[0] if lines else ""


def cpu_model() -> str:
    """Return what the processor calls itself."""
    found = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    return found[1] if found else platform.machine()


def stolen_ticks() -> int:
    """Ticks that the hypervisor kept to itself so far: while they grow, figures are worth little."""
    return int(Path("/proc/stat").read_text().splitlines()[0].split()[8])


def versions(repository: Path) -> dict[str, str]:
    """Return the versions of everything that is measured."""
    lock = (repository / "Cargo.lock").read_text()
    crates = dict(re.findall(r'^name = "([^"]+)"\nversion = "([^"]+)"', lock, re.MULTILINE))
    found = {name: crates[name] for name in ("tokio", "may", "criterion") if name in crates}
    commit = run("git", "-C", str(repository), "rev-parse", "--short", "HEAD")
    if commit is not None:
        changed = run("git", "-C", str(repository), "status", "--porcelain", "--", "runtime")
        found["roving"] = commit + (" with changes" if changed else "")
    for name, command in {"rustc": ("rustc", "--version"), "go": ("go", "version")}.items():
        version = run(*command)
        if version is not None:
            found[name] = version.removeprefix(name + " ").removeprefix("version ")
    return found


def gather(repository: Path, workers: int) -> dict[str, object]:
    """Return all the facts."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S %z"),
        "cpu": cpu_model(),
        "cores": len(os.sched_getaffinity(0)),
        "workers": workers,
        "kernel": platform.release(),
        "load": [round(load, 2) for load in os.getloadavg()],
        "nice": os.getpriority(os.PRIO_PROCESS, 0),
        "versions": versions(repository),
    }
