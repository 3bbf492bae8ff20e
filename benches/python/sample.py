"""One peer: answers each line it reads, the name of a bench, with a sample as a line of JSON."""

import argparse
import gc
import importlib
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import catalogue


def memory() -> int:
    """Bytes this process has in memory, and its page tables."""
    wanted = {"VmRSS", "VmPTE"}
    lines = (line.split() for line in Path("/proc/self/status").read_text().splitlines())
    return sum(1024 * int(fields[1]) for fields in lines if fields and fields[0].rstrip(":") in wanted)


def about(peer: Any) -> dict[str, Any]:
    """What this is, for the head of the report."""
    enabled = getattr(sys, "_is_gil_enabled", lambda: True)
    return {
        "python": platform.python_version() + ("" if enabled() else ", free-threaded"),
        "gil": enabled(),
        "benches": [*peer.BENCHES, *(["memory"] if hasattr(peer, "park") else [])],
    }


def parked(peer: Any, many: int) -> dict[str, float]:
    """Park so many, and see what each takes."""
    kept = [peer.park(10)]
    gc.collect()
    before, start = memory(), time.perf_counter()
    kept.append(peer.park(many))
    took = time.perf_counter() - start
    gc.collect()
    return {"bytes": (memory() - before) / many, "ns": took / many * 1e9}


class Samples:
    """Knows how many operations of each bench make a sample."""

    def __init__(self, peer: Any, length: float) -> None:
        """Take samples of `length` seconds."""
        self.peer = peer
        self.length = length
        self.operations: dict[str, int] = {}

    def take(self, name: str) -> dict[str, float]:
        """Take one."""
        if name not in self.operations:
            self.operations[name] = self.calibrated(name)
        operations = self.operations[name]
        gc.collect()
        return {"ns": self.peer.BENCHES[name](operations) / operations * 1e9, "ops": operations}

    def calibrated(self, name: str) -> int:
        """Find how many operations take `length` seconds; warm up on the way."""
        bench = catalogue.BENCHES[name]
        if bench.fixed is not None:
            return bench.fixed
        # What is done by the batch is counted by the batch.
        least = catalogue.BATCH if "batch" in name else 1 if bench.workers == "scale" else catalogue.RIVALS
        operations = least
        while True:
            # Twice, so that one moment's delay does not pass for work.
            took = min(self.peer.BENCHES[name](operations) for _ in range(2))
            if took >= self.length / 4:
                break
            operations *= 4
        return max(least, int(operations * self.length / took) // least * least)


def main() -> None:
    """Answer until there is no more to read."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer")
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument("--length", type=float, default=100, help="milliseconds a sample takes")
    options = parser.parse_args()
    os.environ["ROVING_WORKERS"] = str(options.workers)
    peer = importlib.import_module(f"peers.on_{options.peer}")
    samples = Samples(peer, options.length / 1000)
    for line in sys.stdin:
        name, *arguments = line.split()
        if name == "about":
            answer: dict[str, Any] = about(peer)
        elif name == "memory":
            answer = parked(peer, int(arguments[0]))
        else:
            answer = samples.take(name)
        print(json.dumps(answer), flush=True)
    getattr(peer, "close", lambda: None)()
    # What is parked stays parked.
    os._exit(0)


if __name__ == "__main__":
    main()
