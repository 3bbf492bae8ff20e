"""`roving serve --tasks`: requests and jobs in one process."""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import textwrap
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Self

import child
import pytest
from roving.tasks import Tasks
from serving import WAIT
from test_serve_command import Command, fails

MODULE = """
    import os
    import socket
    from roving.tasks import Tasks

    FOLDER = os.path.dirname(os.path.abspath(__file__))
    tasks = Tasks(f"sqlite:{FOLDER}/jobs.db")
    other = Tasks(f"sqlite:{FOLDER}/other.db")

    @tasks.task
    def add(a, b):
        return a + b

    @tasks.task
    def waits(port):
        with socket.create_connection(("127.0.0.1", port)) as gate:
            gate.sendall(b"%d\\n" % os.getpid())
            gate.recv(1)
        return "finished"

    @other.task
    def twice(n):
        return 2 * n

    def app(environ, start_response):
        start_response("200 OK", [])
        path = environ["PATH_INFO"]
        if path == "/add":
            return [str(add.delay(1, 2).get(timeout=20)).encode()]
        elif path == "/twice":
            return [str(twice.delay(4).get(timeout=20)).encode()]
        elif path == "/waits":
            return [waits.delay(int(environ["QUERY_STRING"])).id.encode()]
        return [str(os.getpid()).encode()]
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with a module that has an application and tasks."""
    (tmp_path / "shop.py").write_text(textwrap.dedent(MODULE))
    return tmp_path


class Gate:
    """Where jobs say that they run, and wait."""

    def __init__(self) -> None:
        """Listen."""
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._listener.settimeout(WAIT)
        self.query = f"/waits?{self._listener.getsockname()[1]}"
        self._waiting: list[socket.socket] = []

    def begun(self) -> int:
        """Wait until a job runs; say in which process."""
        connection, _ = self._listener.accept()
        self._waiting.append(connection)
        with connection.makefile() as said:
            return int(said.readline())

    def open(self) -> None:
        """Let those go on that have begun."""
        while self._waiting:
            self._waiting.pop().close()

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close all of it."""
        self.open()
        self._listener.close()


@pytest.fixture
def gate() -> Iterator[Gate]:
    """Make one."""
    with Gate() as made:
        yield made


def serve(folder: Path, *arguments: str) -> Command:
    """Serve both."""
    return Command(folder, "shop:app", "--tasks", "shop", "--bind", "127.0.0.1:0", *arguments)


def get(server: Command, path: str) -> str:
    """Ask over a connection of its own."""
    url = f"http://127.0.0.1:{server.port}{path}"
    with urllib.request.urlopen(url, timeout=WAIT) as response:
        return str(response.read().decode())


def test_a_request_waits_for_its_job(folder: Path) -> None:
    """Both are fibers of one process; several stores have their workers."""
    with serve(folder, "--tasks", "shop:other", "--workers", "2") as server:
        assert get(server, "/add") == "3"
        assert get(server, "/twice") == "8"
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
    assert "jobs of all queues" in server.log
    assert "jobs ended" in server.log


def test_jobs_are_finished_when_it_stops(folder: Path, gate: Gate) -> None:
    """Within the grace; the server, which is done, waits for them."""
    with serve(folder) as server:
        id = get(server, gate.query)
        assert gate.begun() == server.process.pid
        server.process.send_signal(signal.SIGTERM)
        server.wait_for("no more jobs are begun; 1 run")
        gate.open()
        assert server.end() == 0
    assert "jobs ended" in server.log
    with Tasks(f"sqlite:{folder / 'jobs.db'}") as tasks:
        assert (tasks.job(id).status, tasks.job(id).result) == ("succeeded", "finished")


def test_jobs_that_take_too_long_are_handed_back(folder: Path, gate: Gate) -> None:
    """Not as a failed attempt: the next start runs them again."""
    with serve(folder, "--graceful-timeout", "0.2") as server:
        id = get(server, gate.query)
        gate.begun()
        server.process.send_signal(signal.SIGTERM)
        assert server.end() == 0
        assert "handed back" in server.log
    with serve(folder) as server, Tasks(f"sqlite:{folder / 'jobs.db'}") as tasks:
        assert gate.begun() == server.process.pid
        gate.open()
        job = tasks.job(id)
        assert (job.get(timeout=WAIT), job.state().deaths) == ("finished", 0)


def test_a_killed_process_s_job_runs_again(folder: Path, gate: Gate) -> None:
    """As soon as another serves."""
    with serve(folder) as server:
        id = get(server, gate.query)
        gate.begun()
        server.process.kill()
        server.end()
    with serve(folder) as server, Tasks(f"sqlite:{folder / 'jobs.db'}") as tasks:
        assert gate.begun() == server.process.pid
        gate.open()
        job = tasks.job(id)
        assert (job.get(timeout=WAIT), job.state().deaths) == ("finished", 1)


def test_the_successor_has_the_jobs_that_come(folder: Path, gate: Gate) -> None:
    """The one before finishes those that it has."""
    with serve(folder) as server, Tasks(f"sqlite:{folder / 'jobs.db'}") as tasks:
        first = get(server, gate.query)
        assert gate.begun() == server.process.pid
        server.process.send_signal(signal.SIGHUP)
        server.wait_for("no more jobs are begun; 1 run")
        second = get(server, gate.query)
        heir = gate.begun()
        assert heir != server.process.pid
        gate.open()
        jobs = [tasks.job(first), tasks.job(second)]
        assert [job.get(timeout=WAIT) for job in jobs] == ["finished", "finished"]
        assert [job.state().deaths for job in jobs] == [0, 0]
        # The first has nothing left to do; the other is told to end, and both have the log.
        os.kill(heir, signal.SIGTERM)
        assert server.end() == 0


def test_what_is_no_tasks(folder: Path) -> None:
    """Said before it serves."""
    status, said = fails(folder, "shop:app", "--tasks", "shop:nothing", "--bind", "127.0.0.1:0")
    assert (status, said) == (1, "roving: module 'shop' has no 'nothing'\n")
    status, said = fails(folder, "shop:app", "--tasks", "shop:app", "--bind", "127.0.0.1:0")
    assert status == 1
    assert "shop:app is a function, and a roving.tasks.Tasks is wanted" in said


def test_the_site_of_the_examples(tmp_path: Path) -> None:
    """A text goes in, its counts come out, and the page hears of them as they come."""
    command = [sys.executable, "-m", "roving", "serve", "words_site:app", "--tasks", "words_site:tasks"]
    server = subprocess.Popen(
        [*command, "--bind", "127.0.0.1:0"],
        cwd=child.ROOT / "examples" / "python",
        env={**os.environ, "WORDS_FOLDER": str(tmp_path), "PYTHONDONTWRITEBYTECODE": "1"},
        stderr=subprocess.PIPE,
        text=True,
    )
    try:
        assert server.stderr is not None
        said = ""
        while not (found := re.search(r" on 127\.0\.0\.1:(\d+),", said)):
            said = server.stderr.readline()
            assert said
        url = f"http://127.0.0.1:{found[1]}"
        body = b"text=A+word%2C+and+a+word.%0Aand+more"
        with urllib.request.urlopen(f"{url}/count", body, timeout=WAIT) as page:
            shown = page.url
        with urllib.request.urlopen(f"{shown}/events", timeout=WAIT) as events:
            last = events.read().decode().split("data: ")[-1]
        state = json.loads(last)
        assert (state["status"], state["percent"]) == ("succeeded", 100)
        assert (state["result"]["words"], state["result"]["different"]) == (7, 4)
        assert dict(state["result"]["most"]) == {"a": 2, "word": 2, "and": 2, "more": 1}
        with urllib.request.urlopen(shown, timeout=WAIT) as page:
            assert "7 words" in " ".join(page.read().decode().split())
        with urllib.request.urlopen(url, timeout=WAIT) as page:
            assert "succeeded" in page.read().decode()
    finally:
        server.terminate()
        server.communicate(timeout=WAIT)
    assert server.returncode == 0
