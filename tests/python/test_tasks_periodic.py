"""Periodic tasks, by a clock that is set by hand."""

import logging
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import roving
from roving._roving import _ManualClock
from roving.tasks import ScheduleError, Tasks
from roving.tasks._periodic import AGAIN, LONGEST, Beat

MINUTE = 60_000
NOON = int(datetime(2026, 3, 1, 12, tzinfo=UTC).timestamp() * 1000)


class Site:
    """Tasks, and what tells their time; as often as there are processes."""

    def __init__(self, url: str) -> None:
        """Begin at noon."""
        self.url = url
        self.clock = _ManualClock(NOON)
        self.tasks = self.process()

    def process(self) -> Tasks:
        """Open the store (again): a memory store has but one process."""
        return Tasks(self.url, store={"clock": self.clock})

    def ran(self, tasks: Tasks | None = None) -> list[str]:
        """Say when jobs were enqueued, and for what."""
        jobs = (tasks or self.tasks).jobs(newest_first=False, limit=1000)
        return [f"{job.task} {job.enqueued_at:%H:%M}" for job in jobs]


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site with each store."""
    made = Site("memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'jobs.db'}")
    yield made
    made.tasks.close()


def tidy() -> None:
    """Do nothing."""


def declared(tasks: Tasks, expression: str = "*/5 * * * *", **options: Any) -> Beat:
    """Declare the task above, and make a beat."""
    known = [task for task in tasks if task.function is tidy]
    tasks.periodic(expression, **options)(known[0] if known else tidy)
    return Beat(tasks._store, tasks._periodics.values())


def test_one_job_a_tick(site: Site) -> None:
    """However many look, and however often."""
    beats = [
        declared(site.tasks),
        *[Beat(site.tasks._store, site.tasks._periodics.values()) for _ in range(3)],
    ]
    for minute in range(21):
        for beat in beats:
            assert beat.step() == pytest.approx(60.0)
        assert len(site.ran()) == minute // 5
        site.clock.advance(MINUTE)
    task = f"{tidy.__module__}.tidy"
    assert site.ran() == [f"{task} 12:05", f"{task} 12:10", f"{task} 12:15", f"{task} 12:20"]


def test_one_job_a_tick_of_several_processes(tmp_path: Path) -> None:
    """That share a file."""
    site = Site(f"sqlite:{tmp_path / 'jobs.db'}")
    beats = [declared(tasks) for tasks in (site.tasks, site.process(), site.process())]
    for _ in range(11):
        for beat in beats:
            beat.step()
        site.clock.advance(MINUTE)
    assert [line[-5:] for line in site.ran()] == ["12:05", "12:10"]


def test_missed_ticks_are_one_job(site: Site) -> None:
    """Be they missed before the first one, or later."""
    declared(site.tasks).step()
    site.clock.advance(57 * MINUTE)
    # Another process, after a pause.
    beat = Beat(site.tasks._store, site.tasks._periodics.values())
    assert beat.step() == 60.0
    site.clock.advance(3 * MINUTE)
    beat.step()
    site.clock.advance(24 * 60 * MINUTE)
    beat.step()
    beat.step()
    assert [line[-5:] for line in site.ran()] == ["12:57", "13:00", "13:00"]


def test_it_rests_until_the_next_tick(site: Site) -> None:
    """But never for long: clocks are set."""
    site.clock.advance(-20_000)
    beat = declared(site.tasks)
    assert beat.step() == pytest.approx(20.0)
    site.clock.advance(20_000)
    assert beat.step() == LONGEST
    assert Beat(site.tasks._store, []).step() == LONGEST


def test_a_clock_set_back_runs_nothing_twice(site: Site) -> None:
    """And goes on where it was."""
    beat = declared(site.tasks)
    beat.step()
    site.clock.advance(10 * MINUTE)
    beat.step()
    site.clock.advance(-8 * MINUTE)
    for _ in range(13):
        beat.step()
        site.clock.advance(MINUTE)
    assert len(site.ran()) == 1
    site.clock.advance(MINUTE)
    beat.step()
    assert len(site.ran()) == 2


def test_a_clock_that_was_wrong_for_a_moment(site: Site) -> None:
    """A year ahead, and back: the schedule does not wait for a year."""
    beats = [declared(site.tasks), Beat(site.tasks._store, site.tasks._periodics.values())]
    year = 365 * 24 * 60 * MINUTE
    for beat in beats:
        beat.step()
    site.clock.advance(year)
    for beat in beats:
        beat.step()
    assert len(site.ran()) == 1
    site.clock.advance(-year)
    for _ in range(6):
        for beat in beats:
            beat.step()
        site.clock.advance(MINUTE)
    assert len(site.ran()) == 2


def test_overlap(site: Site) -> None:
    """Jobs pile up where nobody runs them, unless they may not overlap."""
    beat = declared(site.tasks, name="one", overlap=False)
    declared(site.tasks, name="all")
    beat = Beat(site.tasks._store, site.tasks._periodics.values())
    beat.step()
    for _ in range(3):
        site.clock.advance(5 * MINUTE)
        beat.step()
    assert len(site.ran()) == 4
    with site.tasks.worker(concurrency=1) as worker:
        assert all(site.tasks.job(job.id).wait(10) for job in site.tasks.jobs())
        worker.stop()
    site.clock.advance(5 * MINUTE)
    beat.step()
    assert len(site.ran()) == 6


def test_arguments_and_several_schedules(site: Site) -> None:
    """A task may have more than one."""
    tasks, seen = site.tasks, []

    @tasks.periodic("0 * * * *", name="hourly", args=(1,), kwargs={"b": datetime(2026, 1, 1, tzinfo=UTC)})
    @tasks.periodic(every=timedelta(minutes=10), name="often", args=(2,))
    @tasks.task(name="note", queue="notes")
    def note(a: int, b: Any = None) -> None:
        seen.append((a, b))

    beat = Beat(tasks._store, tasks._periodics.values())
    beat.step()
    site.clock.advance(60 * MINUTE)
    beat.step()
    with tasks.worker():
        assert all(tasks.job(job.id).wait(10) for job in tasks.jobs(queue="notes"))
    assert sorted(seen, key=repr) == [(1, datetime(2026, 1, 1, tzinfo=UTC)), (2, None)]
    assert tasks._admin.ticks() == {"hourly": NOON + 60 * MINUTE, "often": NOON + 60 * MINUTE}


def test_a_store_that_fails_is_tried_again(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """With a word in the log, and nothing lost."""
    beat = declared(site.tasks)
    beat.step()
    fresh = Beat(site.tasks._store, site.tasks._periodics.values())
    site.clock.advance(5 * MINUTE)
    site.tasks.close()
    with caplog.at_level(logging.ERROR, "roving.tasks"):
        assert beat.step() == AGAIN
        assert fresh.step() == AGAIN
    assert "no job was enqueued" in caplog.text
    assert "the store does not tell their last ticks" in caplog.text
    if site.url != "memory:":
        site.tasks = site.process()
        declared(site.tasks).step()
        assert len(site.ran()) == 1


def test_one_that_fails_does_not_keep_others(site: Site, caplog: pytest.LogCaptureFixture) -> None:
    """Its job cannot be made, say."""
    tasks = site.tasks
    arguments: dict[str, Any] = {"x": 1}
    tasks.periodic("* * * * *", name="bad", kwargs={"value": arguments})(
        tasks.task(name="taker")(lambda value: None)
    )
    beat = declared(tasks)
    beat.step()
    # What it holds is the same dict: it was good when it was declared.
    arguments["x"] = object()
    site.clock.advance(5 * MINUTE)
    assert beat.step() == LONGEST
    assert [line[:-6].rpartition(".")[2] for line in site.ran()] == ["tidy"]
    assert "periodic task bad: no job was enqueued" in caplog.text


WRONG: list[tuple[tuple[Any, ...], dict[str, Any], type[Exception], str]] = [
    ((), {}, TypeError, "one of the two"),
    (("* * * * *",), {"every": 5}, TypeError, "one of the two"),
    (("* 25 * * *",), {}, ScheduleError, "the hour field '25': 25 is not from 0 to 23"),
    (("* * * * *",), {"tz": "Mars/Olympus"}, ScheduleError, "no such time zone"),
    ((), {"every": 0}, ScheduleError, "every= is from 0.1 seconds"),
    ((), {"every": "5m"}, TypeError, "every= is a timedelta"),
    (("* * * * *",), {"args": (1,)}, TypeError, "too many positional arguments"),
    (("* * * * *",), {"name": "x\0"}, ValueError, "a schedule's name"),
    (("* * * * *",), {"retrys": 1}, TypeError, "did you mean retries="),
]


@pytest.mark.parametrize(("args", "options", "kind", "told"), WRONG)
def test_wrong_declarations_are_told(
    args: tuple[Any, ...], options: dict[str, Any], kind: type[Exception], told: str
) -> None:
    """Where they stand, and not when the time comes."""
    with Tasks("memory:") as tasks, pytest.raises(kind, match=told):
        tasks.periodic(*args, **options)(tidy)


def test_two_of_one_name_are_told() -> None:
    """They would share their ticks."""
    with Tasks("memory:") as tasks:
        task = tasks.periodic("@daily")(tidy)
        with pytest.raises(ValueError, match=r"there is a schedule '.*tidy' already"):
            tasks.periodic("@hourly")(task)
        with pytest.raises(TypeError, match="is a task: queue is for its declaration"):
            tasks.periodic("@hourly", name="other", queue="q")(task)


def test_a_worker_beats() -> None:
    """By the real clock; and stops at once."""
    ran = roving.Event()
    with Tasks("memory:") as tasks:

        @tasks.periodic(every=0.1)
        def often() -> None:
            ran.set()

        with tasks.worker() as worker:
            assert ran.wait(10)
        assert worker._beat is not None
        worker._beat.join(5)
