"""Threads as fibers.

All that starts a thread in Python goes through two functions of `_thread`, and all that waits for one through
its handle; these are changed in place (`shim/threads.c`). So `threading.Thread`, its subclasses, Timer and
ThreadPoolExecutor need no change, whenever they were imported or made.
"""

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from roving._roving import _native_threads, _switch

__all__ = ["NativeThread", "install", "native_threads", "uninstall"]


def install(*, native: bool = False) -> None:
    """Make threads started from now on fibers; with `native`, only have fibers park that join one."""
    _switch("thread", not native)


def uninstall() -> None:
    """Make threads started from now on threads of the system's; those that are fibers stay so."""
    _switch("thread", False)


@contextmanager
def native_threads() -> Iterator[None]:
    """Make threads that this fiber, or thread, starts in the block threads of the system's.

    For what needs a thread of its own: C code that blocks for long, or keeps what it has per thread. Fibers
    still join them without holding anybody up.

    >>> with roving.patch.native_threads():
    ...     threading.Thread(target=call_c_library).start()
    """
    _native_threads(1)
    try:
        yield
    finally:
        _native_threads(-1)


class NativeThread(threading.Thread):
    """A threading.Thread that is always a thread of the system's, never a fiber.

    >>> roving.patch.NativeThread(target=call_c_library).start()
    """

    def start(self) -> None:
        """Start the thread, as threading.Thread.start does."""
        with native_threads():
            super().start()
