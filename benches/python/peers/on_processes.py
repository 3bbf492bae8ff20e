"""multiprocessing.Pool, with as many processes as there are workers, started before the clock is."""

import multiprocessing
import os
from collections.abc import Callable
from functools import cache
from multiprocessing.pool import Pool
from time import perf_counter as clock

import catalogue
from work import fib, merge, nothing, texts, words


@cache
def pool() -> Pool:
    """Start the pool when first asked: not in the processes that import this."""
    return multiprocessing.Pool(int(os.environ["ROVING_WORKERS"]))


def close() -> None:
    """End the processes."""
    if pool.cache_info().currsize:
        pool().terminate()
        pool().join()


def spawn_join(n: int) -> float:
    """One at a time."""
    apply = pool().apply
    start = clock()
    for _ in range(n):
        apply(nothing)
    return clock() - start


def spawn_batch(n: int) -> float:
    """Many, then joined."""
    apply = pool().apply_async
    start = clock()
    for _ in range(n // catalogue.BATCH or 1):
        for result in [apply(nothing) for _ in range(catalogue.BATCH)]:
            result.get()
    return clock() - start


def cpu(n: int) -> float:
    """Computation alone."""
    run = pool().map
    start = clock()
    for _ in range(n):
        run(fib, [catalogue.FIB] * 64)
    return clock() - start


def count_words(n: int) -> float:
    """Data go in and come out, pickled both ways."""
    data, run = texts(), pool().map
    start = clock()
    for _ in range(n):
        counts = run(words, data)
        merge(counts[0], counts[1:])
    return clock() - start


BENCHES: dict[str, Callable[[int], float]] = {
    "spawn_join": spawn_join,
    "spawn_batch": spawn_batch,
    "spawn_batch_main": spawn_batch,
    "cpu": cpu,
    "words": count_words,
}
