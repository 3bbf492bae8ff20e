"""Eager jobs, jobs that wait for Django's transactions, and a store that fails."""

import logging
import resource
from pathlib import Path

import pytest
import roving
from child import check
from roving.tasks import Attempt, EncodeError, JobFailed, StoreError, Tasks, current


def test_eager_jobs_run_in_delay(tmp_path: Path) -> None:
    """At once, through the codec, as often as they may be tried, and without a file."""
    tasks = Tasks(f"sqlite:{tmp_path}/jobs.db", eager=True)
    steps: list[object] = []

    @tasks.task(bind=True, retries=2, backoff=3600, rate_limit="1/h")
    def flaky(attempt: Attempt, values: tuple[int, ...]) -> tuple[int, ...]:
        steps.append(attempt.number)
        if attempt.number < 3:
            raise OSError("busy")
        assert isinstance(values, tuple)
        return values

    @tasks.task
    def parent() -> str:
        job = flaky.delay((1, 2))
        assert job.state().parent == current().id  # type: ignore[union-attr]
        return job.status

    tasks.hooks.retried(lambda attempt, error: steps.append(str(error)))
    job = flaky.apply_async(((1, 2),), countdown=3600)
    assert steps == [1, "busy", 2, "busy", 3]
    assert (job.status, job.attempts, job.result) == ("succeeded", 3, (1, 2))
    assert parent.delay().get(timeout=0) == "succeeded"
    assert current() is None
    with pytest.raises(EncodeError):
        flaky.delay(object())
    assert not (tmp_path / "jobs.db").exists()


def test_eager_failures_are_jobs_that_failed() -> None:
    """As with a worker: `delay` does not raise, `get` does."""
    with Tasks("memory:", eager=True) as tasks:

        @tasks.task
        def fail() -> None:
            raise KeyError("gone")

        job = fail.delay()
        with pytest.raises(JobFailed, match="KeyError: 'gone'"):
            job.get()
        assert job.traceback is not None
        assert "roving/tasks" not in job.traceback


def test_delay_on_commit() -> None:
    """A job is enqueued when Django's transaction commits, and never if it does not."""
    pytest.importorskip("django")
    check(
        """
import django
from django.conf import settings
from roving.tasks import EncodeError, Tasks
tasks = Tasks("memory:")

@tasks.task(name="send")
def send(to): ...

try:
    send.delay_on_commit("a")
except RuntimeError as error:
    assert "Django is not set up" in str(error), error
else:
    raise AssertionError

settings.configure(DATABASES={"default": {"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}})
django.setup()
from django.db import transaction
with transaction.atomic():
    assert send.delay_on_commit("a") is None
    assert tasks.jobs() == []
assert len(tasks.jobs()) == 1
try:
    with transaction.atomic():
        send.delay_on_commit("b")
        raise KeyError
except KeyError:
    pass
assert len(tasks.jobs()) == 1
# Outside of a transaction: now.
send.delay_on_commit("c")
assert len(tasks.jobs()) == 2
# What cannot be written down is found where it is, not at the commit.
with transaction.atomic():
    try:
        send.delay_on_commit(object())
    except EncodeError:
        print("ok")
"""
    )


def test_a_disk_that_is_full(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """`delay` says so, and nothing was enqueued; with room again all goes on, the worker too."""
    with Tasks(f"sqlite:{tmp_path}/jobs.db") as tasks:
        keep = tasks.task(name="keep")(lambda data: len(data))
        with tasks.worker():
            assert keep.delay("x").get(10) == 1
            size = max(path.stat().st_size for path in tmp_path.iterdir())
            soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
            resource.setrlimit(resource.RLIMIT_FSIZE, (size + 4096, hard))
            try:
                with pytest.raises(StoreError) as caught:
                    keep.delay_many([("x" * 500_000,)] * 50)
            finally:
                resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
            assert caught.value.kind in ("full", "io")
            logging.disable()
            try:
                assert keep.delay("xyz").get(20) == 3
            finally:
                logging.disable(logging.NOTSET)


def test_forks(tmp_path: Path) -> None:
    """A child opens the file anew, as a server's that forks after the import; its jobs are there for all."""
    check(
        f"""
import os, sys
from roving.tasks import Tasks
tasks = Tasks("sqlite:{tmp_path}/jobs.db")
double = tasks.task(name="double")(lambda n: 2 * n)
first = double.delay(1)
child = os.fork()
if child == 0:
    status = 1
    try:
        double.delay(21)
        assert first.status == "queued"
        status = 0
    finally:
        os._exit(status)
assert os.waitpid(child, 0)[1] == 0
with tasks.worker() as worker:
    results = sorted(tasks.job(state.id).get(10) for state in tasks.jobs())
assert results == [2, 42], results
print("ok")
"""
    )


def test_draining_beside_another_worker() -> None:
    """It ends when the other one has ended the last job."""
    with Tasks("memory:") as tasks:
        begun, go = roving.Event(), roving.Event()

        @tasks.task(name="slow", queue="slow")
        def slow() -> None:
            begun.set()
            go.wait()

        with tasks.worker():
            job = slow.delay()
            assert begun.wait(10)
            drains = tasks.worker().start(drain=True)
            assert not drains.wait(0)
            go.set()
            assert drains.wait(10)
            assert job.status == "succeeded"
