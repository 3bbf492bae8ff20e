"""Work of several jobs: chains, groups and chords.

All jobs of a canvas are enqueued at once, in one commit; the later ones wait for the group of the earlier
ones (`waits_for`, `group` in `store/src/job.rs`). It is the store that queues a link, in the commit that
acknowledges the one before: no moment of death lies between the two, and nobody has to be there to pass
anything on.

A result is not copied into what waits for it: a `Result` stands in its arguments, and is read when it runs.

| canvas | of the group | waits for the group |
|---|---|---|
| `chain(a, b, c)` | a: 1, b: 2 | b: 1, c: 2 |
| `group(a, b)` | | |
| `chord([a, b], c)`, `chain(group(a, b), c)` | a, b: 1 | c: 1 |
| `chain(a, group(b, c), d)` | a: 1, b and c: 2 | b and c: 1, d: 2 |
"""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

from roving._roving import _JobStore
from roving.tasks._errors import DecodeError
from roving.tasks._job import FINISHED, Job
from roving.tasks._values import Result

if TYPE_CHECKING:
    from roving.tasks._app import Tasks
    from roving.tasks._task import Task

__all__ = ["Call", "Canvas", "Chain", "Chord", "Group", "JobGroup", "chain", "chord", "group", "resolve"]

# For how many milliseconds a result is kept that somebody takes.
_SHORTEST = 60_000

# What a canvas gives: a result, or a list of what its parts give.
type Output = Result | list[Output]


class Canvas:
    """What can be a part of a chain, a group or a chord: a Call, or one of those."""

    def delay(self, *args: Any, **kwargs: Any) -> Job | JobGroup:
        """Enqueue all its jobs, in one commit, and return once they are on disk.

        The arguments go to the first jobs, before their own. Returns the last job, or the last jobs.

        Raises as Task.delay does, ValueError for an empty canvas, for tasks of several Tasks, and for a task
        with unique= that others would wait for.
        """
        plan = _Plan()
        output = self._place(plan, args, kwargs, None, None, None)
        return plan.enqueue(output)

    def _place(
        self,
        plan: _Plan,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: Output | None,
        after: str | None,
        joins: str | None,
    ) -> Output:
        """Add its jobs to a plan.

        Args:
            plan: What will be enqueued.
            args: What its first jobs get before their own arguments.
            kwargs: By name.
            given: What goes before it gives.
            after: The group that its first jobs wait for.
            joins: The group that its last jobs are of.
        """
        raise NotImplementedError

    def __or__(self, other: Canvas) -> Chain:
        """Chain: `a.s() | b.s()`."""
        if not isinstance(other, Canvas):
            return NotImplemented
        return Chain([self, other])


class Call(Canvas):
    """A call of a task with some of its arguments, to be enqueued later: what `.s()` and `.si()` make.

    >>> add.s(2).delay(40).get()
    42
    """

    __slots__ = ("args", "immutable", "kwargs", "options", "task")

    def __init__(
        self,
        task: Task[..., Any],
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        immutable: bool = False,
        options: dict[str, Any] | None = None,
    ) -> None:
        """Made by `Task.s` and `Task.si`."""
        self.task = task
        self.args = args
        self.kwargs = kwargs
        self.immutable = immutable
        """Whether it takes nothing from what goes before."""
        self.options = options or {}
        """Those of `apply_async`."""

    def set(self, **options: Any) -> Call:
        """Give a call with options of `apply_async`: countdown, eta, expires, priority, queue."""
        return Call(self.task, self.args, self.kwargs, self.immutable, self.options | options)

    def _place(
        self,
        plan: _Plan,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: Output | None,
        after: str | None,
        joins: str | None,
    ) -> Output:
        if self.immutable:
            args, kwargs, given = (), {}, None
        before = () if given is None else (given,)
        job = self.task._new((*before, *args, *self.args), kwargs | self.kwargs, self.options)
        if joins is not None and job.get("unique"):
            raise ValueError(
                f"{self.task.name} is unique, and other jobs would wait for this one: where there is one "
                "already it would not be enqueued, and they would wait for nothing"
            )
        job["id"] = _JobStore.new_id()
        if after is not None:
            job["waits_for"] = after
        if joins is not None:
            job["group"] = joins
            # Where jobs run eagerly nobody waits yet who would hold the result.
            job["keep"] = max(job["keep"], _SHORTEST)
        plan.add(self.task._tasks, self.task, job)
        return Result(job["id"])

    def __repr__(self) -> str:
        """Write it as a call."""
        parts = [repr(value) for value in self.args]
        parts += [f"{name}={value!r}" for name, value in self.kwargs.items()]
        return f"{self.task.name}{'.si' if self.immutable else '.s'}({', '.join(parts)})"


class _Several(Canvas):
    """A canvas of parts."""

    def __init__(self, parts: Iterable[Canvas]) -> None:
        """Take the parts."""
        self.parts = list(parts)
        for part in self.parts:
            if not isinstance(part, Canvas):
                raise TypeError(
                    f"{type(self).__name__.lower()}() takes calls (task.s(...)), chains, groups and chords, "
                    f"and {part!r} is none"
                )

    def __repr__(self) -> str:
        """Write it as it was made."""
        return f"{type(self).__name__.lower()}({', '.join(map(repr, self.parts))})"


class Chain(_Several):
    """One after the other, each with the result of the one before; see `chain`."""

    def _place(
        self,
        plan: _Plan,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: Output | None,
        after: str | None,
        joins: str | None,
    ) -> Output:
        output = given if given is not None else []
        # What follows the last job, groups of nothing, has nobody who could be waited for.
        last = max((at for at, part in enumerate(self.parts) if not _is_empty(part)), default=-1)
        for at, part in enumerate(self.parts):
            group = joins if at >= last else _JobStore.new_id()
            before = len(plan.jobs)
            output = part._place(plan, args, kwargs, given, after, group)
            given, args, kwargs = output, (), {}
            # A group of nothing has nobody who could be waited for.
            if len(plan.jobs) > before:
                after = group
        return output


def _is_empty(part: Canvas) -> bool:
    return isinstance(part, _Several) and all(map(_is_empty, part.parts))


class Group(_Several):
    """At the same time; see `group`."""

    def _place(
        self,
        plan: _Plan,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        given: Output | None,
        after: str | None,
        joins: str | None,
    ) -> Output:
        return [part._place(plan, args, kwargs, given, after, joins) for part in self.parts]


class Chord(Chain):
    """A group, and a part that gets the list of its results; see `chord`."""

    def __init__(self, header: Iterable[Canvas] | Group, body: Canvas) -> None:
        """Take both."""
        super().__init__([header if isinstance(header, Group) else Group(header), body])


def _parts(parts: tuple[Any, ...]) -> Iterable[Any]:
    """Take parts one by one, or all of them as one iterable."""
    if len(parts) == 1 and not isinstance(parts[0], Canvas) and isinstance(parts[0], Iterable):
        return parts[0]
    return parts


def chain(*parts: Canvas | Iterable[Canvas]) -> Chain:
    """Run jobs one after the other, each with the result of the one before as its first argument.

    A part that fails for good fails those after it. Retried by hand, it has them go on where they stood.

    >>> chain(fetch.s(url), parse.s(), store.s(table)).delay()
    """
    made = Chain(_parts(parts))
    if not made.parts:
        raise ValueError("chain() takes at least one part")
    return made


def group(*parts: Canvas | Iterable[Canvas]) -> Group:
    """Run jobs at the same time. Followed by something, that gets the list of their results, in this order.

    >>> group(resize.s(image, size) for size in sizes).delay().get()
    """
    return Group(_parts(parts))


def chord(header: Iterable[Canvas] | Group, body: Canvas) -> Chord:
    """Run a group, and once all of it succeeded, a job with the list of its results as the first argument.

    If one of the group fails for good, so does the body. Once that one has been retried by hand and succeeds,
    the body runs. The group's results are kept for it until then.

    >>> chord((count.s(page) for page in pages), total.s()).delay().get()
    """
    return Chord(header, body)


class JobGroup(Sequence["Job | JobGroup"]):
    """The jobs of a group, in its order: what `group(...).delay()` returns.

    >>> jobs = group(add.s(1, 2), add.s(3, 4)).delay()
    >>> jobs.get(timeout=5)
    [3, 7]
    """

    __slots__ = ("_jobs",)

    def __init__(self, jobs: Iterable[Job | JobGroup]) -> None:
        """Made by `delay`."""
        self._jobs = list(jobs)

    def get(self, timeout: float | None = None) -> list[Any]:
        """Wait until all are finished, and return their results; raises as Job.get does, for the first."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return [job.get(_left(deadline)) for job in self._jobs]

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until all are finished, for at most `timeout` seconds; return whether they are."""
        deadline = None if timeout is None else time.monotonic() + timeout
        return all(job.wait(_left(deadline)) for job in self._jobs)

    def cancel(self) -> bool:
        """Cancel all; return whether one was not finished yet."""
        cancelled = [job.cancel() for job in self._jobs]
        return any(cancelled)

    def counts(self) -> dict[str, int]:
        """Say how many jobs there are of each status."""
        counts: dict[str, int] = {}
        for job in self.jobs():
            status = job.status
            counts[status] = counts.get(status, 0) + 1
        return counts

    @property
    def finished(self) -> bool:
        """Whether nothing more happens to any of them."""
        return self.counts().keys() <= FINISHED

    def jobs(self) -> Iterator[Job]:
        """Give all jobs, those of groups within as well."""
        for job in self._jobs:
            if isinstance(job, JobGroup):
                yield from job.jobs()
            else:
                yield job

    def __getitem__(self, at: Any) -> Any:
        """Give the job of a place."""
        return self._jobs[at]

    def __len__(self) -> int:
        """Count them."""
        return len(self._jobs)

    def __repr__(self) -> str:
        """Show them."""
        return f"<roving.tasks.JobGroup {self._jobs!r}>"


def _left(deadline: float | None) -> float | None:
    return None if deadline is None else max(0.0, deadline - time.monotonic())


class _Plan:
    """Jobs to be enqueued together, in an order in which each comes after those it waits for."""

    def __init__(self) -> None:
        """Begin without any."""
        self.jobs: list[dict[str, Any]] = []
        self._tasks: Tasks | None = None
        self._task: Task[..., Any] | None = None

    def add(self, tasks: Tasks, task: Task[..., Any], job: dict[str, Any]) -> None:
        """Add a job."""
        if self._tasks is not None and self._tasks is not tasks:
            raise ValueError(f"{task.name} is a task of other Tasks: one commit goes to one store")
        self._tasks, self._task = tasks, task
        self.jobs.append(job)

    def enqueue(self, output: Output) -> Job | JobGroup:
        """Enqueue them, and give those that the canvas ends with."""
        found: dict[str, Job] = {}
        if self._tasks is not None and self._task is not None:
            jobs = self._tasks._enqueue(self.jobs, self._task)
            found = {new["id"]: job for new, job in zip(self.jobs, jobs, strict=True)}

        def handle(output: Output) -> Job | JobGroup:
            if isinstance(output, Result):
                return found[output.id]
            return JobGroup(map(handle, output))

        return handle(output)


def resolve(tasks: Tasks, args: tuple[Any, ...]) -> tuple[Any, ...]:
    """Put the results of other jobs into the arguments of one that waited for them: into the first.

    Raises:
        DecodeError: A result cannot be read, or is not there: its job was purged by hand.
        StoreError: The store fails.
    """

    def read(given: Any) -> Any:
        if isinstance(given, list):
            return [read(part) for part in given]
        if not isinstance(given, Result):
            return given
        record = tasks._store.get(given.id)
        if record is None:
            raise DecodeError(f"the result of job {given.id}, which this one takes, is not there any more")
        if record["status"] != "succeeded" or record["result"] is None:
            raise DecodeError(f"job {given.id} of {record['task']}, whose result this one takes, has none")
        return tasks._decode_result(record)

    return (read(args[0]), *args[1:]) if args else args
