"""What jobs and those who wait for them raise."""

from typing import Any

__all__ = [
    "DuplicateTask",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobQuarantined",
    "Retry",
    "TaskTimeout",
    "UnknownTask",
]


class DuplicateTask(ValueError):
    """Raised at decoration: there is a task of this name already, and jobs could not tell them apart."""

    __module__ = "roving.tasks"


class UnknownTask(LookupError):
    """A job's task is not known to the worker that has it; its message says which are.

    The job is kept as failed. Once the task is there (again), retry the job by hand.
    """

    __module__ = "roving.tasks"


class TaskTimeout(TimeoutError):
    """What an attempt fails with when it took longer than its task's `timeout`.

    The task itself saw roving.Cancelled, which `finally` blocks see and `except Exception` does not.
    """

    __module__ = "roving.tasks"


class Retry(Exception):
    """Raised by `retry()` of a bound task's job, to be tried again. Do not catch it."""

    __module__ = "roving.tasks"

    def __init__(self, at: int | None, cause: BaseException | None) -> None:
        """Note when (in milliseconds since 1970; by the task's backoff where None), and why."""
        super().__init__("to be tried again")
        self.at = at
        self.cause = cause


class JobError(Exception):
    """Raised by Job.get where the job has no result. `job_id`, `task` and `status` say which one, and why."""

    __module__ = "roving.tasks"

    def __init__(self, record: dict[str, Any]) -> None:
        """Take what the store says of a job."""
        self.job_id: str = record["id"]
        self.task: str = record["task"]
        self.status: str = record["status"]
        self.error: str | None = record["error"]
        """The last exception, in a line."""
        self.traceback: str | None = record["traceback"]
        """The last exception's traceback, as text."""
        reason = f": {self.error}" if self.error else ""
        super().__init__(f"job {self.job_id} of {self.task} {_SAID.get(self.status, self.status)}{reason}")


_SAID = {"cancelled": "was cancelled", "quarantined": "is in quarantine"}


class JobFailed(JobError):
    """The job failed: `error` and `traceback` have what it raised last, which is also a note of this."""

    __module__ = "roving.tasks"

    def __init__(self, record: dict[str, Any]) -> None:
        """Take what the store says of a job."""
        super().__init__(record)
        if self.traceback:
            self.add_note(self.traceback)


class JobCancelled(JobError):
    """The job was cancelled."""

    __module__ = "roving.tasks"


class JobExpired(JobError):
    """The job had not begun when its time to begin was over."""

    __module__ = "roving.tasks"


class JobQuarantined(JobError):
    """Processes died under the job, so often that it is not run any more until somebody retries it."""

    __module__ = "roving.tasks"


BY_STATUS: dict[str, type[JobError]] = {
    "failed": JobFailed,
    "cancelled": JobCancelled,
    "expired": JobExpired,
    "quarantined": JobQuarantined,
}
