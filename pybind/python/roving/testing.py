"""For tests of programs that use roving: waiting until nothing moves, virtual time, scheduling by a seed.

>>> import roving.testing
>>> with roving.testing.clock() as clock:
...     roving.spawn(roving.sleep, 3600).join()
...     clock.time()
3600.0
"""

import contextlib
import os
from collections.abc import Callable, Iterable, Iterator

from roving._roving import Clock as clock
from roving._roving import Condition, _run_seeded, wait_all_parked

__all__ = ["Sequencer", "clock", "explore", "run", "wait_all_parked"]


def run[*Ts, T](main: Callable[[*Ts], T], /, *args: *Ts, seed: int = 0) -> T:
    """Call main(*args) in a fiber, all fibers scheduled in an order drawn by `seed`; return its result.

    What main spawns runs on one worker. Wherever a fiber waits or yields, or could be overtaken if there were
    more workers (it spawns, wakes another, takes or releases a lock of roving's, uses a channel...), the seed
    decides who goes on. The clock stands, as in `clock()`. So the same seed gives the same run, and others
    give others, as long as the program takes nothing from outside: other threads, files, sockets, the time of
    day, the order of a set. When main and all other fibers but daemons have ended, those are cancelled.

    What main raises has a note that names the seed. Raises roving.Deadlock, with a dump, when all fibers wait
    for one another. For plain threads, one at a time, and while no fiber that was spawned before runs:
    RuntimeError otherwise. (Those that are parked had better stay so.)

    >>> roving.testing.run(pow, 2, 3, seed=7)
    8
    """
    try:
        return _run_seeded(main, args, seed & 0xFFFF_FFFF_FFFF_FFFF)
    except BaseException as error:
        error.add_note(
            f"roving.testing: seed {seed} does it again: run(..., seed={seed}), or ROVING_SEED={seed}"
        )
        raise


def explore[*Ts](main: Callable[[*Ts], object], /, *args: *Ts, seeds: Iterable[int] = range(100)) -> None:
    """Call main(*args) by `run`, once for each of `seeds`; what it raises names the first seed that fails.

    With the environment variable ROVING_SEED set to a number, by that seed alone: to look at a failure again.
    main must do the same each time: what it needs it makes itself.

    >>> def main():
    ...     lock = roving.Lock()
    ...     with roving.scope() as scope:
    ...         scope.spawn(lock.acquire)
    ...     assert lock.locked()
    >>> roving.testing.explore(main, seeds=range(20))
    """
    only = os.environ.get("ROVING_SEED")
    for seed in seeds if only is None else [int(only)]:
        run(main, *args, seed=seed)


class Sequencer:
    """An order for blocks of several fibers or threads: each waits until all before it have been left.

    >>> in_order = roving.testing.Sequencer()
    >>> def second():
    ...     with in_order(1):
    ...         return "second"
    >>> fiber = roving.spawn(second)
    >>> with in_order(0):
    ...     fiber.done()
    False
    >>> fiber.join()
    'second'
    """

    def __init__(self) -> None:
        """Begin with block 0."""
        self._changed = Condition()
        self._next = 0
        self._used: set[int] = set()
        self._broken = False

    @contextlib.contextmanager
    def __call__(self, position: int, /) -> Iterator[None]:
        """Enter the block of this number, from 0 on, once those before it have been left.

        Each number is used once, or RuntimeError is raised. One that is cancelled while it waits breaks the
        others: they raise RuntimeError too.
        """
        with self._changed:
            if position in self._used:
                raise RuntimeError(f"block {position} has been used already")
            self._used.add(position)
            try:
                self._changed.wait_for(lambda: self._broken or self._next == position)
            except BaseException:
                self._broken = True
                self._changed.notify_all()
                raise
            if self._broken:
                raise RuntimeError(f"block {position} cannot begin: one before it never will")
        try:
            yield
        finally:
            with self._changed:
                self._next += 1
                self._changed.notify_all()
