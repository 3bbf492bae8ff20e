"""Limits of time: one fiber that stops attempts whose time is over."""

from __future__ import annotations

import heapq
import itertools
from typing import TYPE_CHECKING

import roving
from roving._roving import _interrupt, _monotonic_ns

if TYPE_CHECKING:
    from roving.tasks._worker import Running

__all__ = ["Limits"]

# How soon an attempt that did not hear is told again: it was in a call of C code, say, or in an import.
_AGAIN = 50_000_000


class Limits:
    """The deadlines of all attempts of a worker."""

    def __init__(self) -> None:
        """Begin with none; a fiber of its own starts with the first."""
        self._changed = roving.Condition()
        self._heap: list[tuple[int, int, Running, str]] = []
        self._count = itertools.count()
        # How long the heap may get before what is over is taken out of it.
        self._tidy_at = 1024
        self._fiber: roving.Fiber[None] | None = None
        self._stops = False

    def add(self, running: Running, timeout: float | None, soft: float | None) -> None:
        """Stop an attempt after `timeout` seconds, and raise SoftTimeout in it after `soft`."""
        now = _monotonic_ns()
        with self._changed:
            for limit, what in ((timeout, "timeout"), (soft, "soft")):
                if limit is not None:
                    self._push(now + int(limit * 1e9), running, what)

    def stop(self, running: Running, reason: str) -> None:
        """Stop an attempt now, for that reason; one that has another keeps it."""
        if running.over or running.reason is not None:
            return
        running.reason = reason
        # A fiber that has not begun would never begin, and nobody would acknowledge: it looks for the reason.
        if running.fiber is not None:
            self.tell(running, reason)

    def close(self) -> None:
        """End the fiber."""
        with self._changed:
            self._stops = True
            self._changed.notify_all()

    def _push(self, at: int, running: Running, what: str) -> None:
        if len(self._heap) >= self._tidy_at:
            self._heap = [entry for entry in self._heap if not entry[2].over]
            heapq.heapify(self._heap)
            self._tidy_at = max(1024, 2 * len(self._heap))
        heapq.heappush(self._heap, (at, next(self._count), running, what))
        if self._fiber is None:
            self._fiber = roving.options(name="tasks: limits", daemon=True).spawn(self._keep)
        if self._heap[0][2] is running:
            self._changed.notify_all()

    def tell(self, running: Running, what: str) -> None:
        """Have an attempt stop, or raise SoftTimeout; again and again until it has heard."""
        assert running.fiber is not None
        if what == "soft":
            _interrupt(running.fiber, True)
        else:
            running.fiber.cancel()
            _interrupt(running.fiber, False)
        with self._changed:
            self._push(_monotonic_ns() + _AGAIN, running, "again")

    def _keep(self) -> None:
        while True:
            with self._changed:
                while not self._stops:
                    wait = None if not self._heap else (self._heap[0][0] - _monotonic_ns()) / 1e9
                    if wait is not None and wait <= 0:
                        break
                    self._changed.wait(wait)
                if self._stops:
                    return
                _, _, running, what = heapq.heappop(self._heap)
            if running.over or running.fiber is None:
                continue
            if what == "again":
                _interrupt(running.fiber, False)
                with self._changed:
                    self._push(_monotonic_ns() + _AGAIN, running, "again")
            elif what == "soft":
                self.tell(running, "soft")
            else:
                self.stop(running, what)
