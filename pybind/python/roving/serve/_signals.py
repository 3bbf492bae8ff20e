"""The signals of the command: told one after another, on the main thread."""

import os
import select
import signal
import time
from collections.abc import Callable, Iterable
from types import FrameType

__all__ = ["Signals"]

# What stops; what else is told.
_STOP = (signal.SIGTERM, signal.SIGINT)
_OTHERS = (signal.SIGHUP, signal.SIGUSR1)
_ALL = (*_STOP, *_OTHERS)


class Signals:
    """SIGTERM and SIGINT stop, a second SIGINT leaves at once; SIGHUP and SIGUSR1 are told as they come."""

    def __init__(self, starting: Callable[[int], None] | None = None) -> None:
        """Install the handlers. Whoever made this process by exec may have blocked them until now.

        `starting` is called, in a handler, for what stops before `started` was called; without it the process
        ends at once, as the system would have it, which makes an exception of the first process there is.
        """
        self._reads, writes = os.pipe()
        os.set_blocking(self._reads, False)
        os.set_blocking(writes, False)
        self._asked = False
        self._starting = starting or (lambda number: os._exit(128 + number))
        self.stops = False
        """Whether one that stops has been told."""
        # The system may give a signal to any thread, and that wakes the main thread from nothing. Full, it
        # is full of what says the same.
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        for number in _ALL:
            signal.signal(number, self._handle)
        os.register_at_fork(after_in_child=self._forget)
        self.unblock()

    def _forget(self) -> None:
        """In a child: it has the same pipe, and what ends it is to end it alone."""
        signal.set_wakeup_fd(-1)
        for number in _ALL:
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL)

    def started(self) -> None:
        """From now on there is something to finish."""
        self._starting = lambda number: None

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if number in _STOP:
            self._starting(number)
        if self._asked and number == signal.SIGINT:
            os._exit(130)
        self._asked = self._asked or number in _STOP

    def wait(
        self, descriptors: Iterable[int] = (), timeout: float | None = None
    ) -> tuple[set[int], set[int]]:
        """Wait for signals, or until one of the descriptors can be read, for so many seconds at most.

        Returns the signals, and the descriptors. What came more than once in between is told once.
        """
        until = None if timeout is None else time.monotonic() + timeout
        watched = select.poll()
        for descriptor in (self._reads, *descriptors):
            watched.register(descriptor, select.POLLIN)
        while True:
            left = None if until is None else max(until - time.monotonic(), 0.0)
            found = {number for number, _ in watched.poll(None if left is None else left * 1000)}
            told: set[int] = set()
            if self._reads in found:
                found.remove(self._reads)
                # Of whatever the application handles there are numbers, too.
                told = {*os.read(self._reads, 4096)} & {*_ALL}
            self.stops = self.stops or not told.isdisjoint(_STOP)
            if told or found or left == 0.0:
                return told, found

    def wait_for(self, descriptor: int, timeout: float) -> bool:
        """Wait until this one can be read from, for so many seconds at most; say whether it can."""
        until = time.monotonic() + timeout
        while True:
            left = max(until - time.monotonic(), 0.0)
            _, found = self.wait([descriptor], left)
            if found or not left:
                return bool(found)

    @staticmethod
    def unblock() -> None:
        """Take them again."""
        signal.pthread_sigmask(signal.SIG_UNBLOCK, _ALL)

    @staticmethod
    def block() -> None:
        """Keep signals for whoever this process becomes by exec: it installs its handlers a moment later."""
        signal.pthread_sigmask(signal.SIG_BLOCK, _ALL)
