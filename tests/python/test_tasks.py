"""Tasks, jobs and workers, with both stores."""

import datetime
import logging
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import roving
from roving.tasks import (
    Attempt,
    DuplicateTask,
    EncodeError,
    JobCancelled,
    JobExpired,
    JobFailed,
    StoreError,
    Task,
    Tasks,
    UnknownJob,
    WrongStatus,
    current,
)

type Make = Callable[..., Tasks]


@pytest.fixture(params=["memory", "sqlite"])
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Make]:
    """Open stores of one kind, which are closed at the end."""
    opened: list[Tasks] = []

    def open_one(**options: Any) -> Tasks:
        url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/jobs.db"
        opened.append(Tasks(url, **options))
        return opened[-1]

    yield open_one
    for tasks in opened:
        tasks.close()


@pytest.fixture
def tasks(make: Make) -> Tasks:
    """Open one."""
    return make()


def test_a_job_runs(tasks: Tasks) -> None:
    """What delay is given arrives, and what the function returns comes back."""

    @tasks.task(name="add")
    def add(a: int, b: int = 0) -> int:
        return a + b

    assert isinstance(add, Task)
    assert add(1, 2) == 3
    job = add.delay(1, b=2)
    assert job.status == "queued"
    assert job.result is None
    with tasks.worker():
        assert job.get(timeout=10) == 3
    state = job.state()
    assert (state.status, state.attempts, state.error) == ("succeeded", 1, None)
    assert job.result == 3
    enqueued, started, finished = job.enqueued_at, job.started_at, job.finished_at
    assert enqueued is not None
    assert started is not None
    assert finished is not None
    assert enqueued <= started <= finished
    assert enqueued.tzinfo is datetime.UTC
    # By its id, as another process would ask.
    assert tasks.job(job.id) == job
    assert tasks.job(job.id).get() == 3


def test_from_fibers_and_threads(tasks: Tasks) -> None:
    """Everybody may enqueue, and wait."""

    @tasks.task(name="double")
    def double(n: int) -> int:
        return 2 * n

    with tasks.worker():
        fibers = [roving.spawn(lambda n: double.delay(n).get(10), n) for n in range(20)]
        assert [fiber.join() for fiber in fibers] == [2 * n for n in range(20)]
        got: list[int] = []
        thread = threading.Thread(target=lambda: got.append(double.delay(50).get(10)))
        thread.start()
        thread.join()
        assert got == [100]


@dataclass
class Point:
    """Something that JSON has not."""

    x: int
    y: int


def test_values(tasks: Tasks) -> None:
    """Dataclasses come back by the annotations, results too."""

    @tasks.task(name="mirror")
    def mirror(point: Point, when: datetime.datetime) -> Point:
        assert when.year == 2031
        return Point(point.y, point.x)

    with tasks.worker():
        assert mirror.delay(Point(1, 2), datetime.datetime(2031, 1, 1)).get(10) == Point(2, 1)


def test_arguments_are_checked_at_delay(tasks: Tasks) -> None:
    """What cannot work is found where it was written, and nothing is enqueued."""

    @tasks.task(name="send")
    def send(to: str) -> None: ...

    with pytest.raises(EncodeError, match="argument 'to'"):
        send.delay(object())
    with pytest.raises(TypeError, match="send: missing a required argument: 'to'"):
        send.delay()
    with pytest.raises(TypeError, match="got an unexpected keyword argument 'cc'"):
        send.delay("a", cc="b")
    with pytest.raises(EncodeError):
        send.delay_many([("a",), (object(),)])
    with pytest.raises(ValueError, match="no time zone"):
        send.apply_async(("a",), eta=datetime.datetime(2031, 1, 1))
    with pytest.raises(TypeError, match="countdown and eta"):
        send.apply_async(("a",), eta=datetime.datetime.now(datetime.UTC), countdown=1)
    with pytest.raises(TypeError, match="did you mean countdown"):
        send.apply_async(("a",), countdwn=1)
    assert tasks.jobs() == []


def test_names(make: Make) -> None:
    """No two tasks of a name; functions within others have no name that others could find."""
    tasks = make()

    def send() -> None: ...

    first = tasks.task(name="send")(send)
    assert "send" in tasks
    assert tasks["send"] is first
    assert list(tasks) == [first]
    with pytest.raises(DuplicateTask, match=r"'send' already \(.*test_tasks.py:\d+\)"):
        tasks.task(name="send")(send)
    if tasks.url == "memory:":
        assert tasks.task(send).name.endswith("test_names.<locals>.send")
    else:
        with pytest.raises(ValueError, match="a function within another"):
            tasks.task(send)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"retries": -1}, "retries is from 0 on"),
        ({"timeout": "1"}, "timeout is in seconds"),
        ({"timeout": 1, "soft_timeout": 1}, "soft_timeout .* is not before timeout"),
        ({"rate_limit": "fast"}, "rate_limit is as in"),
        ({"retry_for": [1]}, "retry_for has exception classes"),
        ({"unique": 3}, "unique is True, a key"),
        ({"queue": ""}, "queue has 1 to 200 characters"),
        ({"backoff": []}, "backoff is an empty sequence"),
        ({"quue": "mail"}, "did you mean queue"),
    ],
)
def test_options_are_checked(options: dict[str, Any], message: str) -> None:
    """A mistake is found at decoration, and named."""
    with Tasks("memory:") as tasks, pytest.raises((TypeError, ValueError), match=message):
        tasks.task(**options)(lambda: None)


def test_celery_names(tasks: Tasks) -> None:
    """Names of Celery's are taken where they mean the same."""
    task = tasks.task(name="x", max_retries=7, time_limit=9, soft_time_limit=5, ignore_result=True)(print)
    options = task.options
    assert (options.retries, options.timeout, options.soft_timeout, options.keeps) == (7, 9.0, 5.0, False)


def test_failures(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    """The exception is kept as text: its type, message and traceback, without frames of ours."""

    @tasks.task(name="fail")
    def fail() -> None:
        raise ValueError("no such\naddress")

    job = fail.delay()
    with tasks.worker(), pytest.raises(JobFailed, match="ValueError: no such address") as caught:
        job.get(10)
    assert caught.value.job_id == job.id
    assert job.status == "failed"
    assert job.error == "ValueError: no such address"
    assert job.traceback is not None
    assert job.traceback.startswith("Traceback (most recent call last):\n")
    assert 'raise ValueError("no such\\naddress")' in job.traceback
    assert "roving/tasks" not in job.traceback
    assert any("failed: ValueError" in record.getMessage() for record in caplog.records)
    # By hand.
    job.retry()
    assert job.status == "queued"
    with tasks.worker():
        assert job.wait(10)
    assert job.attempts == 1
    assert tasks.jobs(statuses=["failed"], task="fail")[0].id == job.id


def test_what_else_a_task_may_raise(tasks: Tasks) -> None:
    """SystemExit and its like end the job, not the worker; so does what cannot be told."""

    class Mute(Exception):
        def __str__(self) -> str:
            raise RuntimeError("no words")

    @tasks.task(name="raises", retries=3)
    def raises(kind: str) -> None:
        raise {
            "exit": SystemExit(3),
            "keyboard": KeyboardInterrupt(),
            "mute": Mute(),
            "half": ValueError("\ud800"),
        }[kind]

    @tasks.task(name="once", retries=0)
    def once(kind: str) -> None:
        raises.function(kind)

    with tasks.worker():
        for kind in ("exit", "keyboard"):
            job = raises.delay(kind)
            assert job.wait(10)
            assert (job.status, job.attempts) == ("failed", 1)
        for kind in ("mute", "half"):
            job = once.delay(kind)
            assert job.wait(10)
            assert job.status == "failed"


def test_retries(tasks: Tasks, caplog: pytest.LogCaptureFixture) -> None:
    """A job is tried again as often as its task says, and for what it says."""
    seen: list[int] = []

    @tasks.task(name="flaky", bind=True, retries=3, backoff=0, no_retry_for=KeyError)
    def flaky(attempt: Attempt, kind: str) -> int:
        assert current() is attempt
        seen.append(attempt.number)
        if kind == "key":
            raise KeyError(kind)
        if attempt.number < 3:
            raise OSError("busy")
        return attempt.retries_left

    with tasks.worker():
        assert flaky.delay("busy").get(10) == 1
        assert seen == [1, 2, 3]
        job = flaky.delay("key")
        assert job.wait(10)
        assert (job.status, job.attempts) == ("failed", 1)
    assert any("retried: OSError: busy" in record.getMessage() for record in caplog.records)


def test_retry_by_the_task(tasks: Tasks) -> None:
    """A bound task says itself that it is to be tried again, and when."""

    @tasks.task(name="patient", bind=True, retries=2)
    def patient(attempt: Attempt) -> str:
        if attempt.number == 1:
            attempt.retry(countdown=0)
        if attempt.number == 2:
            attempt.retry(eta=datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC))
        return "done"

    @tasks.task(name="never", bind=True, retries=1)
    def never(attempt: Attempt) -> None:
        try:
            raise OSError("busy")
        except OSError:
            attempt.retry(countdown=0)

    with tasks.worker():
        assert patient.delay().get(10) == "done"
        job = never.delay()
        assert job.wait(10)
    assert (job.status, job.attempts, job.error) == ("failed", 2, "OSError: busy")


def test_once(tasks: Tasks) -> None:
    """What a job notes, its later attempts find."""
    charged: list[int] = []

    def pay(amount: int) -> str:
        charged.append(amount)
        return f"receipt {amount}"

    @tasks.task(name="charge", bind=True, retries=2, backoff=0)
    def charge(attempt: Attempt, amount: int) -> list[Any]:
        receipt = attempt.once("charge", pay, amount)
        first = attempt.once("told")
        if attempt.number < 3:
            raise OSError("the network")
        return [receipt, first]

    with tasks.worker():
        assert charge.delay(5).get(10) == ["receipt 5", False]
        assert charge.delay(6).get(10) == ["receipt 6", False]
    assert charged == [5, 6]


def test_unique(tasks: Tasks) -> None:
    """While one waits or runs there is no other; afterwards there may be."""

    @tasks.task(name="sync", unique=True)
    def sync(shop: str) -> None: ...

    @tasks.task(name="report", unique=lambda shop, day: shop)
    def report(shop: str, day: int) -> None: ...

    first, second, other = sync.delay("a"), sync.delay("a"), sync.delay("b")
    assert second == first
    assert (first.duplicate, second.duplicate) == (False, True)
    assert other != first
    assert report.delay("a", 1) == report.delay("a", 2)
    with tasks.worker():
        assert first.wait(10)
    third = sync.delay("a")
    assert third != first
    assert not third.duplicate


def test_same_id_is_one_job(tasks: Tasks) -> None:
    """An enqueue whose outcome was not learnt is repeated."""
    task = tasks.task(name="x")(lambda: None)
    id = "01890000-0000-7000-8000-000000000001"
    assert task.apply_async(id=id) == task.apply_async(id=id)
    assert len(tasks.jobs()) == 1
    with pytest.raises(ValueError, match="no job id"):
        task.apply_async(id="17")


def test_priorities_and_queues(tasks: Tasks) -> None:
    """Higher priorities go first; a worker takes from its queues alone."""
    order: list[str] = []

    @tasks.task(name="note")
    def note(what: str) -> None:
        order.append(what)

    low = note.apply_async(("low",), priority=-1)
    note.apply_async(("high",), priority=5)
    note.delay("normal")
    mail = note.apply_async(("mail",), queue="mail")
    with tasks.worker(queues=["default"], concurrency=1):
        assert low.wait(10)
    assert order == ["high", "normal", "low"]
    assert mail.status == "queued"
    stats = tasks.stats()
    assert stats["mail"]["queued"] == 1
    assert stats["default"]["total_succeeded"] == 3


def test_cancel_before_it_runs(tasks: Tasks) -> None:
    """It never will."""
    job = tasks.task(name="x")(lambda: None).delay()
    assert job.cancel()
    assert not job.cancel()
    with pytest.raises(JobCancelled):
        job.get()
    with pytest.raises(UnknownJob):
        tasks.job("01890000-0000-7000-8000-000000000001").get()
    job.retry()
    with pytest.raises(WrongStatus, match="the job is queued"):
        job.retry()


def test_hooks(tasks: Tasks) -> None:
    """They are told, and what they raise harms nobody."""
    told: list[tuple[str, Any]] = []
    hooks = tasks.hooks
    hooks.before(lambda attempt: told.append(("before", attempt.number)))
    hooks.succeeded(lambda attempt, result: told.append(("succeeded", result)))
    hooks.failed(lambda attempt, error: told.append(("failed", str(error))))
    hooks.retried(lambda attempt, error: told.append(("retried", str(error))))
    hooks.after(lambda attempt: told.append(("after", attempt.task)))

    @hooks.before
    def broken(attempt: Attempt) -> None:
        raise RuntimeError("the hook")

    @tasks.task(name="t", retries=1, backoff=0)
    def task(well: bool) -> int:
        if well:
            return 7
        raise OSError("busy")

    logging.disable()
    try:
        with tasks.worker() as worker:
            assert task.delay(True).get(10) == 7
            assert task.delay(False).wait(10)
            worker.stop()
    finally:
        logging.disable(logging.NOTSET)
    well = [("before", 1), ("succeeded", 7), ("after", "t")]
    ill = [
        ("before", 1),
        ("retried", "busy"),
        ("after", "t"),
        ("before", 2),
        ("failed", "busy"),
        ("after", "t"),
    ]
    assert sorted(map(str, told)) == sorted(map(str, well + ill))


def test_many(tasks: Tasks) -> None:
    """Many at once, more than run at a time."""
    square = tasks.task(name="square")(lambda n: n * n)
    jobs = square.delay_many([(n,) for n in range(300)])
    jobs += square.delay_many([{"n": 7}], priority=3)
    with tasks.worker(concurrency=7):
        assert [job.get(30) for job in jobs] == [n * n for n in range(300)] + [49]
    assert square.delay_many([]) == []


def test_children_name_their_parent(tasks: Tasks) -> None:
    """A job that is enqueued by another one says so."""
    child = tasks.task(name="child")(lambda: None)
    parent = tasks.task(name="parent")(lambda: child.delay().id)
    with tasks.worker():
        job = parent.delay()
        of_it = job.get(10)
        assert tasks.job(of_it).wait(10)
    assert tasks.job(of_it).state().parent == job.id
    assert [state.id for state in tasks.jobs(parent=job.id)] == [of_it]


def test_results_that_are_not_kept(tasks: Tasks) -> None:
    """They are pruned at once; what cannot be written down fails."""
    forget = tasks.task(name="forget", keep_result=False)(lambda: object())
    odd = tasks.task(name="odd")(lambda: object())
    with tasks.worker():
        job, other = forget.delay(), odd.delay()
        assert other.wait(10)
        assert job.wait(10)
    assert other.status == "failed"
    assert other.error is not None
    assert "EncodeError" in other.error
    tasks._admin.prune()
    with pytest.raises(UnknownJob):
        assert job.status


def test_a_task_that_is_not_there(make: Make) -> None:
    """The job is kept, says so, and runs once the task is there."""
    tasks = make()
    job = tasks.task(name="gone")(lambda: 5).delay()
    del tasks._by_name["gone"]
    with tasks.worker():
        assert job.wait(10)
    assert job.status == "failed"
    assert job.error is not None
    assert "there is no task 'gone' here" in job.error
    tasks.task(name="gone")(lambda: 5)
    job.retry()
    with tasks.worker():
        assert job.get(10) == 5


def test_payloads_of_others(tasks: Tasks) -> None:
    """What cannot be read is kept as failed: a newer format, another codec, damage."""
    task = tasks.task(name="t")(lambda: None)
    jobs = []
    for codec, payload in [
        ("json", b'{"v": 99, "args": [], "kwargs": {}}'),
        ("pickle", b"x"),
        ("json", b"{"),
    ]:
        outcome = tasks._store.enqueue(
            [{"task": task.name, "queue": "default", "payload": payload, "codec": codec}]
        )[0]
        assert isinstance(outcome, tuple)
        jobs.append(tasks.job(outcome[1]))
    with tasks.worker():
        for job in jobs:
            with pytest.raises(JobFailed, match="DecodeError"):
                job.get(10)


def test_expired(tasks: Tasks) -> None:
    """What has not begun in time never will."""
    past = datetime.datetime(2020, 1, 1, tzinfo=datetime.UTC)
    job = tasks.task(name="x")(lambda: None).apply_async(expires=past)
    with tasks.worker(), pytest.raises(JobExpired):
        job.get(10)


def test_closed(tasks: Tasks) -> None:
    """A closed store says so, to those who wait too."""
    job = tasks.task(name="x")(lambda: None).delay()
    fiber = roving.spawn(job.get)
    tasks.close()
    with pytest.raises(StoreError, match="closed"):
        fiber.join(10)
    with pytest.raises(StoreError, match="closed"):
        job.get()


def test_urls(tmp_path: Path) -> None:
    """What is no store is said to be none."""
    with pytest.raises(ValueError, match="no job store in PostgreSQL yet"):
        Tasks("postgresql://localhost/jobs")
    for url in ("", "sqlite:", "redis://localhost", "jobs.db"):
        with pytest.raises(ValueError, match="sqlite:PATH or memory:"):
            Tasks(url)
    with pytest.raises(StoreError, match="cannot open") as caught:
        Tasks(f"sqlite:{tmp_path}/none/jobs.db")
    assert caught.value.kind == "open"
    (tmp_path / "text").write_text("no database " * 1000)
    with pytest.raises(StoreError, match="damaged, or is none"):
        Tasks(f"sqlite:{tmp_path}/text")


def test_get_does_not_wait_for_ever(tasks: Tasks) -> None:
    """A timeout is one; a fiber that waits can be cancelled."""
    job = tasks.task(name="x")(lambda: None).delay()
    with pytest.raises(TimeoutError, match="is queued after 0 s"):
        job.get(timeout=0)
    assert not job.wait(0)
    fiber = roving.spawn(job.get)
    roving.spawn(lambda: None).join()
    fiber.cancel()
    with pytest.raises(roving.FiberCancelled):
        fiber.join(10)
