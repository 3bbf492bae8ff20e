"""What the runtime may bring along: hyper, but no tokio runtime."""

import subprocess
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]

# tokio is a dependency of hyper's for its channels. These features would bring its scheduler, reactor or timers.
FORBIDDEN = {"rt", "rt-multi-thread", "net", "time", "full"}


def tokio_features(edges: str) -> set[str]:
    tree = subprocess.run(
        ["cargo", "tree", "-p", "roving-runtime", "--edges", edges, "--prefix", "none", "--format", "{p}\t{f}"],
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
    assert not tokio_features("normal,build,dev") & FORBIDDEN


def test_the_check_sees_tokio() -> None:
    # hyper as the tests use it brings tokio's channels: if this fails, the check above looks at nothing.
    assert "sync" in tokio_features("normal,build,dev")
