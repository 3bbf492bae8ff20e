"""Durable background jobs: on disk before `delay` returns, run at least once, whatever dies when.

>>> from roving.tasks import Tasks
>>> tasks = Tasks("sqlite:jobs.db")
>>> @tasks.task(retries=5, timeout=30)
... def send(to: str) -> str:
...     return f"sent to {to}"
>>> with tasks.worker():
...     send.delay("a@b.c").get(timeout=5)
'sent to a@b.c'

`roving tasks worker module:tasks` runs jobs in a process of their own. `docs/TASKS.md` has the rest.
"""

from roving._roving import SoftTimeout, StaleAttempt, StoreError, UnknownJob, WrongStatus
from roving.tasks._app import Tasks
from roving.tasks._attempt import Attempt, current
from roving.tasks._canvas import Call, Canvas, JobGroup, chain, chord, group
from roving.tasks._codec import Codec, JSONCodec
from roving.tasks._errors import DecodeError, EncodeError, ScheduleError
from roving.tasks._failures import (
    DuplicateTask,
    JobCancelled,
    JobError,
    JobExpired,
    JobFailed,
    JobQuarantined,
    TaskTimeout,
    UnknownTask,
)
from roving.tasks._job import Job, JobState
from roving.tasks._task import Task
from roving.tasks._worker import Worker

__all__ = [
    "Attempt",
    "Call",
    "Canvas",
    "Codec",
    "DecodeError",
    "DuplicateTask",
    "EncodeError",
    "JSONCodec",
    "Job",
    "JobCancelled",
    "JobError",
    "JobExpired",
    "JobFailed",
    "JobGroup",
    "JobQuarantined",
    "JobState",
    "ScheduleError",
    "SoftTimeout",
    "StaleAttempt",
    "StoreError",
    "Task",
    "TaskTimeout",
    "Tasks",
    "UnknownJob",
    "UnknownTask",
    "Worker",
    "WrongStatus",
    "chain",
    "chord",
    "current",
    "group",
]
