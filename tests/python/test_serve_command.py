"""`roving serve` as it is run: its options, its log, signals and exit statuses."""

import contextlib
import os
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Self

import pytest
from serving import WAIT, Client, request

APPLICATION = """
import os, threading, time
import roving

def app(environ, start_response):
    path = environ["PATH_INFO"]
    start_response("200 OK", [("X-Fiber", str(roving.current() is not None))])
    if path == "/slow":
        def slow():
            yield b"begun"
            time.sleep(float(environ["QUERY_STRING"] or 0))
            while "until" in environ["HTTP_HOST"] and not os.path.exists("go"):
                time.sleep(0.001)
            yield b"ended"
        return slow()
    if path == "/thread":
        thread = threading.Thread(target=lambda: None)
        thread.start()
        thread.join()
        return [type(thread).__name__.encode() + b" " + str("time" in roving.patch.report()).encode()]
    environ["wsgi.errors"].write("a line of the application's\\n")
    return [b"hello"]

class shop:
    class wsgi:
        application = staticmethod(app)

def create():
    return app

number = 3
"""


class Command:
    """A server in a process of its own."""

    def __init__(self, folder: Path, *arguments: str, prefix: Iterable[str] = (), **more: object) -> None:
        """Start it, by way of another command perhaps, and wait until it serves."""
        self.process: subprocess.Popen[str] = subprocess.Popen(
            [*prefix, sys.executable, "-m", "roving", "serve", *arguments],
            cwd=folder,
            stderr=subprocess.PIPE,
            text=True,
            **more,  # type: ignore[call-overload]
        )
        self.log = ""
        found = None
        while found is None:
            assert self.process.stderr is not None
            line = self.process.stderr.readline()
            assert line, self.log
            self.log += line
            found = re.search(r" on (?:127\.0\.0\.1:(\d+)|(unix:\S+?))[, ]", line)
        self.port = int(found[1] or 0)

    def client(self) -> Client:
        """Connect."""
        return Client(("127.0.0.1", self.port))

    def wait_for(self, text: str) -> None:
        """Wait until it logs that."""
        assert self.process.stderr is not None
        line = ""
        while text not in line:
            line = self.process.stderr.readline()
            assert line, self.log
            self.log += line

    def end(self) -> int:
        """Wait for its end; give its status."""
        _, rest = self.process.communicate(timeout=WAIT)
        self.log += rest
        return self.process.returncode

    def __enter__(self) -> Self:
        """Return it."""
        return self

    def __exit__(self, *_: object) -> None:
        """End it, whatever it does."""
        if self.process.poll() is None:
            self.process.kill()
            self.process.communicate()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Make a folder with an application."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    return tmp_path


def fails(folder: Path, *arguments: str) -> tuple[int, str]:
    """Run it where it cannot serve; give its status and what it says."""
    done = subprocess.run(
        [sys.executable, "-m", "roving", "serve", *arguments],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=False,
    )
    assert done.stdout == ""
    return done.returncode, done.stderr


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_it_serves_and_stops(folder: Path, number: int) -> None:
    """On a port that the system chooses; what is in flight is finished, and its status is 0."""
    with Command(folder, "shop:app", "--bind", "127.0.0.1:0", "--workers", "2") as server:
        with contextlib.closing(server.client()) as client, contextlib.closing(server.client()) as slow:
            found = client.get()
            assert (found.body, found["x-fiber"]) == (b"hello", "True")
            assert client.get("/thread").body == b"Thread True"
            slow.send(b"GET /slow HTTP/1.1\r\nHost: until.told\r\n\r\n")
            slow.head()
            server.process.send_signal(number)
            assert client.is_closed()
            (folder / "go").touch()
            assert slow.file.read() == b"5\r\nbegun\r\n5\r\nended\r\n0\r\n\r\n"
        assert server.end() == 0
    assert "a line of the application's" in server.log
    # Its client may see a response before the request is over.
    assert re.search("stopping; [12] requests are in flight", server.log)
    assert "Traceback" not in server.log


def test_what_is_not_finished_in_time_is_broken_off(folder: Path) -> None:
    """The status is 0 all the same."""
    with Command(folder, "shop:app", "--bind", "127.0.0.1:0", "--graceful-timeout", "0.2") as server:
        with contextlib.closing(server.client()) as slow:
            slow.send(request("/slow?60"))
            slow.head()
            server.process.send_signal(signal.SIGTERM)
            assert slow.file.read() == b"5\r\nbegun\r\n"
        assert server.end() == 0
    assert "has been broken off" in server.log


def test_a_second_interrupt_leaves_at_once(folder: Path) -> None:
    """With the status of a process that was interrupted."""
    with Command(folder, "shop:app", "--bind", "127.0.0.1:0") as server:
        with contextlib.closing(server.client()) as slow:
            slow.send(request("/slow?60"))
            slow.head()
            server.process.send_signal(signal.SIGINT)
            assert server.process.stderr is not None
            assert "stopping" in server.process.stderr.readline()
            server.process.send_signal(signal.SIGINT)
            assert server.end() == 130


@pytest.mark.parametrize(
    "arguments",
    [
        ["shop"],
        ["shop:shop.wsgi.application"],
        ["--factory", "shop:create"],
        ["shop:app", "--host", "127.0.0.1"],
    ],
)
def test_applications_are_found(folder: Path, arguments: list[str]) -> None:
    """By their usual names, as attributes of attributes, made by a factory; from another folder."""
    place = ["--port", "0"] if "--host" in arguments else ["--bind", "127.0.0.1:0"]
    with Command(Path("/"), *arguments, *place, "--app-dir", str(folder)) as server:
        with contextlib.closing(server.client()) as client:
            assert client.get().body == b"hello"
        server.process.terminate()
        assert server.end() == 0


def test_it_listens_where_it_is_told(folder: Path) -> None:
    """On a Unix socket, which is gone afterwards; on a descriptor that it inherits."""
    with socket.create_server(("127.0.0.1", 0)) as inherited:
        number = inherited.fileno()
        place = f"fd://{number}"
        with Command(
            folder, "shop:app", "--bind", f"unix:{folder}/socket", "--bind", place, pass_fds=[number]
        ) as server:
            for address in (f"{folder}/socket", inherited.getsockname()):
                with contextlib.closing(Client(address)) as client:
                    assert client.get().body == b"hello"
            server.process.terminate()
            assert server.end() == 0
    assert not (folder / "socket").exists()


def test_a_socket_that_was_left_behind(folder: Path) -> None:
    """It is in nobody's way; another's file, or socket, is."""
    with contextlib.closing(socket.socket(socket.AF_UNIX)) as left:
        left.bind(f"{folder}/socket")
    with Command(folder, "shop:app", "--uds", f"{folder}/socket") as server:
        status, text = fails(folder, "shop:app", "--uds", f"{folder}/socket")
        assert (status, "Address already in use" in text) == (1, True)
        with contextlib.closing(Client(f"{folder}/socket")) as client:
            assert client.get().body == b"hello"
        server.process.terminate()
        assert server.end() == 0
    (folder / "file").write_text("precious")
    status, text = fails(folder, "shop:app", "--uds", f"{folder}/file")
    assert (status, "Address already in use" in text) == (1, True)
    assert (folder / "file").read_text() == "precious"


def test_a_port_in_use(folder: Path) -> None:
    """It is named, without a traceback."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        assert fails(folder, "shop:app", "--bind", place) == (
            1,
            f"roving: cannot listen on {place}: Address already in use\n",
        )


# The arguments: what is said, on how many lines.
MISTAKES: dict[str, tuple[list[str], int, str]] = {
    "no application": ([], 2, "the following arguments are required: MODULE:APPLICATION"),
    "no module": (["nothing:app"], 1, "roving: there is no module 'nothing' here, nor on sys.path"),
    "no attribute": (["shop:nothing"], 1, "roving: module 'shop' has no 'nothing'"),
    "no callable": (["shop:number"], 1, "roving: shop:number is no WSGI application: int is not callable"),
    "no factory": (["--factory", "shop:number"], 1, "roving: shop:number is no factory: int is not callable"),
    "no name": (["json"], 1, "roving: module 'json' has neither application nor app: say json:NAME"),
    "misspelt": (["shop:app", "--workes", "3"], 2, "there is no option --workes; did you mean --workers?"),
    "gunicorn's": (["shop:app", "--threads", "3"], 2, "there is no option --threads: there are fibers"),
    "no workers": (["shop:app", "--workers", "0"], 2, "'0' is not a number from 1 on"),
    "no time": (["shop:app", "--keep-alive", "long"], 2, "'long' is not a number of seconds"),
    "no place": (
        ["shop:app", "--bind", "here:there"],
        1,
        "roving: 'here:there' is no HOST:PORT: 'there' is no port",
    ),
}


@pytest.mark.parametrize("what", MISTAKES)
def test_mistakes_are_told(folder: Path, what: str) -> None:
    """In one line, with the status that says whose they are."""
    arguments, status, text = MISTAKES[what]
    found, said = fails(folder, *arguments)
    assert found == status
    assert said.splitlines()[-1].endswith(text) or text in said.splitlines()[-1]
    assert "Traceback" not in said


def test_an_application_that_does_not_import(folder: Path) -> None:
    """Its traceback, from its own frames on, and 1."""
    (folder / "broken.py").write_text("import shop\n\ndef fail():\n    import nowhere\n\nfail()\n")
    status, text = fails(folder, "broken:app")
    assert status == 1
    assert "No module named 'nowhere'" in text
    assert text.splitlines()[-1] == "roving: broken:app cannot be imported"
    assert "importlib" not in text
    assert "_load.py" not in text
    (folder / "failing.py").write_text("def create():\n    raise KeyError('settings')\n")
    status, text = fails(folder, "--factory", "failing:create")
    assert (status, "KeyError: 'settings'" in text) == (1, True)


def test_help() -> None:
    """It names every option, each with its default."""
    done = subprocess.run(
        [sys.executable, "-m", "roving", "serve", "--help"],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
        env={**os.environ, "COLUMNS": "100"},
    )
    for option in (
        "--bind",
        "--workers",
        "--factory",
        "--graceful-timeout",
        "--limit-concurrency",
        "--keep-alive",
    ):
        assert option in done.stdout
    assert "examples:" in done.stdout


@pytest.fixture
def stopped(folder: Path) -> Iterator[Command]:
    """Serve on one worker."""
    with Command(folder, "shop:app", "--bind", "127.0.0.1:0", "--workers", "1") as server:
        yield server
        server.process.terminate()
        assert server.end() == 0


def test_a_request_that_blocks_holds_up_nobody(stopped: Command) -> None:
    """What sleeps is a fiber, since the library was patched before the application was imported."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(stopped.client())) for _ in range(50)]
        for client in clients:
            client.send(request("/slow?0.3"))
        for client in clients:
            assert client.head().status == 200
        with contextlib.closing(stopped.client()) as quick:
            assert quick.get().body == b"hello"
        for client in clients:
            assert client.file.read(25) == b"5\r\nbegun\r\n5\r\nended\r\n0\r\n\r\n"
