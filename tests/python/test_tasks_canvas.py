"""Chains, groups and chords: what they give, what comes of failures, and that nothing is lost."""

import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from roving.tasks import (
    Canvas,
    Job,
    JobCancelled,
    JobFailed,
    JobGroup,
    Tasks,
    chain,
    chord,
    group,
)


@dataclass
class Point:
    """Comes back by the annotations of those who give and take it."""

    x: int
    y: int


class Site:
    """Tasks to be put together."""

    def __init__(self, url: str, **options: Any) -> None:
        """Declare them."""
        self.tasks = tasks = Tasks(url, **options)
        self.broken: set[str] = set()

        @tasks.task(name="add")
        def add(*numbers: int) -> int:
            return sum(numbers)

        @tasks.task(name="pack")
        def pack(*values: Any, **named: Any) -> list[Any]:
            return [*values, *sorted(named.items())]

        # Nobody keeps its result but those who take it.
        @tasks.task(name="double", keep_result=False)
        def double(number: int) -> int:
            return 2 * number

        @tasks.task(name="fragile", backoff=0)
        def fragile(*values: Any, key: str = "") -> str:
            if key in self.broken:
                raise OSError(f"{key} is broken")
            return key

        @tasks.task(name="point")
        def point(x: int, y: int) -> Point:
            return Point(x, y)

        @tasks.task(name="turn")
        def turn(point: Point) -> Point:
            return Point(point.y, point.x)

        @tasks.task(name="single", unique=True)
        def single(*values: Any) -> int:
            return 1

        self.add, self.pack, self.double, self.fragile = add, pack, double, fragile
        self.point, self.turn, self.single = point, turn, single

    def statuses(self) -> list[str]:
        """Say where the jobs are, in the order of their enqueueing."""
        return [job.status for job in self.tasks.jobs(newest_first=False)]


@pytest.fixture(params=["memory", "sqlite"])
def site(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Site]:
    """A site with each store."""
    made = Site("memory:" if request.param == "memory" else f"sqlite:{tmp_path / 'jobs.db'}")
    with made.tasks:
        yield made


def canvases(site: Site) -> list[tuple[Canvas, Any]]:
    """Give canvases, and what they give, with 5 and z=6 given to `delay`."""
    add, pack, double = site.add, site.pack, site.double
    return [
        (pack.s(1, a=2), [5, 1, ["a", 2], ["z", 6]]),
        (pack.si(1, a=2), [1, ["a", 2]]),
        (chain(pack.s(1)), [5, 1, ["z", 6]]),
        (chain(pack.s(1), pack.s(2)), [[5, 1, ["z", 6]], 2]),
        (chain(pack.s(1), pack.si(2), pack.s(3)), [[2], 3]),
        (add.si(1, 2) | add.s(3) | add.s(4), 10),
        (chain(chain(add.si(1, 2), double.s()), chain(double.s(), add.s(1))), 13),
        (group(pack.s(1), pack.si(2)), [[5, 1, ["z", 6]], [2]]),
        (group(add.si(n, n) for n in range(4)), [0, 2, 4, 6]),
        (group(add.si(1), group(add.si(2), add.si(3)), chain(add.si(4), add.s(5))), [1, [2, 3], 9]),
        (group(), []),
        (chord([add.si(1, 2), double.si(3)], pack.s(4)), [[3, 6], 4]),
        (chord(group(add.si(n) for n in (3, 1, 2)), pack.s()), [[3, 1, 2]]),
        (chord([double.si(1)], pack.si(2)), [2]),
        (chord([], pack.s(1)), [[], 1]),
        (chain(add.si(1), group(add.s(1), double.s()), pack.s()), [[2, 2]]),
        (chain(group(add.si(1), add.si(2)), group(pack.s(), pack.s(3))), [[[1, 2]], [[1, 2], 3]]),
        (chain(add.si(1), group(), pack.s()), [[]]),
        (chain(chain(add.si(1), group()), pack.s()), [[]]),
        (chord([chord([add.si(1), add.si(2)], pack.s(9)), add.si(3)], pack.s()), [[[[1, 2], 9], 3]]),
        (chain(chord([add.si(1), add.si(2)], pack.s()), pack.s(7)), [[[1, 2]], 7]),
        (group(chord([add.si(1)], pack.s()), add.si(2)) | pack.s(), [[[[1]], 2]]),
        (chain(site.point.si(1, 2), site.turn.s()), Point(2, 1)),
        (chord([site.point.si(1, 2), site.point.si(3, 4)], pack.si()), []),
    ]


def test_what_they_give(site: Site) -> None:
    """Each alone, and all of them at once."""
    with site.tasks.worker():
        enqueued = [(canvas, canvas.delay(5, z=6), expected) for canvas, expected in canvases(site)]
        for canvas, job, expected in enqueued:
            assert listed(job.get(timeout=20)) == expected, canvas
    assert "failed" not in site.statuses()


def listed(value: Any) -> Any:
    """Put tuples as lists."""
    return [listed(part) for part in value] if isinstance(value, list | tuple) else value


def test_what_they_give_eagerly() -> None:
    """Where they are enqueued."""
    site = Site("memory:", eager=True)
    for canvas, expected in canvases(site):
        assert listed(canvas.delay(5, z=6).get(timeout=0)) == expected, canvas


def test_they_are_on_disk_at_once(site: Site) -> None:
    """As a whole, in one commit, with nobody there who runs them."""
    canvas = chain(site.add.s(1), group(site.add.s(2), site.double.s()), site.pack.s())
    job = canvas.delay()
    assert isinstance(job, Job)
    assert site.statuses() == ["queued", "waiting", "waiting", "waiting"]
    with site.tasks.worker():
        assert job.get(timeout=10) == [[3, 2]]


def test_options_go_with_the_job(site: Site) -> None:
    """Those of apply_async."""
    call = site.add.s(1).set(queue="slow", priority=7).set(countdown=3600)
    chain(site.add.s(2), call, call.set(queue="fast", countdown=None)).delay()
    jobs = site.tasks.jobs(newest_first=False)
    assert [(job.queue, job.priority) for job in jobs] == [("default", 0), ("slow", 7), ("fast", 7)]
    assert [job.eta is not None for job in jobs] == [False, True, False]


def test_a_link_that_is_tried_again_is_waited_for(site: Site) -> None:
    """As long as it has attempts."""
    seen = []

    @site.tasks.task(name="third time", retries=2, backoff=0)
    def third_time() -> int:
        seen.append(1)
        if len(seen) < 3:
            raise OSError
        return len(seen)

    with site.tasks.worker():
        assert chain(third_time.s(), site.add.s(1)).delay().get(timeout=10) == 4


def test_a_chain_that_fails_goes_on_when_it_is_retried(site: Site) -> None:
    """From where it stood: what succeeded does not run again."""
    site.broken.add("b")
    ran = []
    site.tasks.hooks.before(lambda attempt: ran.append(attempt.task))
    job = chain(site.add.s(1), site.fragile.s(key="b"), site.pack.s(2)).delay()
    with site.tasks.worker():
        with pytest.raises(JobFailed, match="a job of the group that this one waits for did not succeed"):
            job.get(timeout=10)
        assert site.statuses() == ["succeeded", "failed", "failed"]
        assert "b is broken" in site.tasks.jobs(newest_first=False)[1].error
        site.broken.clear()
        site.tasks.job(site.tasks.jobs(newest_first=False)[1].id).retry()
        assert job.get(timeout=10) == ["b", 2]
    assert ran == ["add", "fragile", "fragile", "pack"]


def test_a_chord_whose_header_fails(site: Site) -> None:
    """Its body does not run, until that has been put right; others' results are kept for it."""
    site.broken.add("b")
    body = chord([site.double.s(4), site.fragile.s(key="b"), site.double.s(5)], site.pack.s()).delay()
    with site.tasks.worker():
        with pytest.raises(JobFailed):
            body.get(timeout=10)
        site.tasks._admin.prune()
        failed = site.tasks.jobs(statuses=["failed"], task="fragile")
        site.broken.clear()
        site.tasks.job(failed[0].id).retry()
        assert body.get(timeout=10) == [[8, "b", 10]]


def test_cancelled_links_fail_the_rest(site: Site) -> None:
    """They will not give what is waited for."""
    first, last = site.add.s(1).set(countdown=3600), site.pack.s()
    job = chain(first, last).delay()
    site.tasks.job(site.tasks.jobs(newest_first=False)[0].id).cancel()
    with pytest.raises(JobFailed, match="did not succeed"):
        job.get(timeout=0)


def test_a_result_that_was_purged(site: Site) -> None:
    """By hand, while somebody waits: it fails, and says why."""
    job = chain(site.add.s(1), site.pack.s().set(queue="later")).delay()
    with site.tasks.worker(queues=["default"]):
        assert site.tasks.job(site.tasks.jobs(newest_first=False)[0].id).wait(10)
    site.tasks.purge(task="add")
    with site.tasks.worker(), pytest.raises(JobFailed, match=r"the result of job .* is not there any more"):
        job.get(timeout=10)


def test_a_group_is_a_sequence_of_its_jobs(site: Site) -> None:
    """And can be waited for as a whole."""
    jobs = group(
        site.add.s(1), group(site.add.s(2), site.add.s(3)), site.add.s(4).set(countdown=3600)
    ).delay()
    assert isinstance(jobs, JobGroup)
    assert (len(jobs), len(jobs[1]), len(list(jobs.jobs()))) == (3, 2, 4)
    assert jobs.counts() == {"queued": 3, "scheduled": 1}
    assert not jobs.wait(0)
    assert not jobs.finished
    with pytest.raises(TimeoutError):
        jobs.get(timeout=0)
    with site.tasks.worker():
        assert jobs[1].get(timeout=10) == [2, 3]
        assert jobs.cancel()
        assert jobs.wait(10)
    assert jobs.finished
    assert not jobs.cancel()
    with pytest.raises(JobCancelled):
        jobs.get(timeout=0)


def test_within_a_job(site: Site) -> None:
    """A task may enqueue a canvas, and is the parent of its jobs."""

    @site.tasks.task(name="split")
    def split(count: int) -> str:
        job = chord((site.add.s(n, 1) for n in range(count)), site.pack.s()).delay()
        assert isinstance(job, Job)
        return job.id

    with site.tasks.worker():
        parent = split.delay(3)
        body = site.tasks.job(parent.get(timeout=10))
        assert body.get(timeout=10) == [[1, 2, 3]]
    assert {job.parent for job in site.tasks.jobs() if job.task != "split"} == {parent.id}


def test_many_at_once(site: Site) -> None:
    """A chord of five hundred, and a chain of a hundred."""
    links = [site.add.s(1) for _ in range(100)]
    with site.tasks.worker():
        total = chord((site.double.s(n) for n in range(500)), site.pack.s()).delay()
        length = chain(links).delay()
        assert length.get(timeout=30) == 100
        assert total.get(timeout=30) == [[2 * n for n in range(500)]]


def test_what_makes_no_canvas_is_told(site: Site) -> None:
    """Where it is written, and nothing is enqueued."""
    with pytest.raises(ValueError, match=r"chain\(\) takes at least one part"):
        chain()
    for make in (chain, group):
        with pytest.raises(TypeError, match=r"takes calls \(task\.s\(\.\.\.\)\), .* and 3 is none"):
            make(site.add.s(1), 3)  # type: ignore[arg-type]
    with pytest.raises(TypeError):
        site.add.s(1) | 3  # type: ignore[operator]
    with pytest.raises(ValueError, match="single is unique, and other jobs would wait for this one"):
        chain(site.single.s(), site.add.s()).delay()
    with pytest.raises(TypeError, match=r"turn: .*too many positional"):
        chain(site.add.s(1), site.turn.s(2)).delay()
    with pytest.raises(ValueError, match="argument 'number'"):
        chain(site.add.s(1), site.double.si(float("nan"))).delay()
    other = Site("memory:")
    with pytest.raises(ValueError, match="is a task of other Tasks"):
        chain(site.add.s(1), other.add.s(2)).delay()
    assert site.statuses() == []
    # The last one nobody waits for.
    assert isinstance(chain(site.add.s(), site.single.s()).delay(), Job)


def test_they_show_what_they_are(site: Site) -> None:
    """As they were written."""
    canvas = chain(site.add.s(1), group(site.add.si(2), site.pack.s(a=3)))
    assert repr(canvas) == "chain(add.s(1), group(add.si(2), pack.s(a=3)))"
    assert repr(chord([site.add.s(1)], site.pack.s())) == "chord(group(add.s(1)), pack.s())"


PROGRAM = """
    import os, signal, sys
    from roving.tasks import Tasks, chain, chord, group

    tasks = Tasks("sqlite:" + sys.argv[1])

    def die_once(name):
        # The process dies under the job, the first time.
        try:
            os.close(os.open(sys.argv[2] + "/" + name, os.O_CREAT | os.O_EXCL))
        except FileExistsError:
            return
        os.kill(os.getpid(), signal.SIGKILL)

    @tasks.task(name="add")
    def add(*numbers, dies=""):
        if dies:
            die_once(dies)
        return sum(numbers)

    @tasks.task(name="total")
    def total(numbers, dies=""):
        die_once(dies)
        return sum(numbers)

    if sys.argv[3] == "enqueue":
        header = [add.s(n, dies=f"header{n}") for n in range(3)]
        job = chain(chord(header, total.s(dies="body")), add.s(100, dies="link"), add.s(1000)).delay(10)
        print(job.id, flush=True)
        os.kill(os.getpid(), signal.SIGKILL)
    else:
        worker = tasks.worker(concurrency=1).start(drain=True)
        worker.wait()
        print(tasks.job(sys.argv[4]).get(timeout=0), flush=True)
"""


def test_whatever_dies_when_it_goes_on(tmp_path: Path) -> None:
    """After the enqueue, in the header, in the body, in a link: kill -9 each time, and a worker after it."""
    program = tmp_path / "program.py"
    program.write_text(textwrap.dedent(PROGRAM))
    arguments = [sys.executable, str(program), str(tmp_path / "jobs.db"), str(tmp_path)]

    def child(*more: str) -> tuple[int, str]:
        done = subprocess.run([*arguments, *more], stdout=subprocess.PIPE, text=True, timeout=60, check=False)
        return done.returncode, done.stdout.strip()

    code, id = child("enqueue")
    assert code == -signal.SIGKILL
    codes = []
    while (ended := child("work", id))[0] == -signal.SIGKILL:
        codes.append(ended[0])
        assert len(codes) < 10
    assert len(codes) == 5
    assert ended == (0, str(sum(range(3)) + 3 * 10 + 100 + 1000))


def test_a_chain_that_ends_with_a_group_of_nothing(site: Site) -> None:
    """What follows it waits for the last job before it, and gets the empty list."""
    pack = site.tasks["pack"]
    canvas = chain(chain(pack.s(1), group()), pack.s(2))
    with site.tasks.worker():
        job = canvas.delay()
        assert isinstance(job, Job)
        assert job.get(timeout=10) == pack([], 2)
        first, last = sorted(site.tasks.jobs(), key=lambda state: str(state.id))
        assert last.started_at >= first.finished_at
