"""A worker: claims jobs, runs each in a fiber, and acknowledges it."""

from __future__ import annotations

import atexit
import os
import socket
from collections.abc import Iterable
from types import TracebackType
from typing import TYPE_CHECKING, Any

import roving
from roving._roving import StaleAttempt, StoreError, UnknownWorker
from roving.tasks._attempt import Attempt
from roving.tasks._hooks import logger
from roving.tasks._limits import Limits
from roving.tasks._periodic import Beat
from roving.tasks._run import Ended, describe, run

if TYPE_CHECKING:
    from roving.tasks._app import Tasks

__all__ = ["Running", "Worker"]

# Claimed at a time.
_BATCH = 64
# Seconds before a store that failed is tried again.
_PAUSE = 1.0
# Seconds for what is stopped to clean up: `cancel_grace`, and a bit.
_CLEAN_UP = 6.0


class Running:
    """An attempt that runs here."""

    __slots__ = ("fiber", "over", "reason", "record", "token")

    def __init__(self, token: Any, record: dict[str, Any]) -> None:
        """Take what was claimed."""
        self.token = token
        self.record = record
        self.fiber: roving.Fiber[Any] | None = None
        """What runs it, once it has begun."""
        self.reason: str | None = None
        """Why it was asked to stop: timeout, cancel or stop."""
        self.over = False
        """Whether its function has come to an end: nothing stops it any more."""


class Worker:
    """Runs the jobs of a Tasks in this process, each as a background fiber: made by `Tasks.worker`.

    Args:
        tasks: Whose jobs.
        queues: Of these queues alone; of all if nothing is said.
        concurrency: How many at a time (100).
        name: What the store shows it as; host and process if nothing is said.
        grace: For how many seconds `stop` lets jobs run on (30).

    >>> with tasks.worker(concurrency=10):
    ...     send.delay("a@b.c").get()
    """

    def __init__(
        self,
        tasks: Tasks,
        *,
        queues: Iterable[str] = (),
        concurrency: int = 100,
        name: str | None = None,
        grace: float = 30.0,
    ) -> None:
        """Made by `Tasks.worker`; it does nothing until it is started."""
        if isinstance(concurrency, bool) or not isinstance(concurrency, int) or concurrency < 1:
            raise ValueError(f"concurrency is a number from 1 on, not {concurrency!r}")
        if isinstance(queues, str):
            raise TypeError(f"queues are several names: [{queues!r}]")
        self.tasks = tasks
        self.queues = list(queues)
        self.concurrency = concurrency
        self.name = name or f"{socket.gethostname()}:{os.getpid()}"
        self.grace = grace
        # By attempt: of a job that was taken over from here, and came back, there are two.
        self._running: set[Running] = set()
        self._limits = Limits()
        self._finished = roving.Event()
        self._stopping = roving.Event()
        self._beat: roving.Fiber[None] | None = None
        self._stops = False
        self._drains = False
        self._wants_room = False
        self._id = 0
        self._fiber: roving.Fiber[None] | None = None

    def start(self, *, drain: bool = False) -> Worker:
        """Begin to claim jobs, in fibers; return at once. With `drain` it ends when none is left to run.

        Raises StoreError when the store fails, RuntimeError when it was started before.
        """
        if self._fiber is not None:
            raise RuntimeError("a worker is started once")
        store, admin = self.tasks._store, self.tasks._admin
        stats = admin.stats() if self.tasks.queues else {}
        for queue, count in self.tasks.queues.items():
            admin.set_queue(queue, count, stats.get(queue, {}).get("paused", False))
        for task in self.tasks:
            if task.limit is not None:
                admin.set_rate(task.limit, task.options.rate_limit)
        self._watch = store.watch()
        self._id = store.register(self.name)
        self._drains = drain
        if drain:
            # The last job may be another worker's.
            self._watch.tell_finished()
        self._fiber = roving.options(name="tasks: worker", daemon=True).spawn(self._main)
        if self.tasks._periodics and not drain:
            beat = Beat(store, self.tasks._periodics.values())
            self._beat = roving.options(name="tasks: periodic", daemon=True).spawn(
                beat.run, self._stopping.wait
            )
        # After the first spawn, and so called before the runtime is stopped, which would cancel the jobs.
        atexit.register(self.stop, 0)
        return self

    @property
    def running(self) -> int:
        """How many jobs run now."""
        return len(self._running)

    def stop(self, grace: float | None = None) -> bool:
        """Claim no more, let jobs that run finish within `grace` seconds, and hand the others back.

        Those are stopped where they are, and run again elsewhere, or later. Returns whether all had finished.
        """
        if self._fiber is None:
            return True
        self._stops = True
        self._stopping.set()
        self._watch.wake()
        finished = self._finished.wait(self.grace if grace is None else grace)
        if not finished:
            self._stop_all()
            # Clean-up has its own grace; a task that never hears is left, and its worker counts as dead.
            if not self._finished.wait(_CLEAN_UP):
                logger.error("%d jobs do not stop: they are left behind, and run again", len(self._running))
        return finished

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has ended, for at most `timeout` seconds; return whether it has."""
        return self._finished.wait(timeout)

    def __enter__(self) -> Worker:
        """Start it."""
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Stop it."""
        self.stop()

    # The fiber that claims

    def _main(self) -> None:
        try:
            while True:
                try:
                    if self._is_over():
                        break
                    self._turn()
                except UnknownWorker:
                    # Somebody took it for dead. Jobs it has run on, and their acknowledgements are stale.
                    logger.warning("the worker %s was given up by the store, and registers again", self.name)
                    self._stop_all()
                    self._id = self.tasks._store.register(self.name)
                except StoreError as error:
                    if getattr(error, "kind", "") in ("closed", "forked"):
                        logger.error("the worker %s ends: %s", self.name, error)
                        break
                    logger.error("the job store fails, and is tried again in %g s: %s", _PAUSE, error)
                    roving.sleep(_PAUSE)
        finally:
            self._end()

    def _is_over(self) -> bool:
        if self._running:
            return False
        return self._stops

    def _turn(self) -> None:
        """Claim once, and wait until there may be more to do."""
        # Before the count: who ends after it sees the wish.
        self._wants_room = True
        room = self.concurrency - len(self._running)
        asked = 0 if self._stops else min(room, _BATCH)
        claimed = self.tasks._store.claim(self._id, self.queues, asked) if asked else []
        for token, record in claimed:
            self._begin(Running(token, record))
        if asked and len(claimed) == asked:
            return
        if self._drains and not claimed and not self._running and not self._stops and not self._left():
            self._stops = True
            return
        if room > 0 and not self._stops and not self._drains:
            # It has all there is: nobody need tell it that there is room.
            self._wants_room = False
        _, _, cancels, _ = self._watch.wait()
        if cancels:
            for running in list(self._running):
                if running.record["id"] in cancels:
                    self._limits.stop(running, "cancel")

    def _stop_all(self) -> None:
        for running in list(self._running):
            self._limits.stop(running, "stop")

    def _left(self) -> bool:
        """Whether any job of these queues is still to be run: by this worker, or by one that may die."""
        for name, queue in self.tasks._admin.stats().items():
            if self.queues and name not in self.queues:
                continue
            if queue["queued"] + queue["scheduled"] + queue["running"] + queue["waiting"]:
                return True
        return False

    def _end(self) -> None:
        self._stopping.set()
        self._limits.close()
        try:
            self.tasks._store.retire(self._id)
        except StoreError as error:
            logger.error("the worker %s cannot retire: %s", self.name, error)
        self._watch.close()
        atexit.unregister(self.stop)
        self._finished.set()

    # The fiber of a job

    def _begin(self, running: Running) -> None:
        self._running.add(running)
        name = f"job {running.record['id']}"
        options = roving.options(name=name, daemon=True, background=True)
        options.spawn(self._job, running)

    def _job(self, running: Running) -> None:
        try:
            # Before it looks whether it is to stop: whoever wants it to says so first, and then looks for it.
            running.fiber = roving.current()
            ended = self._run(running)
            running.over = True
            # Whoever stops it now is late, and what follows waits.
            with roving.shield():
                self._acknowledge(running, ended)
        finally:
            running.over = True
            self._running.discard(running)
            if self._wants_room or self._stops or self._drains:
                self._watch.wake()

    def _run(self, running: Running) -> Ended:
        if running.reason is not None:
            return Ended(("cancelled",) if running.reason == "cancel" else ("hand_back",))
        task = self.tasks._by_name.get(running.record["task"])
        if task is not None and (task.options.timeout or task.options.soft_timeout):
            self._limits.add(running, task.options.timeout, task.options.soft_timeout)
        return run(self.tasks, running.record, lambda: running.reason)

    def _acknowledge(self, running: Running, ended: Ended) -> None:
        attempt = Attempt(self.tasks, running.record)
        store = self.tasks._store
        try:
            try:
                store.acknowledge(running.token, ended.outcome)
            except ValueError as error:
                # A result that the store does not take.
                ended = Ended(("failed", *describe(error)), "failed", error)
                store.acknowledge(running.token, ended.outcome)
        except StaleAttempt:
            logger.warning("%s was taken over while it ran: this outcome of it does not count", attempt)
            return
        except StoreError as error:
            # The store has it as running still: once this worker has ended it runs again.
            logger.error("%s ended, and that cannot be noted: %s", attempt, error)
            return
        if ended.event in ("failed", "retried"):
            level = logger.error if ended.event == "failed" else logger.warning
            level("%s %s: %s", attempt, ended.event, ended.outcome[1])
        if ended.event is not None:
            self.tasks.hooks._call(ended.event, attempt, ended.value)
        self.tasks.hooks._call("after", attempt)

    def __repr__(self) -> str:
        """Say which."""
        return f"<roving.tasks.Worker {self.name}, {len(self._running)} jobs>"
