"""Tasks: a store of jobs, and the functions that they call."""

from __future__ import annotations

import os
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from datetime import timedelta, tzinfo
from types import TracebackType
from typing import TYPE_CHECKING, Any, overload

from roving._roving import _JobStore, _JobStoreAdmin
from roving.tasks import _attempt, _options, _periodic
from roving.tasks._codec import Codec, JSONCodec
from roving.tasks._failures import DuplicateTask
from roving.tasks._hooks import Hooks
from roving.tasks._job import Job, JobState
from roving.tasks._task import Task, name_of

if TYPE_CHECKING:
    from roving.tasks._worker import Worker

__all__ = ["Tasks"]


class Tasks:
    """A store of jobs, and the tasks whose jobs go there.

    Args:
        url: `sqlite:PATH`, a file on a local disk, for all processes of a machine; `memory:`, for tests.
        eager: Run jobs where they are enqueued, at once; for tests.
        codec: How arguments and results are written down; JSON if nothing is said.
        queues: How many jobs of a queue may run at a time, in all processes together.
        store: Settings of the store: `max_deaths` (3), `max_payload` in bytes (16 MiB), `keep_failed` and
            `busy_timeout` in seconds.

    Raises StoreError when the store cannot be opened, ValueError for a URL that is none.

    >>> tasks = Tasks("sqlite:jobs.db")
    >>> @tasks.task(queue="mail", retries=5, timeout=30)
    ... def send(to: str, subject: str) -> None: ...
    >>> job = send.delay("a@b.c", "hi")
    """

    def __init__(
        self,
        url: str,
        *,
        eager: bool = False,
        codec: Codec | None = None,
        queues: Mapping[str, int] | None = None,
        store: Mapping[str, Any] | None = None,
    ) -> None:
        """Open the store."""
        self.url = url
        """Where jobs are."""
        self.eager = eager
        """Whether jobs run where they are enqueued."""
        self.codec: Codec = JSONCodec() if codec is None else codec
        """How arguments and results are written down."""
        self.hooks = Hooks()
        self.queues = dict(queues or {})
        """How many jobs of a queue may run at a time."""
        for queue, count in self.queues.items():
            if isinstance(count, bool) or not isinstance(count, int) or count < 1:
                raise ValueError(f"queues: of {queue!r} at least one job runs at a time, not {count!r}")
        self._by_name: dict[str, Task[..., Any]] = {}
        self._periodics: dict[str, _periodic.Periodic] = {}
        # Where jobs run eagerly the file is not even made.
        self._settings = ("memory:" if eager else url, dict(store or {}))
        self._opened: tuple[_JobStore, _JobStoreAdmin] | None = None
        self._parents: object = None
        self._open()
        if self._settings[0] != "memory:":
            _in_children(self)

    def _open(self) -> _JobStore:
        store = _JobStore(*self._settings)
        self._opened = (store, store.admin())
        return store

    @property
    def _store(self) -> _JobStore:
        return self._open() if self._opened is None else self._opened[0]

    @property
    def _admin(self) -> _JobStoreAdmin:
        return self._store.admin() if self._opened is None else self._opened[1]

    # Declaring tasks

    @overload
    def task[**P, T](self, function: Callable[P, T], /) -> Task[P, T]: ...
    @overload
    def task(
        self, function: None = None, /, **options: Any
    ) -> Callable[[Callable[..., Any]], Task[..., Any]]: ...
    def task(self, function: Callable[..., Any] | None = None, /, **options: Any) -> Any:
        """Make a function a task.

        Options, each with Celery's name where it has one that means the same:
            name: What jobs know it by; `module.function` if nothing is said.
            queue, priority: Where its jobs go ("default"); higher priorities go first (0).
            retries: How often a job is tried again after an exception (0).
            backoff, backoff_max, jitter: Seconds before the first retry (1), doubled for each later one up to
                a maximum (600), and how much of them is left to chance (all); or a list of seconds.
            retry_for, no_retry_for: For which exceptions (Exception), and for which not.
            timeout, soft_timeout: After so many seconds an attempt is stopped; SoftTimeout is raised in it.
            unique: True: at a time one job with these arguments waits or runs; or a key, or a function of
                the arguments that gives one. No duplicate is enqueued: `delay` returns the job there is.
            rate_limit: "100/m": so many jobs begin in a minute, in all processes together.
            expires: A job that has not begun after so many seconds never will.
            keep_result: For how many seconds finished jobs are kept (True: a day); False keeps no result.
            bind: The function's first argument is the Attempt.

        Raises DuplicateTask when there is a task of this name, TypeError and ValueError for options that make
        no sense.
        """
        if function is None:
            return lambda function: self._declare(function, options)
        if not callable(function):
            raise TypeError(f"task() takes a function, or options by name, not {function!r}")
        return self._declare(function, options)

    def _declare(self, function: Callable[..., Any], options: dict[str, Any]) -> Task[..., Any]:
        name = options.get("name") or name_of(function)
        if "<locals>" in name and "name" not in options and not self.eager and self.url != "memory:":
            raise ValueError(
                f"{name} is a function within another: other processes could not find it. "
                "Define it in a module, or give it a name="
            )
        task = Task(self, function, name, _options.of_task(options))
        there = self._by_name.setdefault(name, task)
        if there is not task:
            code = there.function.__code__ if hasattr(there.function, "__code__") else None
            where = f" ({code.co_filename}:{code.co_firstlineno})" if code else ""
            raise DuplicateTask(f"there is a task {name!r} already{where}: give this one another name=")
        return task

    def periodic(
        self,
        expression: str | None = None,
        /,
        *,
        every: timedelta | float | None = None,
        tz: str | tzinfo = "UTC",
        name: str | None = None,
        args: Iterable[Any] = (),
        kwargs: Mapping[str, Any] | None = None,
        overlap: bool = True,
        **options: Any,
    ) -> Callable[[Callable[..., Any]], Task[..., Any]]:
        """Make a function a task that runs by a schedule, wherever a worker runs: one job a tick.

        However many processes there are, each tick enqueues one job; what was missed while there was none
        is made up for with one job. A task may have several schedules, with names of their own.

        Args:
            expression: Cron's five fields, or `@daily` and the like; see `Cron` for its rules where clocks
            are set. every: Instead: how often, as a timedelta or in seconds, counted from 1970. tz: The
            time zone of the expression, by its name. name: The schedule's, by which the store keeps its
            ticks; the task's, if nothing is said. args, kwargs: What the task is called with. overlap:
            Whether a job is enqueued while the one of the tick before has not finished. options: As for
            `task`, where the function is not a task yet.

        Raises ScheduleError, which says which field is wrong, and what `task` raises.

        >>> @tasks.periodic("30 2 * * MON-FRI", tz="Europe/Berlin")
        ... def tidy() -> None: ...
        """
        when = _periodic.schedule(expression, every, tz)

        def declare(function: Callable[..., Any]) -> Task[..., Any]:
            if isinstance(function, Task):
                if options:
                    raise TypeError(f"{function.name} is a task: {', '.join(options)} is for its declaration")
                task = function
            else:
                task = self._declare(function, options)
            known = self._periodics
            _periodic.declare(known, task, when, name=name, args=args, kwargs=kwargs, overlap=overlap)
            return task

        return declare

    def __getitem__(self, name: str) -> Task[..., Any]:
        """Give a task by its name. Raises KeyError."""
        return self._by_name[name]

    def __contains__(self, name: object) -> bool:
        """Whether there is a task of this name."""
        return name in self._by_name

    def __iter__(self) -> Iterator[Task[..., Any]]:
        """Give all tasks."""
        return iter(list(self._by_name.values()))

    # Jobs

    def job(self, id: str) -> Job:
        """Give a job by its id; whether there is one shows when it is asked something."""
        return Job(self, id)

    def jobs(
        self, *, limit: int = 100, after: str | None = None, newest_first: bool = True, **filter: Any
    ) -> list[JobState]:
        """List jobs: those with these `statuses`, this `queue`, `task`, `group` or `parent`; all without any.

        The next page is that `after` the id of the last one.

        >>> tasks.jobs(statuses=["failed"], queue="mail")
        [<job 0193... of shop.send, failed>]
        """
        found = self._admin.list(filter, after, limit, newest_first)
        return [JobState(record) for record in found]

    def purge(self, **filter: Any) -> int:
        """Delete jobs that do not run, picked as by `jobs`; return how many."""
        return self._admin.purge(filter)

    def stats(self) -> dict[str, dict[str, Any]]:
        """Say for each queue how many jobs it has of each status, and how many there have been."""
        return self._admin.stats()

    def pause(self, queue: str) -> None:
        """Have no process begin jobs of this queue, until `resume`."""
        self._admin.set_queue(queue, self._concurrency(queue), True)

    def resume(self, queue: str) -> None:
        """Have jobs of this queue begin again."""
        self._admin.set_queue(queue, self._concurrency(queue), False)

    def _concurrency(self, queue: str) -> int | None:
        known = self._admin.stats().get(queue, {})
        return self.queues.get(queue, known.get("concurrency"))

    def _parent(self) -> str | None:
        attempt = _attempt.current()
        return attempt.id if attempt is not None and attempt._tasks is self else None

    def _enqueue(self, jobs: list[dict[str, Any]], task: Task[..., Any]) -> list[Job]:
        if self.eager:
            from roving.tasks._eager import run

            return run(self, jobs)
        found = []
        for outcome in self._store.enqueue(jobs):
            if isinstance(outcome, Exception):
                raise outcome
            how, id = outcome
            found.append(Job(self, id, how == "duplicate"))
        return found

    def _decode_result(self, record: dict[str, Any]) -> Any:
        task = self._by_name.get(record["task"])
        return self.codec.decode_result(record["result"], None if task is None else task.signature)

    # Running them

    def worker(self, **options: Any) -> Worker:
        """Make a worker, which runs jobs in this process once it is started; see Worker."""
        from roving.tasks._worker import Worker

        return Worker(self, **options)

    def close(self) -> None:
        """Finish what was begun, and refuse everything from then on. Stop workers first."""
        self._store.close()

    def __enter__(self) -> Tasks:
        """Return itself; leaving closes it."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Say where jobs are."""
        return f"<roving.tasks.Tasks {self.url!r}, {len(self._by_name)} tasks>"


def _in_children(tasks: Tasks) -> None:
    """Have a fork's child open the file anew when it first uses it: the store's threads are its parent's."""
    known = weakref.ref(tasks)

    def forget() -> None:
        tasks = known()
        if tasks is not None:
            # Kept: to close it would be to wait for threads that are not here.
            tasks._parents, tasks._opened = tasks._opened, None

    os.register_at_fork(after_in_child=forget)
