"""Many fibers that do the same at once."""

import time
from collections.abc import Callable
from typing import Any

import roving
from roving._roving import _dump

FIBERS = 1_000
POOL = 50


def crowd[T](function: Callable[[int], T], count: int = FIBERS, limit: float = 60) -> list[T]:
    """Call function(0) to function(count - 1), each in a fiber; give what they return, in order.

    What takes longer than `limit` seconds in all is dumped, cancelled, and fails.
    """
    fibers = [roving.spawn(function, number) for number in range(count)]
    finish(fibers, limit)
    return [fiber.join() for fiber in fibers]


def finish(fibers: list[roving.Fiber[Any]], limit: float = 60) -> None:
    """Wait for fibers to end, however they do, or dump and cancel them and fail."""
    end = time.monotonic() + limit
    for fiber in fibers:
        if not fiber.wait(max(0.0, end - time.monotonic())):
            print(roving.dump())
            late = [other for other in fibers if not other.done()]
            for other in late:
                other.cancel()
            for other in late:
                other.wait(5)
            raise AssertionError(f"{len(late)} of {len(fibers)} did not end within {limit} s")


def parked(fibers: list[roving.Fiber[Any]]) -> int:
    """Count those that wait for a descriptor."""
    ids = {fiber.id for fiber in fibers}
    return sum(fiber.id in ids and why == "descriptor" for fiber, _, why, _ in _dump())


def until(holds: Callable[[], bool], limit: float = 20) -> None:
    """Wait in a plain thread until something holds."""
    end = time.monotonic() + limit
    while not holds():
        assert time.monotonic() < end, "it never did"
        time.sleep(0.05)


def assert_parks(work: Callable[[], object], most: float = 0.3) -> None:
    """Fail if `work`, which waits for longer than `most` seconds, holds up a worker for as long.

    Fibers of every worker wake up all the while: that tells calls that park from calls that block. A machine
    that is busy with other things makes them late too, but hardly three times in a row.
    """
    delays = []
    for _ in range(3):
        delays.append(_delay(work))
        if delays[-1] < most:
            return
    raise AssertionError(f"something holds up a worker, for {delays} s")


def _delay(work: Callable[[], object]) -> float:
    over = False
    late = 0.0

    def tick() -> None:
        nonlocal late
        while not over:
            due = time.monotonic() + 0.005
            roving.sleep(0.005)
            late = max(late, time.monotonic() - due)

    tickers = [roving.options(spread=True).spawn(tick) for _ in range(2 * roving.stats()["workers"])]
    try:
        work()
    finally:
        over = True
        finish(tickers)
    return late
