"""Tasks that run by a schedule: one job a tick, however many processes look at the clock."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from roving._roving import StoreError, _JobStore
from roving.tasks._hooks import logger
from roving.tasks._schedule import EPOCH, Cron, Interval, Schedule, due

if TYPE_CHECKING:
    from datetime import tzinfo

    from roving.tasks._task import Task

__all__ = ["Beat", "Periodic", "declare", "schedule"]

_MILLISECOND = timedelta(milliseconds=1)
# For which the moment is kept at which a schedule began: a hundred years.
_KEEP = 100 * 366 * 86_400_000
# Clocks are set meanwhile: no sleep is longer.
LONGEST = 60.0
# After a failure of the store.
AGAIN = 5.0


@dataclass(frozen=True)
class Periodic:
    """A task and when it runs: what `Tasks.periodic` declares."""

    name: str
    schedule: Schedule
    task: Task[..., Any]
    args: tuple[Any, ...] = ()
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    overlap: bool = True

    def job(self) -> dict[str, Any]:
        """Make the job of a tick, as the store takes it."""
        job = self.task._new(self.args, dict(self.kwargs), {})
        if not self.overlap:
            job["unique"] = (f"periodic:{self.name}", False)
        return job


def schedule(expression: str | None, every: timedelta | float | None, tz: str | tzinfo) -> Schedule:
    """Make a schedule of what `Tasks.periodic` was given.

    Raises:
        TypeError: There is neither a cron expression nor `every`, or both.
        ScheduleError: One of them makes no schedule.
    """
    if (expression is None) == (every is None):
        raise TypeError('periodic() takes a cron expression ("*/5 * * * *") or every=, one of the two')
    if expression is not None:
        return Cron(expression, tz)
    if isinstance(every, int | float) and not isinstance(every, bool):
        every = timedelta(seconds=every)
    return Interval(every)  # type: ignore[arg-type]  # it looks for itself


def declare(
    known: dict[str, Periodic],
    task: Task[..., Any],
    when: Schedule,
    *,
    name: str | None = None,
    args: Iterable[Any] = (),
    kwargs: Mapping[str, Any] | None = None,
    overlap: bool = True,
) -> Periodic:
    """Add a schedule to those known. The job is made once now, so that what is wrong with it shows at once.

    Raises:
        ValueError: There is one of this name.
        TypeError: The task does not take these arguments.
    """
    periodic = Periodic(name or task.name, when, task, tuple(args), dict(kwargs or {}), overlap)
    if not periodic.name or len(periodic.name) > 200 or "\0" in periodic.name:
        raise ValueError(f"a schedule's name has 1 to 200 characters, and is {periodic.name[:40]!r}")
    periodic.job()
    if known.setdefault(periodic.name, periodic) is not periodic:
        raise ValueError(f"there is a schedule {periodic.name!r} already: give this one another name=")
    return periodic


class Beat:
    """Looks at the clock, and enqueues a job for each tick that nobody else enqueued one for.

    Every worker has one: the store takes the first job for a tick and no other (`Store::tick`), in the commit
    that notes the tick. So there is no leader that could be gone.

    What was missed while no process ran is made up for with one job. That goes for the time since the
    schedule was first seen, too, which the store keeps (`once`): a site that is down over the first
    midnight runs at breakfast.
    """

    def __init__(self, store: _JobStore, periodics: Iterable[Periodic]) -> None:
        """Take what there is to do."""
        self._store = store
        self._admin = store.admin()
        self._periodics = list(periodics)
        # The last tick of each, here or elsewhere, as far as is known.
        self._last: dict[str, datetime] = {}

    def step(self) -> float:
        """Enqueue what is due, and say in how many seconds something may be due again.

        What fails is logged, and tried again in the next step: it is due as long as no tick of it was noted.
        """
        now = _datetime(self._store.now())
        try:
            self._read(now)
        except StoreError as error:
            logger.error("periodic tasks: the store does not tell their last ticks: %s", error)
            return AGAIN
        failed = False
        for periodic in self._periodics:
            try:
                self._run(periodic, now)
            except StoreError as error:
                logger.error("periodic task %s: no job was enqueued: %s", periodic.name, error)
                failed = True
            except Exception:
                logger.exception("periodic task %s: no job was enqueued", periodic.name)
        following = min((periodic.schedule.next_after(now) for periodic in self._periodics), default=None)
        # The time it took counts.
        rest = LONGEST if following is None else (following - _datetime(self._store.now())).total_seconds()
        return max(0.0, min(rest, AGAIN if failed else LONGEST))

    def run(self, wait: Callable[[float], object]) -> None:
        """Step until `wait`, which is called with the seconds to the next step, returns something true."""
        while not wait(self.step()):
            pass

    def _read(self, now: datetime) -> None:
        if len(self._last) == len(self._periodics):
            return
        ticks = self._admin.ticks()
        for periodic in self._periodics:
            if periodic.name in ticks:
                self._last[periodic.name] = _datetime(ticks[periodic.name])
            else:
                key = f"periodic:{periodic.name}"
                before = self._admin.once(key, str(_milliseconds(now)).encode(), _KEEP)
                self._last[periodic.name] = now if before is None else _datetime(int(before))

    def _run(self, periodic: Periodic, now: datetime) -> None:
        last = self._last[periodic.name]
        if last > now + timedelta(days=1):
            # The clock was wrong then, or is now. The store sees it so, too.
            last = now
            self._last[periodic.name] = last
        tick = due(periodic.schedule, last, now)
        if tick is None:
            return
        how, found = self._admin.tick(periodic.name, _milliseconds(tick), periodic.job())
        self._last[periodic.name] = tick
        if how == "duplicate":
            logger.warning(
                "periodic task %s: the job before, %s, is not finished; left out", periodic.name, found
            )


def _datetime(milliseconds: int) -> datetime:
    return EPOCH + milliseconds * _MILLISECOND


def _milliseconds(moment: datetime) -> int:
    return (moment.astimezone(UTC) - EPOCH) // _MILLISECOND
