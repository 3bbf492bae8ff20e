"""A parallel computation: the words of many texts counted, in fibers and beside that in a pool of processes.

usage: word_count.py [TEXTS]

The fibers share the texts, and their results are taken as they are; to and from the processes everything is
pickled.
"""

import os
import random
import subprocess
import sys
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import roving

WORDS = 80_000


def texts(many: int) -> list[str]:
    """Make up texts, always the same ones."""
    chance = random.Random(7)
    known = ["".join(chance.choices("etaoinshrdlu", k=chance.randint(2, 9))) for _ in range(5_000)]
    weights = [1 / (rank + 1) for rank in range(len(known))]
    return [" ".join(chance.choices(known, weights, k=WORDS)) + "." for _ in range(many)]


def count(text: str) -> Counter[str]:
    """Count the words of a text."""
    return Counter(word.strip(".,").lower() for word in text.split())


def in_fibers(data: list[str]) -> Counter[str]:
    """Count in fibers."""
    total: Counter[str] = Counter()
    for counts in roving.map(count, data):
        total.update(counts)
    return total


def in_processes(data: list[str]) -> Counter[str]:
    """Count in processes, as many as there are cores."""
    total: Counter[str] = Counter()
    with ProcessPoolExecutor(len(os.sched_getaffinity(0))) as pool:
        for counts in pool.map(count, data):
            total.update(counts)
        report_memory()  # while the processes are there
    return total


def report_memory() -> None:
    """Print the memory of this process and its children; pages that several share are counted once."""
    total = 0
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            parent = int((folder / "stat").read_text().rsplit(")", 1)[1].split()[1])
            if int(folder.name) == os.getpid() or is_ours(parent):
                rollup = (folder / "smaps_rollup").read_text()
                total += next(int(line.split()[1]) for line in rollup.splitlines() if line.startswith("Pss:"))
        except (OSError, StopIteration):
            continue  # it has ended meanwhile, or is not ours to look at
    print(f"{total / 1024:.0f} MiB in memory", end=", ")


def is_ours(pid: int) -> bool:
    """Tell whether a process is this one or descends from it."""
    while pid > 1 and pid != os.getpid():
        pid = int(Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[1])
    return pid == os.getpid()


def measure(way: str, many: int) -> None:
    """Count in one way, and say what it took."""
    data = texts(many)
    start = time.perf_counter()
    if way == "processes":
        total = in_processes(data)
    elif way == "fibers":
        total = in_fibers(data)
        report_memory()
    else:
        total = Counter()
        for text in data:
            total.update(count(text))
        report_memory()
    seconds = time.perf_counter() - start
    word, times = total.most_common(1)[0]
    print(f"{seconds:.2f} s; {total.total():,} words, most often {word!r}, {times:,} times")


def main() -> None:
    """Count in each way, in a fresh process so that none inherits another's memory."""
    many = int(sys.argv[1]) if len(sys.argv) > 1 else 64
    if len(sys.argv) > 2:
        measure(sys.argv[2], many)
        return
    for way in ("loop", "fibers", "processes"):
        print(f"{way:>9}: ", end="", flush=True)
        subprocess.run([sys.executable, __file__, str(many), way], check=True)


if __name__ == "__main__":
    main()
