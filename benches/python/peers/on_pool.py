"""concurrent.futures.ThreadPoolExecutor, with as many threads as there are workers."""

import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from time import perf_counter as clock
from time import sleep

import catalogue
from work import fib, merge, nothing, texts, words

POOL = ThreadPoolExecutor(int(os.environ["ROVING_WORKERS"]))
# For what sleeps a pool has to be larger: this many, as a server might have.
WIDE = 1_000


def spawn_join(n: int) -> float:
    """One at a time."""
    start = clock()
    for _ in range(n):
        POOL.submit(nothing).result()
    return clock() - start


def spawn_batch(n: int) -> float:
    """Many, then joined."""
    start = clock()
    for _ in range(n // catalogue.BATCH or 1):
        for future in [POOL.submit(nothing) for _ in range(catalogue.BATCH)]:
            future.result()
    return clock() - start


def sleepers(n: int) -> float:
    """A thousand at once."""
    start = clock()
    with ThreadPoolExecutor(WIDE) as pool:
        for future in [pool.submit(sleep, catalogue.SLEEP) for _ in range(n)]:
            future.result()
    return clock() - start


def cpu(n: int) -> float:
    """Computation alone."""
    start = clock()
    for _ in range(n):
        list(POOL.map(fib, [catalogue.FIB] * 64))
    return clock() - start


def count_words(n: int) -> float:
    """Data go in and come out."""
    data = texts()
    start = clock()
    for _ in range(n):
        counts = list(POOL.map(words, data))
        merge(counts[0], counts[1:])
    return clock() - start


BENCHES: dict[str, Callable[[int], float]] = {
    "spawn_join": spawn_join,
    "spawn_batch": spawn_batch,
    "spawn_batch_main": spawn_batch,
    "sleepers": sleepers,
    "cpu": cpu,
    "words": count_words,
}
