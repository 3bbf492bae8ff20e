"""roving.map."""

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from operator import index
from types import TracebackType
from typing import Any, Self

from roving._roving import Fiber, spawn

LIMIT = 64


class Map[T](Iterator[T]):
    """The results of roving.map, in order.

    Closing it, leaving its `with` block or dropping it cancels the rest.
    """

    def __init__(self, function: Callable[..., T], rows: Iterator[tuple[Any, ...]], limit: int) -> None:
        """Call `function` with each of `rows`, `limit` at a time."""
        self._function = function
        self._rows: Iterator[tuple[Any, ...]] | None = rows
        self._limit = limit
        # The last one may be what the iterables raised.
        self._window: deque[Fiber[T] | BaseException] = deque()

    def __next__(self) -> T:
        """Wait for the next result; raise what its call raised. Others go on."""
        self._fill()
        if not self._window:
            raise StopIteration
        first = self._window.popleft()
        if isinstance(first, BaseException):
            raise first
        try:
            return first.join()
        except BaseException:
            if not first.done():
                # Nobody waits for it any more: it is we who have been cancelled.
                first.cancel()
                self.close()
            raise

    def _fill(self) -> None:
        while self._rows is not None and len(self._window) < self._limit:
            try:
                row = next(self._rows)
            except StopIteration:
                self._rows = None
            except Exception as error:
                self._rows = None
                self._window.append(error)
            else:
                self._window.append(spawn(self._function, *row))

    def close(self) -> None:
        """Cancel the calls whose results have not been asked for, and start no more."""
        self._rows = None
        while self._window:
            fiber = self._window.pop()
            if isinstance(fiber, Fiber):
                fiber.cancel()

    def __repr__(self) -> str:
        state = "ended" if self._rows is None else "open"
        return f"<roving.map of {self._function!r}, {state}, {len(self._window)} ahead>"

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()

    def __del__(self) -> None:
        if hasattr(self, "_window"):
            self.close()


def map[T](
    function: Callable[..., T], /, *iterables: Iterable[Any], limit: int | None = None, strict: bool = False
) -> Map[T]:
    """Call function(*items) in fibers for the items of the iterables side by side; give the results in order.

    At most `limit` calls (64 unless given) are running or have results that nobody took: nothing is called,
    and nothing taken from the iterables, before it is needed. What a call raises is raised in its place, and
    the next result can still be asked for. An iterator that is closed or dropped cancels the rest. With
    `strict`, iterables of different lengths raise ValueError at the end.

    >>> list(roving.map(pow, [2, 3], [3, 2]))
    [8, 9]
    """
    if not callable(function):
        raise TypeError(f"map takes a callable and iterables, and {type(function).__name__} is not callable")
    if not iterables:
        raise TypeError("map takes at least one iterable")
    if limit is None:
        limit = LIMIT
    elif (limit := index(limit)) < 1:
        raise ValueError(f"limit must be at least 1, and is {limit}")
    return Map(function, zip(*iterables, strict=strict), limit)
