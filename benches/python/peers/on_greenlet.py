"""greenlet: bare switches, no scheduler; what would need one is left out."""

from collections.abc import Callable
from time import perf_counter as clock
from typing import Any

import catalogue
from greenlet import getcurrent, greenlet
from work import nothing


def spawn_join(n: int) -> float:
    """One at a time."""
    start = clock()
    for _ in range(n):
        greenlet(nothing).switch()
    return clock() - start


def spawn_batch(n: int) -> float:
    """Many made, then run."""
    start = clock()
    for _ in range(n // catalogue.BATCH or 1):
        for one in [greenlet(nothing) for _ in range(catalogue.BATCH)]:
            one.switch()
    return clock() - start


def yields(n: int) -> float:
    """Two that switch to each other, each started first."""
    pair: list[Any] = []
    main = getcurrent()

    def turns(mine: int) -> None:
        other = pair[1 - mine]
        main.switch()
        for _ in range(n // 2):
            other.switch()

    pair += [greenlet(turns), greenlet(turns)]
    pair[0].switch(0)
    pair[1].switch(1)
    start = clock()
    pair[0].switch()
    return clock() - start


BENCHES: dict[str, Callable[[int], float]] = {
    "spawn_join": spawn_join,
    "spawn_batch": spawn_batch,
    "yield": yields,
}


def park(n: int) -> object:
    """Park greenlets three calls deep."""
    main = getcurrent()

    def outer() -> None:
        middle()

    def middle() -> None:
        inner()

    def inner() -> None:
        main.switch()

    parked = [greenlet(outer) for _ in range(n)]
    for one in parked:
        one.switch()
    return parked
