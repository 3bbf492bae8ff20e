"""Deaths: processes that enqueue and run jobs are killed with -9 at any moment, and nothing is lost."""

import os
import random
import signal
import subprocess
import sys
import textwrap
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
from roving.tasks import JobQuarantined, Tasks

SECONDS = float(os.environ.get("ROVING_TASKS_KILL_SECONDS", "4"))

MODULE = """
    import os, sys
    import roving
    from roving.tasks import Tasks

    FOLDER = os.path.dirname(os.path.abspath(__file__))
    tasks = Tasks(f"sqlite:{FOLDER}/jobs.db")
    # What has run, noted where a kill of this process loses nothing that was written.
    ran = os.open(f"{FOLDER}/ran", os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    @tasks.task(name="note", retries=2, backoff=0)
    def note(n):
        os.write(ran, b"%d\\n" % n)
        return n

    @tasks.task(name="poison")
    def poison():
        os.kill(os.getpid(), 9)

    @tasks.task(name="hang")
    def hang():
        os.write(ran, b"hang\\n")
        roving.Event().wait()
"""

ENQUEUER = """
    import sys, jobs
    n = int(sys.argv[1])
    while True:
        jobs.note.delay(n)
        # It is on disk: whoever reads this counts on it.
        sys.stdout.write(f"{n}\\n")
        sys.stdout.flush()
        n += 1
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with the module `jobs`."""
    (tmp_path / "jobs.py").write_text(textwrap.dedent(MODULE))
    return tmp_path


def start(folder: Path, *command: str) -> subprocess.Popen[bytes]:
    """Start a Python process there, in a session of its own."""
    errors = (folder / "errors").open("ab")
    with errors:
        return subprocess.Popen(
            [sys.executable, *command],
            cwd=folder,
            stdout=subprocess.PIPE,
            stderr=errors,
            stdin=subprocess.DEVNULL,
        )


def worker(folder: Path, *options: str) -> subprocess.Popen[bytes]:
    """Start `roving tasks worker`."""
    return start(folder, "-m", "roving", "tasks", "worker", "jobs:tasks", "--log-level", "warning", *options)


@contextmanager
def ended(process: subprocess.Popen[bytes]) -> Iterator[subprocess.Popen[bytes]]:
    """Kill a process at the end, whatever comes."""
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        if process.stdout is not None:
            process.stdout.close()


def ran(folder: Path) -> list[str]:
    """Read what has run."""
    path = folder / "ran"
    return path.read_text().splitlines() if path.exists() else []


def await_line(folder: Path, line: str) -> None:
    """Wait until a job has noted something."""
    until = time.monotonic() + 30
    while line not in ran(folder):
        assert time.monotonic() < until, (folder / "errors").read_text()
        time.sleep(0.005)


def drain(folder: Path) -> None:
    """Run whatever is left."""
    with ended(worker(folder, "--drain")) as process:
        assert process.wait(60) == 0, (folder / "errors").read_text()


def test_kills(folder: Path) -> None:
    """Enqueuers and workers are killed at random; each job whose delay returned has run when all is done.

    One runs twice only where a death came between its run and its acknowledgement: at most what a worker had
    at a time, for each death.
    """
    seed = int(os.environ.get("ROVING_SEED", random.randrange(1 << 32)))
    print(f"ROVING_SEED={seed}")
    chance = random.Random(seed)
    concurrency, deaths, told = 8, 0, set[int]()
    (folder / "enqueue.py").write_text(textwrap.dedent(ENQUEUER))
    until = time.monotonic() + SECONDS
    round = 0
    while time.monotonic() < until:
        round += 1
        first = round * 1_000_000
        with (
            ended(start(folder, "enqueue.py", str(first))) as enqueuer,
            ended(worker(folder, "-c", str(concurrency))) as runner,
        ):
            assert enqueuer.stdout is not None
            # Alive: what comes next hits it at work.
            assert enqueuer.stdout.readline(), (folder / "errors").read_text()
            told.add(first)
            if chance.random() < 0.8:
                await_line(folder, str(first))
            time.sleep(chance.random() * 0.3)
            victims = [enqueuer, runner]
            chance.shuffle(victims)
            for victim in victims:
                victim.kill()
            deaths += 1
            for line in enqueuer.stdout.read().splitlines(keepends=True):
                if line.endswith(b"\n"):
                    told.add(int(line))
    drain(folder)
    noted = [int(line) for line in ran(folder)]
    lost = told - set(noted)
    assert not lost, f"{len(lost)} of {len(told)} jobs are lost: {sorted(lost)[:10]}"
    twice = len(noted) - len(set(noted))
    assert twice <= deaths * concurrency, f"{twice} jobs ran twice in {deaths} deaths"
    # What the enqueuer was not told of may have run as well: one for each death.
    assert len(set(noted) - told) <= deaths
    with Tasks(f"sqlite:{folder}/jobs.db") as tasks:
        stats = tasks.stats()["default"]
        assert stats["total_succeeded"] == len(set(noted))
        assert not any(
            stats[status] for status in ("queued", "scheduled", "running", "failed", "quarantined")
        )
        assert tasks._admin.workers() == []
    print(f"{len(told)} jobs, {deaths} deaths, {twice} ran twice")


def test_takeover(folder: Path) -> None:
    """A job whose worker died runs again, within seconds, in a worker that was there all along."""
    with Tasks(f"sqlite:{folder}/jobs.db") as tasks:
        hang = tasks.task(name="hang")(lambda: None)
        job = hang.delay()
        with ended(worker(folder)) as first:
            await_line(folder, "hang")
            with tasks.worker():
                began = time.monotonic()
                first.kill()
                # Here the task of that name just returns.
                assert job.get(timeout=10) is None
                assert time.monotonic() - began < 5
        state = job.state()
        assert (state.attempts, state.deaths) == (1, 1)


def test_poison(folder: Path) -> None:
    """A job that kills its process does so three times, and is then kept apart; others run."""
    with Tasks(f"sqlite:{folder}/jobs.db") as tasks:
        poison = tasks.task(name="poison")(lambda: None)
        job = poison.delay()
        for _ in range(3):
            with ended(worker(folder)) as process:
                assert process.wait(30) == -signal.SIGKILL, (folder / "errors").read_text()
        tasks._admin.take_over()
        assert job.status == "quarantined"
        with pytest.raises(JobQuarantined):
            job.get(0)
        # By hand, and elsewhere.
        job.retry()
        with tasks.worker():
            assert job.get(10) is None


def test_graceful_stop(folder: Path) -> None:
    """SIGTERM: what does not end within the grace is handed back, and the process ends well."""
    with Tasks(f"sqlite:{folder}/jobs.db") as tasks:
        job = tasks.task(name="hang")(lambda: None).delay()
        with ended(worker(folder, "--grace", "0.05")) as process:
            await_line(folder, "hang")
            process.terminate()
            assert process.wait(30) == 0
        state = job.state()
        assert (state.status, state.attempts, state.deaths) == ("queued", 0, 0)
        assert tasks._admin.workers() == []


def test_cancelled_from_another_process(folder: Path) -> None:
    """The worker that has the job hears of it."""
    with Tasks(f"sqlite:{folder}/jobs.db") as tasks:
        job = tasks.task(name="hang")(lambda: None).delay()
        with ended(worker(folder)) as process:
            await_line(folder, "hang")
            assert job.status == "running"
            assert job.cancel()
            assert job.wait(10)
            assert job.status == "cancelled"
            process.terminate()
            assert process.wait(30) == 0


def test_stopped_and_continued(folder: Path) -> None:
    """A process that was stopped, taken for dead and goes on does not acknowledge for its successor."""
    with Tasks(f"sqlite:{folder}/jobs.db") as tasks:
        job = tasks.task(name="hang")(lambda: "successor").delay()
        with ended(worker(folder)) as process:
            await_line(folder, "hang")
            process.send_signal(signal.SIGSTOP)
            (found,) = tasks._admin.workers()
            assert tasks._admin.evict(found["id"]) == (1, 0)
            with tasks.worker():
                assert job.get(10) == "successor"
            process.send_signal(signal.SIGCONT)
            # It registers again, and runs jobs.
            again = tasks.task(name="note")(lambda n: n).delay(77)
            assert again.get(20) == 77
            assert job.result == "successor"
            assert "77" in ran(folder)
