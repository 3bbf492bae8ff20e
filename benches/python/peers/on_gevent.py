"""gevent: greenlets on libev, one core. Only on a build with the GIL: importing it switches the GIL on."""

from collections.abc import Callable
from time import perf_counter as clock
from typing import Any

import catalogue
import gevent
import gevent.event
import gevent.lock
import gevent.queue
from work import fib, merge, nothing, texts, words

Bench = Callable[[int], float]


def each(function: Callable[..., object], *rows: tuple[Any, ...]) -> float:
    """Call it in a greenlet for each row of arguments, and time the whole."""
    start = clock()
    gevent.joinall([gevent.spawn(function, *row) for row in rows])
    return clock() - start


def spawn_join(n: int) -> float:
    """One at a time."""
    spawn = gevent.spawn
    start = clock()
    for _ in range(n):
        spawn(nothing).join()
    return clock() - start


def spawn_batch(n: int) -> float:
    """Many, then joined."""
    return sum(each(nothing, *[()] * catalogue.BATCH) for _ in range(n // catalogue.BATCH or 1))


def turns(n: int) -> None:
    """Yield n times."""
    sleep = gevent.sleep
    for _ in range(n):
        sleep(0)


def channel(make: Callable[[], Any]) -> Bench:
    """One greenlet puts, another gets."""

    def send(to: Any, n: int) -> None:
        for item in range(n):
            to.put(item)

    def bench(n: int) -> float:
        pipe = make()
        sender = gevent.spawn(send, pipe, n)
        start = clock()
        for _ in range(n):
            pipe.get()
        sender.join()
        return clock() - start

    return bench


def alone(n: int) -> float:
    """Nobody else wants it."""
    lock = gevent.lock.BoundedSemaphore()
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
    lock, count = gevent.lock.BoundedSemaphore(), Count()

    def rival(n: int) -> None:
        for _ in range(n):
            with lock:
                count.value += 1

    return each(rival, *[(n // catalogue.RIVALS or 1,)] * catalogue.RIVALS)


def handed_on(n: int) -> float:
    """Each yields while it has the lock."""
    lock, sleep = gevent.lock.BoundedSemaphore(), gevent.sleep

    def rival(n: int) -> None:
        for _ in range(n):
            with lock:
                sleep(0)

    return each(rival, *[(n // catalogue.RIVALS or 1,)] * catalogue.RIVALS)


def cpu(n: int) -> float:
    """Computation alone: one core is all it has."""
    return sum(each(fib, *[(catalogue.FIB,)] * 64) for _ in range(n))


def count_words(n: int) -> float:
    """Data go in and come out."""
    data = texts()
    start = clock()
    for _ in range(n):
        jobs = [gevent.spawn(words, text) for text in data]
        gevent.joinall(jobs)
        merge(jobs[0].value, [job.value for job in jobs[1:]])
    return clock() - start


BENCHES: dict[str, Bench] = {
    "spawn_join": spawn_join,
    "spawn_batch": spawn_batch,
    "yield": lambda n: each(turns, (n // 2,), (n // 2,)),
    "channel": channel(gevent.queue.Channel),
    "channel_buffered": channel(lambda: gevent.queue.Queue(catalogue.BUFFER)),
    "lock": alone,
    "lock_rivals": rivals,
    "lock_handed_on": handed_on,
    "sleepers": lambda n: each(gevent.sleep, *[(catalogue.SLEEP,)] * n),
    "cpu": cpu,
    "words": count_words,
}


def park(n: int) -> object:
    """Park greenlets three calls deep."""
    gate = gevent.event.Event()

    def outer() -> None:
        middle()

    def middle() -> None:
        inner()

    def inner() -> None:
        gate.wait()

    parked = [gevent.spawn(outer) for _ in range(n)]
    gevent.sleep(0)
    return parked
