"""The workers of --tasks: jobs beside requests, in one process."""

from __future__ import annotations

import time
from collections.abc import Iterable
from typing import TYPE_CHECKING

import roving
from roving.serve._log import logger

if TYPE_CHECKING:
    from roving.tasks._app import Tasks
    from roving.tasks._worker import Worker

__all__ = ["Jobs", "find"]


def find(targets: Iterable[str], folder: str) -> list[Tasks]:
    """Import what --tasks names, each once.

    Raises CannotLoad when there is no such Tasks; what its module raises is raised as it is.
    """
    found: list[Tasks] = []
    for target in targets:
        # Not imported without need: most servers have no jobs.
        from roving.tasks._load import load

        tasks = load(target, folder=folder)
        if tasks not in found:
            found.append(tasks)
    return found


class Jobs:
    """Workers that run jobs in this process, as background fibers: requests go first."""

    def __init__(self, all: Iterable[Tasks], *, queues: list[str], concurrency: int, grace: float) -> None:
        """Make a worker for each; none begins yet."""
        self._workers: list[Worker] = [
            tasks.worker(queues=queues, concurrency=concurrency, grace=grace) for tasks in all
        ]
        self._ends: list[roving.Fiber[bool]] = []
        self._began = 0.0

    def start(self) -> None:
        """Begin to run jobs. Raises StoreError when a store fails: none runs then."""
        try:
            for worker in self._workers:
                worker.start()
                where = ", ".join(worker.queues) or "all queues"
                logger.info("jobs of %s, from %s: %d at a time", where, worker.tasks.url, worker.concurrency)
        except BaseException:
            self.stop(0.0)
            self.finish()
            raise

    def stop(self, grace: float) -> None:
        """Begin no more jobs, and let those that run finish within `grace` seconds. Does not wait."""
        if self._workers and not self._ends:
            self._began = time.monotonic()
            running = sum(worker.running for worker in self._workers)
            logger.info("no more jobs are begun; %d run", running)
            end = roving.options(daemon=True, name="roving serve: end of jobs")
            self._ends = [end.spawn(worker.stop, grace) for worker in self._workers]

    def hurry(self) -> None:
        """Stop those that still run where they are, without their grace."""
        if self._ends:
            end = roving.options(daemon=True, name="roving serve: end of jobs")
            self._ends += [end.spawn(worker.stop, 0.0) for worker in self._workers]

    def finish(self) -> None:
        """Wait for the end of what was told to stop; what was not finished has been handed back by then."""
        finished = [end.join() for end in self._ends]
        if finished and all(finished):
            logger.info("jobs ended after %.1f s", time.monotonic() - self._began)
        elif finished:
            logger.warning("jobs that did not finish in time have been handed back, and run again")
