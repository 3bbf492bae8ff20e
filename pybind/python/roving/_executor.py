"""What roving.futures offers."""

import threading
import weakref
from collections import deque
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from concurrent.futures.thread import BrokenThreadPool
from typing import Any

from roving._roving import Cancelled, Condition, Lock, options, shield

__all__ = ["FiberExecutor", "FiberFuture"]


class FiberFuture[T](Future[T]):
    """A future that fibers can wait for: its lock is roving's."""

    def __init__(self) -> None:
        """Make a pending one."""
        super().__init__()
        self._condition = Condition()  # type: ignore[assignment]


type _Work = tuple[FiberFuture[Any], Callable[..., Any], tuple[Any, ...], dict[str, Any]]


class FiberExecutor(ThreadPoolExecutor):
    """A ThreadPoolExecutor whose calls run in fibers.

    As many run at once as are submitted, or `max_workers`. `thread_name_prefix` names the fibers.
    `initializer(*initargs)` is called at the start of each fiber; a fiber makes one call, and with
    `max_workers` goes on to the next that waits.

    >>> with roving.futures.FiberExecutor(max_workers=10) as executor:
    ...     list(executor.map(pow, [2, 3], [3, 2]))
    [8, 9]
    """

    def __init__(
        self,
        max_workers: int | None = None,
        thread_name_prefix: str = "",
        initializer: Callable[..., object] | None = None,
        initargs: tuple[Any, ...] = (),
    ) -> None:
        """Make an executor; no fiber is started before the first call."""
        if max_workers is not None and max_workers <= 0:
            raise ValueError("max_workers must be greater than 0")
        if initializer is not None and not callable(initializer):
            raise TypeError("initializer must be a callable")
        super().__init__(max_workers or 1, thread_name_prefix)
        self._limit = max_workers
        self._start: tuple[Callable[..., object], tuple[Any, ...]] | None = None
        if initializer is not None:
            self._start = (initializer, initargs)
        self._guard = Lock()
        self._idle = Condition(self._guard)
        self._waiting: deque[_Work] = deque()
        self._running = 0
        self._closed = False
        self._failure: str | None = None
        self._options = options(name=thread_name_prefix or "executor")
        _executors.add(self)

    def submit[**P, T](self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        """Call fn(*args, **kwargs) in a fiber; return its future.

        Raises RuntimeError after shutdown, and BrokenThreadPool after the initializer failed.
        """
        future: FiberFuture[T] = FiberFuture()
        work: _Work = (future, fn, args, kwargs)
        with self._guard:
            if self._failure is not None:
                raise BrokenThreadPool(self._failure)
            if self._closed:
                raise RuntimeError("cannot schedule new futures after shutdown")
            if self._limit is not None and self._running >= self._limit:
                self._waiting.append(work)
            else:
                # Started under the lock, so that whoever shuts down sees all there are.
                self._options.spawn(self._serve, work)
                self._running += 1
        return future

    def _serve(self, work: _Work) -> None:
        following: _Work | None = work
        del work
        try:
            if self._start is not None and following is not None:
                function, args = self._start
                try:
                    function(*args)
                except Exception as error:
                    self._break(following[0], error)
                    following = self._following()
            while following is not None:
                _run(following)
                # Not to hold on to it while waiting for the lock.
                following = None
                following = self._following()
        except BaseException:
            # Cancelled: another one goes on with what waits.
            following = self._following()
            if following is not None:
                self._options.spawn(self._serve, following)
            raise

    def _following(self) -> _Work | None:
        """Give the next call; or None, and then the fiber does not count any more."""
        with shield(), self._guard:
            if self._waiting:
                return self._waiting.popleft()
            self._running -= 1
            self._idle.notify_all()
            return None

    def _break(self, future: FiberFuture[Any], error: Exception) -> None:
        """Let every call that waits know that the initializer failed."""
        failure = f"the initializer failed, the executor is not usable any more: {error!r}"
        with self._guard:
            self._failure = failure
            broken = [future, *(work[0] for work in self._waiting)]
            self._waiting.clear()
        for future in broken:
            if future.set_running_or_notify_cancel():
                future.set_exception(BrokenThreadPool(failure))

    def shutdown(self, wait: bool = True, *, cancel_futures: bool = False) -> None:
        """Take no more calls; with `wait`, wait for those there are.

        With `cancel_futures`, those that have not begun are cancelled.
        """
        with self._guard:
            self._closed = True
            dropped = list(self._waiting) if cancel_futures else []
            if cancel_futures:
                self._waiting.clear()
        for work in dropped:
            work[0].cancel()
        if wait:
            with self._idle:
                self._idle.wait_for(lambda: self._running == 0)


def _run(work: _Work) -> None:
    future, function, args, kwargs = work
    if not future.set_running_or_notify_cancel():
        return
    try:
        result = function(*args, **kwargs)
    except BaseException as error:
        # A fiber that is cancelled tells its future, and goes on being cancelled.
        future.set_exception(error)
        if isinstance(error, Cancelled):
            raise
    else:
        future.set_result(result)


# As threads of a ThreadPoolExecutor, calls that have been submitted are made before the interpreter exits.
_executors: weakref.WeakSet[FiberExecutor] = weakref.WeakSet()


def _finish() -> None:
    for executor in list(_executors):
        executor.shutdown()


for _kind in (FiberExecutor, FiberFuture):
    _kind.__module__ = "roving.futures"

threading._register_atexit(_finish)  # type: ignore[attr-defined]
