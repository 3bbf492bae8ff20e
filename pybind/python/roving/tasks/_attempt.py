"""A job as its task sees it, while it runs."""

from __future__ import annotations

import contextvars
import datetime
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, NoReturn, overload

from roving.tasks import _options
from roving.tasks._failures import Retry
from roving.tasks._job import moment

if TYPE_CHECKING:
    from roving.tasks._app import Tasks

__all__ = ["Attempt", "current"]

_current: contextvars.ContextVar[Attempt] = contextvars.ContextVar("roving.tasks.current")

# For which what `once` notes is kept: a job may be retried by hand long after.
_ONCE = 30 * 86_400_000


def current() -> Attempt | None:
    """Give the attempt that runs here; None outside of jobs. What a task spawns is in it, too."""
    return _current.get(None)


class Attempt:
    """One execution of a job: the first argument of a task with bind=True, and what `current()` gives."""

    __slots__ = ("_record", "_tasks")

    def __init__(self, tasks: Tasks, record: dict[str, Any]) -> None:
        """Made by the worker."""
        self._tasks = tasks
        self._record = record

    @property
    def id(self) -> str:
        """The job's id, the same for all of its attempts."""
        return str(self._record["id"])

    @property
    def task(self) -> str:
        """The task's name."""
        return str(self._record["task"])

    @property
    def queue(self) -> str:
        """The queue it came from."""
        return str(self._record["queue"])

    @property
    def number(self) -> int:
        """The how manyth attempt it is, from 1 on."""
        return int(self._record["attempts"])

    @property
    def retries_left(self) -> int:
        """How many attempts are left after this one."""
        return int(self._record["max_attempts"]) - self.number

    @property
    def parent(self) -> str | None:
        """The id of the job that enqueued this one, or None."""
        return self._record["parent"]  # type: ignore[no-any-return]

    @property
    def enqueued_at(self) -> datetime.datetime:
        """When the job was enqueued."""
        found = moment(self._record["enqueued_at"])
        assert found is not None
        return found

    def retry(
        self,
        *,
        countdown: float | datetime.timedelta | None = None,
        eta: datetime.datetime | None = None,
        exc: BaseException | None = None,
    ) -> NoReturn:
        """Give this attempt up, and have the job tried again: after `countdown` seconds, or at `eta`.

        Without either it waits as the task's `backoff` has it. Where no attempt is left the job fails, with
        `exc`, or with what is being handled. It raises, so nothing after it runs.

        >>> @tasks.task(bind=True, retries=10)
        ... def fetch(attempt, url):
        ...     if is_busy(url):
        ...         attempt.retry(countdown=60)
        """
        if countdown is not None and eta is not None:
            raise TypeError("retry: countdown and eta are both given")
        at = None if eta is None else _options.timestamp("eta", eta)
        if countdown is not None:
            at = self._tasks._store.now() + int(_options.seconds("countdown", countdown) * 1000)
        raise Retry(at, exc)

    @overload
    def once(self, key: str, /) -> bool: ...
    @overload
    def once(self, key: str, function: Callable[..., Any], /, *args: Any, **kwargs: Any) -> Any: ...
    def once(self, key: str, function: Callable[..., Any] | None = None, /, *args: Any, **kwargs: Any) -> Any:
        """Do a step of this job once, however often the job is tried.

        `once(key)` is True the first time in the job's life, and False ever after: at most once, as it is
        noted before the step. `once(key, function, ...)` calls the function, keeps what it returns and gives
        that in later attempts: at least once, as it is noted after the step. Notes are kept for a month.

        >>> receipt = attempt.once("charge", charge, card, amount)
        """
        note = f"job:{self.id}:{key}"
        codec, store = self._tasks.codec, self._tasks._admin
        if function is None:
            return store.once(note, b"", _ONCE) is None
        before = store.once_value(note)
        if before is None:
            before = codec.encode_result(function(*args, **kwargs))
            # Another attempt may have been there meanwhile, of a process that was taken for dead.
            before = store.once(note, before, _ONCE) or before
        return codec.decode_result(before)

    def __repr__(self) -> str:
        """Say which."""
        return f"<attempt {self.number} of job {self.id} of {self.task}>"
