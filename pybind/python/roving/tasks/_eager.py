"""Jobs that run where they are enqueued: `Tasks(eager=True)`."""

from __future__ import annotations

import contextvars
from typing import TYPE_CHECKING, Any

from roving.tasks._attempt import Attempt
from roving.tasks._job import Job
from roving.tasks._run import Ended
from roving.tasks._run import run as run_attempt

if TYPE_CHECKING:
    from roving.tasks._app import Tasks

__all__ = ["run"]


def run(tasks: Tasks, jobs: list[dict[str, Any]]) -> list[Job]:
    """Run jobs, at once and as often as they may be tried, without a wait between; they go through the store.

    So arguments and results are written down and read, and what a test sees of a job is what a worker would
    have made of it. Etas, limits of time and rates do not count.
    """
    store = tasks._store
    worker = store.register("eager")
    try:
        # Together: one may wait for another.
        outcomes = store.enqueue([{**job, "eta": None, "limit": None} for job in jobs])
        found = []
        for outcome in outcomes:
            if isinstance(outcome, Exception):
                raise outcome
            how, id = outcome
            found.append(Job(tasks, id, how == "duplicate"))
        # A job may enqueue others, which run before it goes on, and then with them what is left of these.
        while claimed := store.claim(worker, [], 1):
            token, record = claimed[0]
            ended = contextvars.copy_context().run(run_attempt, tasks, record, lambda: None)
            then = ended.outcome
            if then[0] == "retry":
                then = (*then[:3], store.now())
            store.acknowledge(token, then)
            _tell(tasks, Attempt(tasks, record), ended)
        return found
    finally:
        store.retire(worker)


def _tell(tasks: Tasks, attempt: Attempt, ended: Ended) -> None:
    if ended.event is not None:
        tasks.hooks._call(ended.event, attempt, ended.value)
    tasks.hooks._call("after", attempt)
