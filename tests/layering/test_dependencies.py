"""What the runtime and the server may bring along: hyper, but no tokio runtime."""

import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

# tokio is a dependency of hyper's, for its channels. These would bring its scheduler, reactor or timers.
FORBIDDEN = {"rt", "rt-multi-thread", "net", "time", "full"}


CRATES = ("roving-runtime", "roving-http", "roving-python")


def tokio_features(crate: str) -> set[str]:
    """Say which of tokio's features are on in anything a crate is built or tested with."""
    shape = ["--edges", "normal,build,dev", "--prefix", "none", "--format", "{p}\t{f}"]
    tree = subprocess.run(
        ["cargo", "tree", "-p", crate, *shape],
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


@pytest.mark.parametrize("crate", CRATES)
def test_no_tokio_runtime(crate: str) -> None:
    """Nothing of tokio that schedules, polls or times is built."""
    assert not tokio_features(crate) & FORBIDDEN


@pytest.mark.parametrize("crate", CRATES)
def test_the_check_sees_tokio(crate: str) -> None:
    """Hyper brings tokio's channels: without them the check above would look at nothing."""
    assert "sync" in tokio_features(crate)
