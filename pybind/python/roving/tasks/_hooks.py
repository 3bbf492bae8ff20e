"""Functions that are told what becomes of jobs."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from roving._roving import Cancelled

if TYPE_CHECKING:
    from roving.tasks._attempt import Attempt

__all__ = ["Hooks", "logger"]

logger = logging.getLogger("roving.tasks")

EVENTS = ("before", "succeeded", "failed", "retried", "after")


class Hooks:
    """Functions that the worker calls in the job's fiber; each method takes one, also as a decorator.

    `before(attempt)` and `after(attempt)` around each attempt, `succeeded(attempt, result)`,
    `retried(attempt, error)` when it failed and there will be another, `failed(attempt, error)` when there
    will be none. All but `before` are called after the outcome is on disk: at most once, and not if the
    process dies. What they raise is logged.

    >>> @tasks.hooks.failed
    ... def tell(attempt, error):
    ...     print(attempt, error)
    """

    def __init__(self) -> None:
        """Begin without any."""
        self._functions: dict[str, tuple[Callable[..., Any], ...]] = dict.fromkeys(EVENTS, ())

    def _add[F: Callable[..., Any]](self, event: str, function: F) -> F:
        self._functions[event] = (*self._functions[event], function)
        return function

    def before[F: Callable[..., Any]](self, function: F) -> F:
        """Have it called with each Attempt that is about to run."""
        return self._add("before", function)

    def after[F: Callable[..., Any]](self, function: F) -> F:
        """Have it called with each Attempt that has run, however it ended."""
        return self._add("after", function)

    def succeeded[F: Callable[..., Any]](self, function: F) -> F:
        """Have it called with each Attempt that succeeded, and the result."""
        return self._add("succeeded", function)

    def failed[F: Callable[..., Any]](self, function: F) -> F:
        """Have it called with the last Attempt of each job that fails, and the exception."""
        return self._add("failed", function)

    def retried[F: Callable[..., Any]](self, function: F) -> F:
        """Have it called with each Attempt that failed and is followed by another, and the exception."""
        return self._add("retried", function)

    def _call(self, event: str, attempt: Attempt, *args: Any) -> None:
        for function in self._functions[event]:
            try:
                function(attempt, *args)
            except (Exception, Cancelled):
                logger.exception("the hook %r of %s raised", event, attempt)
