"""Limits of time, cancellation of what runs, and the end of a worker; in fibers of this process."""

import datetime
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import roving
from child import check
from roving.tasks import Attempt, JobCancelled, JobFailed, SoftTimeout, Tasks, Worker


@pytest.fixture(params=["memory", "sqlite"])
def tasks(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Tasks]:
    """Open a store of each kind."""
    url = "memory:" if request.param == "memory" else f"sqlite:{tmp_path}/jobs.db"
    with Tasks(url) as tasks:
        yield tasks


def test_timeout_of_what_waits(tasks: Tasks) -> None:
    """It is stopped where it waits, cleans up, and fails as the limit says."""
    clean = roving.Event()

    @tasks.task(name="waits", timeout=0.05)
    def waits() -> None:
        try:
            roving.Event().wait()
        finally:
            # Clean-up may wait.
            roving.sleep(0.001)
            clean.set()

    with tasks.worker():
        job = waits.delay()
        with pytest.raises(JobFailed, match=r"TaskTimeout: waits took longer than 0.05 s"):
            job.get(10)
    assert clean.is_set()
    assert job.traceback is not None
    assert "roving.Event().wait()" in job.traceback


def test_timeout_is_retried(tasks: Tasks) -> None:
    """As any failure, if the task has retries; and not where it says so."""

    @tasks.task(name="late", bind=True, timeout=0.05, retries=1, backoff=0)
    def late(attempt: Attempt) -> str:
        if attempt.number == 1:
            roving.Event().wait()
        return "second"

    @tasks.task(name="never", timeout=0.05, retries=5, no_retry_for=TimeoutError)
    def never() -> None:
        roving.Event().wait()

    with tasks.worker():
        assert late.delay().get(10) == "second"
        job = never.delay()
        assert job.wait(10)
        assert (job.status, job.attempts) == ("failed", 1)


def test_soft_timeout_of_what_waits(tasks: Tasks) -> None:
    """SoftTimeout is raised where it waits, once; what comes after it may wait."""

    @tasks.task(name="soft", soft_timeout=0.05)
    def soft() -> str:
        try:
            roving.Event().wait()
        except SoftTimeout as error:
            roving.sleep(0.001)
            return str(error)
        return "?"

    @tasks.task(name="hard", soft_timeout=0.05)
    def hard() -> None:
        roving.Event().wait()

    with tasks.worker():
        assert soft.delay().get(10) == "the soft limit of this task is over"
        with pytest.raises(JobFailed, match="SoftTimeout"):
            hard.delay().get(10)


def test_soft_timeout_waits_for_a_shield(tasks: Tasks) -> None:
    """What is shielded is done first."""
    steps: list[str] = []

    @tasks.task(name="shielded", soft_timeout=0.05)
    def shielded() -> None:
        try:
            with roving.shield():
                roving.sleep(0.2)
                steps.append("shielded")
            roving.sleep(5)
        except SoftTimeout:
            steps.append("soft")

    with tasks.worker():
        shielded.delay().get(10)
    assert steps == ["shielded", "soft"]


def test_cancel_what_waits(tasks: Tasks) -> None:
    """It is stopped at once."""
    begun, ended = roving.Event(), roving.Event()

    @tasks.task(name="waits", retries=5)
    def waits() -> None:
        begun.set()
        try:
            roving.Event().wait()
        finally:
            ended.set()

    with tasks.worker():
        job = waits.delay()
        assert begun.wait(10)
        assert job.cancel()
        with pytest.raises(JobCancelled):
            job.get(10)
        assert ended.wait(10)
    assert job.status == "cancelled"


def test_a_task_that_cancels_itself(tasks: Tasks) -> None:
    """Nobody asked for it: it fails, and is not run for ever."""

    @tasks.task(name="odd", retries=3)
    def odd() -> None:
        fiber = roving.current()
        assert fiber is not None
        fiber.cancel()
        roving.sleep(1)

    with tasks.worker():
        job = odd.delay()
        with pytest.raises(JobFailed, match="Cancelled"):
            job.get(10)
    assert job.attempts == 1


def test_stop_lets_jobs_finish(tasks: Tasks) -> None:
    """What runs when a worker is stopped is finished; what waits stays."""
    begun, go = roving.Event(), roving.Event()

    @tasks.task(name="slow")
    def slow() -> str:
        begun.set()
        go.wait()
        return "done"

    worker = tasks.worker(concurrency=1).start()
    running, waiting = slow.delay(), slow.delay()
    assert begun.wait(10)
    stopping = roving.spawn(worker.stop)
    roving.spawn(go.set)
    assert stopping.join(10) is True
    assert (running.status, running.result) == ("succeeded", "done")
    assert waiting.status == "queued"
    assert worker.wait(0)
    assert tasks._admin.workers() == []


def test_stop_hands_back_what_does_not_finish(tasks: Tasks) -> None:
    """It is stopped, runs again with another worker, and the attempt does not count."""
    begun = roving.Event()
    seen: list[int] = []

    @tasks.task(name="slow", bind=True)
    def slow(attempt: Attempt) -> str:
        seen.append(attempt.number)
        begun.set()
        if len(seen) == 1:
            roving.Event().wait()
        return "second"

    worker = tasks.worker().start()
    job = slow.delay()
    assert begun.wait(10)
    assert worker.stop(grace=0) is False
    assert (job.status, job.attempts) == ("queued", 0)
    with tasks.worker():
        assert job.get(10) == "second"
    assert seen == [1, 1]


def test_stop_and_cancel_what_has_not_begun(tasks: Tasks) -> None:
    """A job that is claimed, and whose fiber waits for its turn, is handed back, or cancelled."""
    ran: list[int] = []
    held: list[Any] = []
    note = tasks.task(name="note")(ran.append)
    worker = tasks.worker()

    class Slow(Worker):
        """Its fibers do not begin by themselves: as when others keep all threads busy."""

        def _job(self, running: Any) -> None:
            held.append(running)

    worker.__class__ = Slow
    worker.start()
    job, other = note.delay(1), note.delay(2)
    while len(held) < 2:
        roving.yield_now()
    by_id = {running.record["id"]: running for running in held}
    worker._limits.stop(by_id[other.id], "cancel")
    stopping = roving.spawn(worker.stop, 0)
    while by_id[job.id].reason is None:
        roving.yield_now()
    for running in held:
        Worker._job(worker, running)
    assert stopping.join(10) is False
    assert (job.status, job.attempts, other.status, ran) == ("queued", 0, "cancelled", [])


def test_two_workers_share(tasks: Tasks) -> None:
    """Each job runs once, whichever has it."""
    ran: list[int] = []
    note = tasks.task(name="note")(ran.append)
    with tasks.worker(concurrency=3), tasks.worker(concurrency=5):
        for job in note.delay_many([(n,) for n in range(200)]):
            assert job.wait(30)
    assert sorted(ran) == list(range(200))


def test_queue_concurrency(tmp_path: Path) -> None:
    """Of a queue no more run at a time than it allows, in all workers together; a paused one has none."""
    running = 0
    most = 0
    lock = roving.Lock()

    with Tasks(f"sqlite:{tmp_path}/jobs.db", queues={"narrow": 2}) as tasks:

        @tasks.task(name="count", queue="narrow")
        def count() -> None:
            nonlocal running, most
            with lock:
                running += 1
                most = max(most, running)
            roving.sleep(0.001)
            with lock:
                running -= 1

        tasks.pause("narrow")
        jobs = count.delay_many([()] * 20)
        with tasks.worker(), tasks.worker():
            assert tasks.stats()["narrow"]["paused"]
            assert tasks.stats()["narrow"]["queued"] == 20
            tasks.resume("narrow")
            for job in jobs:
                assert job.wait(30)
    assert most == 2


# A clock that moves when it is told to.

START = 1_900_000_000_000


class Timed:
    """A store in memory, its clock, and a worker that looks when the clock has moved."""

    def __init__(self) -> None:
        """Begin at some moment of 2030."""
        self.clock = roving._roving._ManualClock(START)
        self.tasks = Tasks("memory:", store={"clock": self.clock})
        self.worker = self.tasks.worker()

    def advance(self, seconds: float) -> None:
        """Let time pass, and have the worker look: the store waits for no clock that others move."""
        self.clock.advance(int(seconds * 1000))
        self.worker._watch.wake()


@pytest.fixture
def timed() -> Iterator[Timed]:
    """Make one, with a worker that runs."""
    timed = Timed()
    with timed.tasks:
        yield timed


def test_eta_and_countdown(timed: Timed) -> None:
    """Not before their time, and then at once."""
    task = timed.tasks.task(name="x")(lambda: "ran")
    later = task.apply_async(countdown=60)
    moment = datetime.datetime.fromtimestamp(START / 1000 + 120, datetime.UTC)
    at = task.apply_async(eta=moment)
    assert (later.status, at.status) == ("scheduled", "scheduled")
    assert at.state().eta == moment
    with timed.worker:
        timed.advance(59)
        assert (later.status, at.status) == ("scheduled", "scheduled")
        timed.advance(1)
        assert later.get(10) == "ran"
        assert at.status == "scheduled"
        timed.advance(60)
        assert at.get(10) == "ran"


def test_backoff(timed: Timed) -> None:
    """Each retry waits twice as long as the one before, up to a maximum."""
    told = roving.Channel[int](capacity=10)

    @timed.tasks.task(name="t", bind=True, retries=4, backoff=10, backoff_max=30, jitter=False)
    def task(attempt: Attempt) -> None:
        raise OSError("busy")

    timed.tasks.hooks.retried(lambda attempt, error: told.send(attempt.number))
    with timed.worker:
        job = task.delay()
        for number, wait in enumerate((10, 20, 30, 30), 1):
            assert told.recv(timeout=10) == number
            assert job.status == "scheduled"
            timed.advance(wait - 1)
            assert (job.status, job.attempts) == ("scheduled", number)
            timed.advance(1)
        with pytest.raises(JobFailed):
            job.get(10)
    assert job.attempts == 5


def test_expiry(timed: Timed) -> None:
    """A task's, and a call's that counts for more."""
    task = timed.tasks.task(name="x", expires=60)(lambda: None)
    first, second = task.delay(), task.apply_async(expires=datetime.timedelta(seconds=100))
    timed.clock.advance(61_000)
    with timed.worker:
        assert first.wait(10)
        assert second.wait(10)
    assert (first.status, second.status) == ("expired", "succeeded")


def test_rate_limit(timed: Timed) -> None:
    """No more begin than the limit allows; when there is room again, they do."""
    told = roving.Channel[int](capacity=100)

    task = timed.tasks.task(name="x", rate_limit="6/m")(told.send)
    jobs = task.delay_many([(n,) for n in range(4)])
    with timed.worker:
        assert told.recv(timeout=10) == 0
        assert jobs[0].wait(10)
        for n in range(1, 4):
            timed.advance(9)
            assert len(told) == 0
            assert jobs[n].status == "queued"
            timed.advance(1)
            assert told.recv(timeout=10) == n


def test_results_expire(timed: Timed) -> None:
    """A finished job is kept for as long as its task says."""
    task = timed.tasks.task(name="x", keep_result=datetime.timedelta(hours=1))(lambda: 1)
    with timed.worker:
        job = task.delay()
        assert job.get(10) == 1
    timed.advance(3599)
    timed.tasks._admin.prune()
    assert job.result == 1
    timed.advance(2)
    timed.tasks._admin.prune()
    with pytest.raises(roving.tasks.UnknownJob):
        assert job.result


# Code that does not wait, in processes of their own: a loop that is not stopped would never end.

LOOPS = """
from roving.tasks import Tasks, SoftTimeout, JobFailed, JobCancelled
roving.configure(preempt=PREEMPT)
tasks = Tasks("memory:")
begun = roving.Event()
steps = []

@tasks.task(timeout=0.1, name="loop")
def loop():
    while True:
        pass

@tasks.task(timeout=0.1, name="calls")
def calls():
    def f(n):
        return n and f(n - 1)
    try:
        while True:
            f(5)
    finally:
        steps.append("clean")

@tasks.task(soft_timeout=0.1, timeout=30, name="soft")
def soft():
    n = 0
    try:
        while True:
            n += 1
    except SoftTimeout:
        return "soft"

@tasks.task(name="endless")
def endless():
    begun.set()
    while True:
        pass

@tasks.task(name="stubborn", timeout=0.1)
def stubborn():
    # Swallows what stops it, once: it gets it again after the grace.
    try:
        while True:
            pass
    except BaseException:
        steps.append("swallowed")
    while True:
        pass
"""

ENDS = """
with tasks.worker(grace=0.1) as worker:
    for task in (loop, calls):
        try:
            task.delay().get(20)
        except JobFailed as error:
            assert "TaskTimeout" in error.error, error
            assert "in " + task.name in error.traceback, error.traceback
        else:
            raise AssertionError("it ended well")
    assert steps == ["clean"]
    assert soft.delay().get(20) == "soft"
    job = endless.delay()
    begun.wait()
    job.cancel()
    try:
        job.get(20)
    except JobCancelled:
        pass
    begun.clear()
    job = endless.delay()
    begun.wait()
assert job.status == "queued", job.status
print("ok")
"""


@pytest.mark.parametrize(("workers", "preempt"), [(1, "0.005"), (2, "0.005"), (4, "0.001")])
def test_what_does_not_wait_is_stopped(workers: int, preempt: str) -> None:
    """Hard and soft limits, cancellation and the end of the worker reach pure-Python loops.

    It takes preemption: who stops them may be on the same worker.
    """
    check(LOOPS.replace("PREEMPT", preempt) + ENDS, workers=workers)


def test_what_swallows_is_stopped_again() -> None:
    """A task that swallows its end has its grace, and hears again."""
    end = """
roving.configure(cancel_grace=0.2)
with tasks.worker() as worker:
    job = stubborn.delay()
    assert job.wait(20)
    assert job.status == "failed" and "TaskTimeout" in job.error, job.error
assert steps == ["swallowed"]
print("ok")
"""
    check(LOOPS.replace("PREEMPT", "0.005") + end, workers=2)


def test_interrupts_hit_nobody_else() -> None:
    """Thousands of jobs that are stopped between two bytecodes, among fibers that are not: only they are."""
    check(
        """
from roving.tasks import Tasks, SoftTimeout, JobFailed
roving.configure(preempt=0.001)
tasks = Tasks("memory:")

class Finalized:
    def __del__(self):
        sum(range(50))

@tasks.task(name="loop", soft_timeout=0.002)
def loop():
    try:
        while True:
            [[] for _ in range(10)]
    except SoftTimeout:
        return 1

stop = False
def innocent():
    n = 0
    while not stop:
        Finalized()
        n += sum(range(20))
        roving.yield_now()
    return n

unraisable = []
sys.unraisablehook = unraisable.append
innocents = [roving.spawn(innocent) for _ in range(6)]
with tasks.worker(concurrency=8):
    jobs = loop.delay_many([()] * 100)
    for job in jobs:
        assert job.get(100) == 1
stop = True
for fiber in innocents:
    assert fiber.join() > 0
assert not unraisable, unraisable
print("ok")
""",
        workers=2,
        timeout=120,
    )


def test_a_program_that_just_ends(tmp_path: Path) -> None:
    """Its worker hands back what runs; no job is taken for one that failed, or died."""
    check(
        f"""
from roving.tasks import Tasks
tasks = Tasks("sqlite:{tmp_path}/jobs.db")
begun = roving.Event()

@tasks.task(name="hang")
def hang():
    begun.set()
    roving.Event().wait()

worker = tasks.worker().start()
hang.delay()
begun.wait()
print("ok")
""",
        workers=2,
    )
    with Tasks(f"sqlite:{tmp_path}/jobs.db") as tasks:
        (state,) = tasks.jobs()
        assert (state.status, state.attempts, state.deaths) == ("queued", 0, 0)
        assert tasks._admin.workers() == []
