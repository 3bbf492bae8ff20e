"""Streamed responses: their pace, clients that go, files."""

import contextlib
import io
import os
import tempfile
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import roving
from serving import Environ, Serving, StartResponse, request
from serving import quiet_log as quiet_log
from test_serve_wsgi import TEXT, Watched, watched

pytestmark = pytest.mark.usefixtures("quiet_log")


class Endless(Watched):
    """A body that does not end."""

    def __init__(self) -> None:
        """Give 16 KiB at a time."""
        super().__init__()
        self.ended = threading.Event()
        self.wakes = threading.Event()

    def __iter__(self) -> Iterator[bytes]:
        """Go on for ever."""
        while True:
            self.given += 1
            self.wakes.set()
            yield b"x" * 16384

    def close(self) -> None:
        """Note it."""
        super().close()
        self.ended.set()


def settle(body: Endless) -> int:
    """Wait until a body is asked for nothing more, and say how often it was."""
    while True:
        before = body.given
        roving.sleep(0.1)
        if body.given == before:
            return before


@pytest.mark.parametrize("how", ["close", "reset"])
def test_a_client_that_goes_ends_the_body(how: str) -> None:
    """The iterable is closed, nothing is logged, and meanwhile it was asked for no more than was taken."""
    body = Endless()
    with Serving(watched(body)) as server:
        client = server.client()
        client.send(request())
        assert client.head().status == 200
        # A few MiB are in the system's buffers.
        assert settle(body) * 16384 < 20_000_000
        getattr(client, how)()
        assert body.ended.wait(20)
        assert server.log == []
    assert body.closed == 1


def test_write_raises_when_the_client_has_gone() -> None:
    """BrokenPipeError, in the application."""
    outcome: list[BaseException] = []
    ended = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        try:
            while True:
                write(b"x" * 65536)
        except BaseException as error:
            outcome.append(error)
            raise
        finally:
            ended.set()

    with Serving(application) as server:
        client = server.client()
        client.send(request())
        client.head()
        client.close()
        assert ended.wait(20)
    assert type(outcome[0]) is BrokenPipeError


def test_a_client_that_takes_nothing_is_given_up() -> None:
    """After the write timeout."""
    body = Endless()
    with Serving(watched(body), timeout_write=0.3) as server, contextlib.closing(server.client()) as client:
        client.send(request())
        client.head()
        assert body.ended.wait(20)
    assert body.closed == 1


def test_a_slow_client_is_not_given_up() -> None:
    """As long as it takes something now and then."""
    size = 12_000_000

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", str(size))])
        for _ in range(size // 10_000):
            yield b"x" * 10_000

    with Serving(application, timeout_write=2.5) as server, contextlib.closing(server.client()) as client:
        client.send(request())
        client.head()
        left = size
        for _ in range(25):
            # All of them together take longer than the timeout; and each may be late.
            roving.sleep(0.12)
            left -= len(client.file.read(size // 25))
        assert left == 0


@pytest.mark.parametrize("cancels", [True, False])
@pytest.mark.parametrize("stage", ["before", "amid"])
def test_fibers_are_cancelled_if_asked(cancels: bool, stage: str) -> None:
    """When the client goes before it has all of its response; otherwise they go on."""
    events: list[str] = []
    begun, ended, go_on = threading.Event(), threading.Event(), roving.Event()

    def wait() -> None:
        begun.set()
        try:
            go_on.wait(20)
            events.append("went on")
        except roving.Cancelled:
            events.append("cancelled")
            raise
        finally:
            ended.set()

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        if stage == "before":
            wait()
        yield b"one"
        if stage == "amid":
            wait()

    with Serving(application, cancel_on_disconnect=cancels) as server:
        client = server.client()
        client.send(request())
        assert begun.wait(20)
        if stage == "amid":
            client.head()
        client.close()
        if not cancels:
            # It may have ended its sending half alone.
            assert not ended.wait(0.05)
            go_on.set()
        assert ended.wait(20)
        assert server.log == []
    assert events == ["cancelled" if cancels else "went on"]


def test_chunks_arrive_as_they_are_given() -> None:
    """None waits for the next."""
    gate = roving.Queue[bytes]()

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        while chunk := gate.get():
            yield chunk

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        client.send(request())
        for text in (b"one", b"two", b"three"):
            gate.put(text)
            if text == b"one":
                assert client.head().status == 200
            assert client.file.read(len(text) + 5) == b"%x\r\n%s\r\n" % (len(text), text)
        gate.put(b"")
        assert client.file.read(5) == b"0\r\n\r\n"


def test_a_large_response_is_not_copied_into_memory() -> None:
    """Far more than there may be in memory goes through."""
    size, block = 500_000_000, 1 << 20

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [("Content-Length", str(size))])
        data = b"x" * block
        left = size
        while left:
            part = min(left, block)
            yield data if part == block else data[:part]
            left -= part

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        client.send(request())
        client.head()
        before, left, buffer = resident(), size, bytearray(block)
        while left:
            count = client.file.readinto(buffer)
            assert count
            left -= count
        assert resident() - before < 30_000_000


def test_pipelined_requests_are_answered_in_order() -> None:
    """One after another, whatever they take."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", TEXT)
        number = int(environ["PATH_INFO"][1:])
        roving.sleep(0.002 * (number % 3))
        return [b"%d" % number, environ["wsgi.input"].read()]

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        client.send(b"".join(request(f"/{number}", method="POST", body=b"!") for number in range(100)))
        assert [client.response().body for _ in range(100)] == [b"%d!" % number for number in range(100)]


@pytest.fixture
def file() -> Iterator[str]:
    """Make a file of a MiB."""
    with tempfile.NamedTemporaryFile() as made:
        made.write(bytes(range(256)) * 4096)
        made.flush()
        yield made.name


class Wrapped(io.RawIOBase):
    """A file that is none of the system's."""

    def __init__(self, data: bytes) -> None:
        """Read this."""
        self.data = io.BytesIO(data)
        self.was_closed = False

    def readable(self) -> bool:
        """Say so."""
        return True

    def read(self, size: int | None = -1, /) -> bytes:
        """Read."""
        return self.data.read(size)

    def close(self) -> None:
        """Note it."""
        self.was_closed = True


@pytest.mark.parametrize("buffering", [-1, 0])
@pytest.mark.parametrize("start", [0, 1000])
@pytest.mark.parametrize("announced", [None, 5000])
def test_file_wrapper(file: str, buffering: int, start: int, announced: int | None) -> None:
    """From its position on, with its length; of no more than was announced; and it is closed."""
    files: list[Any] = []

    def application(environ: Environ, start_response: StartResponse) -> Any:
        opened = open(file, "rb", buffering)  # noqa: SIM115
        opened.read(start)
        files.append(opened)
        start_response("200 OK", [("Content-Length", str(announced))] if announced else [])
        return environ["wsgi.file_wrapper"](opened, 8192)

    expected = (bytes(range(256)) * 4096)[start:]
    expected = expected[:announced] if announced else expected
    with Serving(application) as server, contextlib.closing(server.client()) as client:
        for _ in range(2):
            found = client.get()
            assert found["content-length"] == str(len(expected))
            assert found.body == expected
        assert client.get(method="HEAD")["content-length"] == str(len(expected))
    assert [each.closed for each in files] == [True] * 3


@pytest.mark.parametrize("kind", ["pipe", "object", "text"])
def test_file_wrapper_of_other_files(kind: str) -> None:
    """They are read as Python reads them."""
    made: list[Any] = []

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        if kind == "pipe":
            reads, writes = os.pipe()
            os.write(writes, b"x" * 5000)
            os.close(writes)
            made.append(os.fdopen(reads, "rb"))
        elif kind == "object":
            made.append(Wrapped(b"x" * 5000))
        else:
            made.append(io.StringIO("x" * 5000))
        return environ["wsgi.file_wrapper"](made[-1])

    with Serving(application) as server:
        found = server.get()
        if kind == "text":
            assert found.status == 500
            assert "reads str, not bytes" in server.logged()[0]
        else:
            assert found.body == b"x" * 5000


def test_file_wrapper_in_other_hands(file: str) -> None:
    """Middleware may iterate over it, and close it."""

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response("200 OK", [])
        wrapper = environ["wsgi.file_wrapper"](open(file, "rb"), 100_000)  # noqa: SIM115
        blocks = list(wrapper)
        wrapper.close()
        assert {len(block) for block in blocks[:-1]} == {100_000}
        return blocks

    with Serving(application) as server:
        assert server.get().body == bytes(range(256)) * 4096
