"""roving: the benches run in a fiber, unless their name ends in main."""

import threading
from collections.abc import Callable
from time import perf_counter as clock
from typing import Any

import catalogue
import roving
from work import fib, merge, nothing, texts, words

Bench = Callable[[int], float]


def in_fiber(bench: Bench) -> Bench:
    """Run a bench in a fiber."""
    return lambda n: roving.spawn(bench, n).join()


def both(function: Callable[..., None], *rows: tuple[Any, ...]) -> float:
    """Call it in a fiber for each row of arguments, and time the whole."""
    start = clock()
    for fiber in [roving.spawn(function, *row) for row in rows]:
        fiber.join()
    return clock() - start


@in_fiber
def spawn_join(n: int) -> float:
    """One at a time."""
    spawn = roving.spawn
    start = clock()
    for _ in range(n):
        spawn(nothing).join()
    return clock() - start


def spawn_batch(n: int) -> float:
    """Many, then joined."""
    spawn = roving.spawn
    start = clock()
    for _ in range(n // catalogue.BATCH or 1):
        for fiber in [spawn(nothing) for _ in range(catalogue.BATCH)]:
            fiber.join()
    return clock() - start


def turns(n: int) -> None:
    """Yield n times."""
    yield_now = roving.yield_now
    for _ in range(n):
        yield_now()


def channel(capacity: int) -> Bench:
    """One fiber sends, another receives."""

    def send(to: Any, n: int) -> None:
        for item in range(n):
            to.send(item)

    def receive(source: Any, n: int) -> None:
        for _ in range(n):
            source.recv()

    def bench(n: int) -> float:
        pipe: roving.Channel[int] = roving.Channel(capacity)
        sender = roving.spawn(send, pipe, n)
        start = clock()
        receive(pipe, n)
        sender.join()
        return clock() - start

    return in_fiber(bench)


def alone(lock: Any, n: int) -> float:
    """Nobody else wants it."""
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
    lock, count = roving.Lock(), Count()

    def rival(n: int) -> None:
        for _ in range(n):
            with lock:
                count.value += 1

    each = n // catalogue.RIVALS or 1
    took = both(rival, *[(each,)] * catalogue.RIVALS)
    assert count.value == catalogue.RIVALS * each
    return took


def handed_on(n: int) -> float:
    """Each yields while it has the lock."""
    lock, yield_now = roving.Lock(), roving.yield_now

    def rival(n: int) -> None:
        for _ in range(n):
            with lock:
                yield_now()

    return both(rival, *[(n // catalogue.RIVALS or 1,)] * catalogue.RIVALS)


def sleepers(n: int) -> float:
    """All at once."""
    return both(roving.sleep, *[(catalogue.SLEEP,)] * n)


def cpu(n: int) -> float:
    """Computation alone."""
    start = clock()
    for _ in range(n):
        for fiber in [roving.spawn(fib, catalogue.FIB) for _ in range(64)]:
            fiber.join()
    return clock() - start


def count_words(n: int) -> float:
    """Data go in and come out."""
    data = texts()
    start = clock()
    for _ in range(n):
        fibers = [roving.spawn(words, text) for text in data]
        merge(fibers[0].join(), [fiber.join() for fiber in fibers[1:]])
    return clock() - start


BENCHES: dict[str, Bench] = {
    "spawn_join": spawn_join,
    "spawn_batch": in_fiber(spawn_batch),
    "spawn_batch_main": spawn_batch,
    "yield": in_fiber(lambda n: both(turns, (n // 2,), (n // 2,))),
    "channel": channel(0),
    "channel_buffered": channel(catalogue.BUFFER),
    "lock": in_fiber(lambda n: alone(roving.Lock(), n)),
    "thread_lock": in_fiber(lambda n: alone(threading.Lock(), n)),
    "lock_rivals": in_fiber(rivals),
    "lock_handed_on": in_fiber(handed_on),
    "sleepers": in_fiber(sleepers),
    "cpu": in_fiber(cpu),
    "words": in_fiber(count_words),
}


def park(n: int) -> object:
    """Park fibers three calls deep."""
    gate = roving.Event()
    parked = roving.Semaphore(0)

    def outer() -> None:
        middle()

    def middle() -> None:
        inner()

    def inner() -> None:
        parked.release()
        gate.wait()

    fibers = [roving.spawn(outer) for _ in range(n)]
    for _ in range(n):
        parked.acquire()
    return fibers
