"""The micro benches under criterion: run, and its estimates read back."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path


@dataclass
class Estimate:
    """A median with its 95% confidence interval, in nanoseconds."""

    bench: str
    workers: int
    peer: str
    median: float
    low: float
    high: float


def run(repository: Path, target: Path, workers: int, cpus: list[int], limit: float) -> list[Estimate]:
    """Run the micro benches with so many workers and return what criterion estimates."""
    home = target / "criterion"
    environment = os.environ | {"ROVING_BENCH_WORKERS": str(workers), "CRITERION_HOME": str(home)}
    command = ["cargo", "bench", "-p", "roving-benches", "--bench", "micro", "--", "--noplot"]
    try:
        subprocess.run(
            command,
            cwd=repository,
            env=environment,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            timeout=limit,
            check=True,
            # Safe: this program has one thread.
            preexec_fn=lambda: os.sched_setaffinity(0, cpus),
        )
    except (OSError, subprocess.SubprocessError) as error:
        print(f"criterion: skipped, {error}", file=sys.stderr)
        return []
    estimates = []
    for file in sorted(home.glob(f"*_{workers}w/*/new/estimates.json")):
        median = json.loads(file.read_text())["median"]
        interval = median["confidence_interval"]
        bench, peer = file.parts[-4].removesuffix(f"_{workers}w"), file.parts[-3]
        low, high = interval["lower_bound"], interval["upper_bound"]
        estimates.append(Estimate(bench, workers, peer, median["point_estimate"], low, high))
    return estimates
