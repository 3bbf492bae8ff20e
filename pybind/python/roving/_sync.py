"""Barrier and the queues: the standard library's own, over the locks of roving's.

Their protocols are proven, and all that they wait on is the lock and the conditions that are put in here.
"""

import queue
import threading
from collections.abc import Callable
from types import FunctionType
from typing import Any

from roving._roving import Condition, Lock, _monotonic_ns


class Barrier(threading.Barrier):
    """A meeting point of so many fibers and threads, with the interface of threading.Barrier.

    One that is cancelled while it waits breaks it, as one that times out does.

    >>> barrier = roving.Barrier(2)
    >>> fiber = roving.spawn(barrier.wait)
    >>> sorted([barrier.wait(), fiber.join()])
    [0, 1]
    """

    def __init__(
        self, parties: int, action: Callable[[], None] | None = None, timeout: float | None = None
    ) -> None:
        """Let `parties` pass at a time; `action` is called by one of them before they do."""
        super().__init__(parties, action, timeout)
        self._cond = Condition(Lock())

    def wait(self, timeout: float | None = None) -> int:
        """Wait for the others, at most `timeout` seconds; return a number from 0 to parties - 1, each once.

        Raises threading.BrokenBarrierError when the barrier is broken, or is meanwhile.
        """
        try:
            return super().wait(timeout)
        except threading.BrokenBarrierError:
            raise
        except BaseException:
            self.abort()
            raise


class _Moment:
    """A time by our clock, to the nanosecond.

    A queue waits until there is nothing left of its time. As floats, time and timeout do not add up to just
    what the clock says at the end of the wait.
    """

    __slots__ = ("_ns",)

    def __init__(self, ns: int | None = None) -> None:
        """Now, if not said otherwise."""
        self._ns = _monotonic_ns() if ns is None else ns

    def __add__(self, seconds: float) -> "_Moment":
        # Never is far enough away.
        return _Moment(self._ns + round(min(seconds * 1e9, 1e30)))

    def __sub__(self, other: "_Moment") -> float:
        return (self._ns - other._ns) / 1e9


def _by_our_clock(method: Any) -> Any:
    """Make a method of the standard library's queue read our clock, which roving.testing may have stopped."""
    names = {**vars(queue), "time": _Moment}
    ours = FunctionType(method.__code__, names, method.__name__, method.__defaults__, method.__closure__)
    ours.__doc__ = method.__doc__
    ours.__kwdefaults__ = method.__kwdefaults__
    return ours


def _fit(waited_on: queue.Queue[Any]) -> None:
    """Give a queue of the standard library locks that fibers wait on."""
    waited_on.mutex = Lock()  # type: ignore[assignment]
    for name in ("not_empty", "not_full", "all_tasks_done"):
        setattr(waited_on, name, Condition(waited_on.mutex))


class Queue[T](queue.Queue[T]):
    """First in, first out, for fibers and threads: a queue.Queue.

    >>> jobs = roving.Queue()
    >>> jobs.put(1)
    >>> jobs.get()
    1
    """

    def __init__(self, maxsize: int = 0) -> None:
        """Keep at most `maxsize` items; any number with 0."""
        super().__init__(maxsize)
        _fit(self)


class LifoQueue[T](queue.LifoQueue[T]):
    """Last in, first out, for fibers and threads: a queue.LifoQueue.

    >>> jobs = roving.LifoQueue()
    >>> jobs.put(1), jobs.put(2)
    (None, None)
    >>> jobs.get()
    2
    """

    def __init__(self, maxsize: int = 0) -> None:
        """Keep at most `maxsize` items; any number with 0."""
        super().__init__(maxsize)
        _fit(self)


class PriorityQueue[T](queue.PriorityQueue[T]):  # type: ignore[type-var]
    """The smallest first, for fibers and threads: a queue.PriorityQueue.

    >>> jobs = roving.PriorityQueue()
    >>> jobs.put(2), jobs.put(1)
    (None, None)
    >>> jobs.get()
    1
    """

    def __init__(self, maxsize: int = 0) -> None:
        """Keep at most `maxsize` items; any number with 0."""
        super().__init__(maxsize)
        _fit(self)


# For help and reprs: this is where they are found.
for _kind in (Barrier, Queue, LifoQueue, PriorityQueue):
    _kind.__module__ = "roving"
# These two keep their deadlines themselves.
for _kind in (Queue, LifoQueue, PriorityQueue):
    for _name in ("get", "put"):
        setattr(_kind, _name, _by_our_clock(getattr(queue.Queue, _name)))
