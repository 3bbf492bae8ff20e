"""What the runtime may bring along: hyper, but no tokio runtime."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# tokio is a dependency of hyper's, for its channels. These would bring its scheduler, reactor or timers.
FORBIDDEN = {"rt", "rt-multi-thread", "net", "time", "full"}


def tokio_features() -> set[str]:
    """Say which of tokio's features are on in anything the runtime is built or tested with."""
    shape = ["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}\t{f}"]
    tree = subprocess.run(
        ["cargo", "tree", "-p", "roving-runtime", *shape],
        cwd=ROOT,
        check=True,
        capture_output=True,
        text=True,
    ).stdout
    found: set[str] = set()
    for line in tree.splitlines():
        package, _, features = line.partition("\t")
        if package.split()[:1] == ["tokio"]:
            found |= {feature for feature in features.split(",") if feature}
    return found


def test_no_tokio_runtime() -> None:
    """Nothing of tokio that schedules, polls or times is built."""
    assert not tokio_features() & FORBIDDEN


def test_the_check_sees_tokio() -> None:
    """Hyper brings tokio's channels to the tests: without them the check above would look at nothing."""
    assert "sync" in tokio_features()
