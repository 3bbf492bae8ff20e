"""A job as those see it who enqueued it."""

from __future__ import annotations

import datetime
from typing import TYPE_CHECKING, Any

from roving._roving import UnknownJob
from roving.tasks._failures import BY_STATUS

if TYPE_CHECKING:
    from roving.tasks._app import Tasks

__all__ = ["Job", "JobState", "moment"]

FINISHED = frozenset({"succeeded", "failed", "cancelled", "expired", "quarantined"})


def moment(milliseconds: int | None) -> datetime.datetime | None:
    """Make a datetime, in UTC, of milliseconds since 1970."""
    if milliseconds is None:
        return None
    return datetime.datetime.fromtimestamp(milliseconds / 1000, datetime.UTC)


class JobState:
    """How a job stood at one moment: what `Job.state()` and `Tasks.jobs()` give."""

    __slots__ = ("_record",)

    def __init__(self, record: dict[str, Any]) -> None:
        """Take what the store says."""
        self._record = record

    id = property(lambda self: self._record["id"], doc="Its id.")
    status = property(lambda self: self._record["status"], doc="Where it is in its life.")
    task = property(lambda self: self._record["task"], doc="Its task's name.")
    queue = property(lambda self: self._record["queue"], doc="Its queue.")
    priority = property(lambda self: self._record["priority"], doc="Higher ones go first.")
    attempts = property(lambda self: self._record["attempts"], doc="How often it was tried.")
    max_attempts = property(lambda self: self._record["max_attempts"], doc="How often it may be.")
    deaths = property(lambda self: self._record["deaths"], doc="How often a process died under it.")
    parent = property(lambda self: self._record["parent"], doc="The id of the job that enqueued it, or None.")
    error = property(lambda self: self._record["error"], doc="The last exception, in a line, or None.")
    traceback = property(lambda self: self._record["traceback"], doc="Its traceback, as text, or None.")
    eta = property(lambda self: moment(self._record["eta"]), doc="Not before, or None.")
    expires = property(lambda self: moment(self._record["expires"]), doc="Not begun from then on, or None.")
    enqueued_at = property(lambda self: moment(self._record["enqueued_at"]), doc="When it was enqueued.")
    started_at = property(lambda self: moment(self._record["started_at"]), doc="When its last attempt began.")
    finished_at = property(lambda self: moment(self._record["finished_at"]), doc="When it finished, or None.")

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to it unless somebody retries it."""
        return self.status in FINISHED

    def __repr__(self) -> str:
        """Say which job, and how it stood."""
        return f"<job {self.id} of {self.task}, {self.status}>"


class Job:
    """A job in the store: what `delay` returns, and `Tasks.job(id)`. Each attribute asks the store anew.

    All of them raise UnknownJob when the job is not in the store (any more): finished jobs are kept for a
    day, unless `keep_result` says otherwise; and StoreError when the store fails.

    >>> job = send.delay("a@b.c")
    >>> job.get(timeout=5)
    'sent'
    """

    __slots__ = ("_tasks", "duplicate", "id")

    def __init__(self, tasks: Tasks, id: str, duplicate: bool = False) -> None:
        """Made by `delay`, `apply_async` and `Tasks.job`."""
        self._tasks = tasks
        self.id = id
        """What to ask for it by, in any process: `Tasks.job(id)`."""
        self.duplicate = duplicate
        """Whether this is the job that was there before, of a unique task: nothing was enqueued."""

    def state(self) -> JobState:
        """Give all there is to know of it, at one moment."""
        return JobState(self._record())

    def _record(self) -> dict[str, Any]:
        record = self._tasks._store.get(self.id)
        if record is None:
            raise _unknown(self.id)
        return record

    @property
    def status(self) -> str:
        """Say where it is in its life.

        One of queued, scheduled, waiting, running, succeeded, failed, cancelled, expired, quarantined.
        """
        return str(self._record()["status"])

    @property
    def attempts(self) -> int:
        """How often it was tried; attempts that were handed back, or ended by a death, do not count."""
        return int(self._record()["attempts"])

    @property
    def error(self) -> str | None:
        """The last exception, as `type: message`; None if there was none."""
        return self.state().error  # type: ignore[no-any-return]

    @property
    def traceback(self) -> str | None:
        """The last exception's traceback, as text."""
        return self.state().traceback  # type: ignore[no-any-return]

    @property
    def enqueued_at(self) -> datetime.datetime | None:
        """When it was enqueued."""
        return self.state().enqueued_at  # type: ignore[no-any-return]

    @property
    def started_at(self) -> datetime.datetime | None:
        """When its last attempt began."""
        return self.state().started_at  # type: ignore[no-any-return]

    @property
    def finished_at(self) -> datetime.datetime | None:
        """When it finished."""
        return self.state().finished_at  # type: ignore[no-any-return]

    @property
    def result(self) -> Any:
        """What it returned, if it has succeeded and its result is kept; else None."""
        record = self._record()
        return self._decode(record) if record["status"] == "succeeded" else None

    def _decode(self, record: dict[str, Any]) -> Any:
        if record["result"] is None:
            return None
        return self._tasks._decode_result(record)

    def get(self, timeout: float | None = None) -> Any:
        """Wait until it is finished, and return its result.

        A fiber parks, a plain thread blocks. Raises TimeoutError when it takes longer than `timeout` seconds;
        JobFailed, JobCancelled, JobExpired or JobQuarantined where there is no result; DecodeError where it
        cannot be read; UnknownJob and StoreError. A task whose result is not kept gives None.
        """
        record = self._tasks._store.wait(self.id, timeout)
        if record is None:
            raise _unknown(self.id)
        if record["status"] not in FINISHED:
            raise TimeoutError(f"job {self.id} of {record['task']} is {record['status']} after {timeout} s")
        if record["status"] == "succeeded":
            return self._decode(record)
        raise BY_STATUS[record["status"]](record)

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it is finished, for at most `timeout` seconds; return whether it is."""
        record = self._tasks._store.wait(self.id, timeout)
        return record is None or record["status"] in FINISHED

    def cancel(self) -> bool:
        """Cancel it; return whether it was not finished yet.

        One that has not begun never will. One that runs is stopped by its worker, wherever that is: where it
        waits, or at its next preemption; it may clean up.
        """
        return self._tasks._store.cancel(self.id) in ("now", "requested")

    def retry(self) -> None:
        """Queue it again, with all of its attempts.

        Raises WrongStatus unless it failed, expired, was cancelled or quarantined.
        """
        self._tasks._store.retry(self.id)

    def __eq__(self, other: object) -> bool:
        """Compare the ids."""
        return isinstance(other, Job) and other.id == self.id

    def __hash__(self) -> int:
        """As equality has it."""
        return hash(self.id)

    def __repr__(self) -> str:
        """Say which, without asking the store."""
        return f"<roving.tasks.Job {self.id}>"


def _unknown(id: str) -> UnknownJob:
    return UnknownJob(f"no job {id} is in the store: it was pruned, or it is another store's")
