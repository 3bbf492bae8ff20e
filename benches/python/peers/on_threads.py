"""threading: an OS thread for everything that is a fiber elsewhere."""

import os
import queue
import threading
from collections.abc import Callable
from time import perf_counter as clock
from time import sleep
from typing import Any

import catalogue
from work import fib, merge, nothing, texts, words

Bench = Callable[[int], float]


def each(function: Callable[..., None], *rows: tuple[Any, ...]) -> float:
    """Call it in a thread for each row of arguments, and time the whole."""
    start = clock()
    threads = [threading.Thread(target=function, args=row) for row in rows]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return clock() - start


def spawn_join(n: int) -> float:
    """One at a time."""
    start = clock()
    for _ in range(n):
        thread = threading.Thread(target=nothing)
        thread.start()
        thread.join()
    return clock() - start


def spawn_batch(n: int) -> float:
    """Many, then joined."""
    return sum(each(nothing, *[()] * catalogue.BATCH) for _ in range(n // catalogue.BATCH or 1))


def turns(n: int) -> None:
    """Give the core to another thread n times."""
    for _ in range(n):
        os.sched_yield()


def channel(capacity: int) -> Bench:
    """One thread puts, another gets."""

    def send(to: Any, n: int) -> None:
        for item in range(n):
            to.put(item)

    def bench(n: int) -> float:
        pipe: Any = queue.Queue(capacity)
        sender = threading.Thread(target=send, args=(pipe, n))
        sender.start()
        start = clock()
        for _ in range(n):
            pipe.get()
        sender.join()
        return clock() - start

    return bench


def alone(n: int) -> float:
    """Nobody else wants it."""
    lock = threading.Lock()
    start = clock()
    for _ in range(n):
        with lock:
            pass
    return clock() - start


class Count:
    """What the rivals count."""

    value = 0


def rivals(n: int) -> float:
    """Each counts under the lock."""
    lock, count = threading.Lock(), Count()

    def rival(n: int) -> None:
        for _ in range(n):
            with lock:
                count.value += 1

    return each(rival, *[(n // catalogue.RIVALS or 1,)] * catalogue.RIVALS)


def handed_on(n: int) -> float:
    """Each yields while it has the lock."""
    lock, yield_now = threading.Lock(), os.sched_yield

    def rival(n: int) -> None:
        for _ in range(n):
            with lock:
                yield_now()

    return each(rival, *[(n // catalogue.RIVALS or 1,)] * catalogue.RIVALS)


def by_hand(function: Callable[[Any], Any], items: list[Any]) -> list[Any]:
    """Call it for each item in a thread of its own."""
    results: list[Any] = [None] * len(items)

    def call(number: int) -> None:
        results[number] = function(items[number])

    each(call, *[(number,) for number in range(len(items))])
    return results


def cpu(n: int) -> float:
    """Computation alone."""
    start = clock()
    for _ in range(n):
        by_hand(fib, [catalogue.FIB] * 64)
    return clock() - start


def count_words(n: int) -> float:
    """Data go in and come out."""
    data = texts()
    start = clock()
    for _ in range(n):
        counts = by_hand(words, data)
        merge(counts[0], counts[1:])
    return clock() - start


BENCHES: dict[str, Bench] = {
    "spawn_join": spawn_join,
    "spawn_batch": spawn_batch,
    "spawn_batch_main": spawn_batch,
    "yield": lambda n: each(turns, (n // 2,), (n // 2,)),
    "channel": channel(1),
    "channel_buffered": channel(catalogue.BUFFER),
    "lock": alone,
    "thread_lock": alone,
    "lock_rivals": rivals,
    "lock_handed_on": handed_on,
    "sleepers": lambda n: each(sleep, *[(catalogue.SLEEP,)] * n),
    "cpu": cpu,
    "words": count_words,
}


def park(n: int) -> object:
    """Park threads three calls deep."""
    gate = threading.Event()
    parked = threading.Semaphore(0)

    def outer() -> None:
        middle()

    def middle() -> None:
        inner()

    def inner() -> None:
        parked.release()
        gate.wait()

    threads = [threading.Thread(target=outer, daemon=True) for _ in range(n)]
    for thread in threads:
        thread.start()
    for _ in range(n):
        parked.acquire()
    return threads
