"""Request bodies: every way to read them, and clients that break off, are slow, or send too much."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import roving
from serving import Client, Environ, Serving, StartResponse, chunked, request
from serving import quiet_log as quiet_log

pytestmark = pytest.mark.usefixtures("quiet_log")

BODY = b"one\ntwo\n\nthree" + b"x" * 100_000 + b"\nend"


class Reads:
    """An application that reads, and keeps what came of it."""

    def __init__(self, read: Callable[[Any], Any]) -> None:
        """Call this with the input."""
        self.read = read
        self.outcomes: list[Any] = []
        self.began = threading.Event()

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Read."""
        self.began.set()
        try:
            outcome = self.read(environ["wsgi.input"])
        except Exception as error:
            outcome = error
        self.outcomes.append(outcome)
        start_response("200 OK", [])
        return [repr(outcome).encode()] if isinstance(outcome, Exception) else [b"read"]


def lines(source: Any) -> list[bytes]:
    """Read line by line."""
    found = []
    while line := source.readline():
        found.append(line)
    return found


# How it is read: what that gives, joined.
WAYS: dict[str, Callable[[Any], Any]] = {
    "read": lambda source: [source.read()],
    "read(-1)": lambda source: [source.read(-1)],
    "read(None)": lambda source: [source.read(None)],
    "read(n)": lambda source: list(iter(lambda: source.read(1000), b"")),
    "read(1)": lambda source: [source.read(1) for _ in range(2000)] + [source.read()],
    "readline": lines,
    "readline(n)": lambda source: list(iter(lambda: source.readline(7), b"")),
    "readlines": lambda source: source.readlines(),
    "readlines(n)": lambda source: source.readlines(3) + source.readlines(),
    "iteration": list,
    "of each": lambda source: [
        source.readline(),
        source.read(2),
        next(source),
        source.read(0),
        source.read(),
    ],
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("sent", ["at once", "chunked", "in pieces"])
def test_reading(way: str, sent: str) -> None:
    """All of it, however it is sent and read; after the end there is b""."""
    reads = Reads(
        lambda source: (WAYS[way](source), source.read(), source.readline(), source.read(10), list(source))
    )
    with Serving(reads) as server, contextlib.closing(server.client()) as client:
        for _ in range(2):
            if sent == "chunked":
                parts = [BODY[:1], BODY[1:9], BODY[9:70_000], BODY[70_000:]]
                client.send(request("/", "Transfer-Encoding: chunked", method="POST") + chunked(*parts))
            elif sent == "in pieces":
                reads.began.clear()
                whole = request("/", method="POST", body=BODY)
                # The application begins once 64 KiB are there.
                client.send(whole[:-20_000])
                assert reads.began.wait(20)
                client.send(whole[-20_000:])
            else:
                client.send(request("/", method="POST", body=BODY))
            assert client.response().body == b"read"
    for pieces, *after in reads.outcomes:
        assert b"".join(pieces) == BODY
        assert after == [b"", b"", b"", []]
        if way in ("readline", "readlines", "iteration"):
            assert pieces == BODY.splitlines(keepends=True)
        if way == "read(n)":
            assert {len(piece) for piece in pieces[:-1]} == {1000}
    assert len(reads.outcomes) == 2


def test_without_a_body() -> None:
    """There is nothing, at once."""
    reads = Reads(lambda source: (source.read(), source.readline(), source.readlines(), list(source)))
    with Serving(reads) as server:
        assert server.get().body == b"read"
    assert reads.outcomes == [(b"", b"", [], [])]


def test_the_application_begins_when_the_body_does_not_all_fit() -> None:
    """Once 64 KiB are there; and not before."""
    reads = Reads(lambda source: len(source.read()))
    with Serving(reads) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", "Content-Length: 100000", method="POST") + b"x" * 60_000)
        with contextlib.closing(server.client()) as other:
            # Another request is answered meanwhile: the first has not been begun on.
            other.send(request())
            assert other.response().body == b"read"
        assert reads.outcomes == [0]
        client.send(b"x" * 40_000)
        assert client.response().body == b"read"
    assert reads.outcomes == [0, 100_000]


@pytest.mark.parametrize(
    ("head", "sent"),
    [
        (("Content-Length: 200000",), b"x" * 70_000),
        (("Transfer-Encoding: chunked",), b"%x\r\n%s" % (200_000, b"x" * 70_000)),
        (("Transfer-Encoding: chunked",), b"%x\r\n%s\r\n" % (70_000, b"x" * 70_000)),
    ],
)
@pytest.mark.parametrize("way", ["read", "readline", "iteration", "read(n)"])
def test_a_body_that_breaks_off_raises(head: tuple[str, ...], sent: bytes, way: str) -> None:
    """It never seems to have ended, not even when read again."""

    def read(source: Any) -> Any:
        errors = []
        for _ in range(2):
            try:
                WAYS[way](source)
            except OSError as error:
                errors.append(str(error))
        return errors

    reads = Reads(read)
    done = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            return reads(environ, start_response)
        finally:
            done.set()

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", *head, method="POST") + sent)
        assert reads.began.wait(20)
        client.socket.shutdown(1)
        assert done.wait(20)
    (errors,) = reads.outcomes
    assert len(errors) == 2
    assert all("broke off" in error for error in errors)


def test_a_malformed_chunk_raises() -> None:
    """What came before it is no whole body."""
    reads = Reads(lambda source: source.read())
    with Serving(reads) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", "Transfer-Encoding: chunked", method="POST") + b"11170\r\n" + b"x" * 70_000)
        assert reads.began.wait(20)
        client.send(b"\r\nzz\r\n")
        client.is_closed()
    assert isinstance(reads.outcomes[0], OSError)


def test_a_malformed_beginning_is_refused() -> None:
    """The application is not even asked."""
    reads = Reads(lambda source: source.read())
    with Serving(reads) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", "Transfer-Encoding: chunked", method="POST") + b"zz\r\n")
        assert client.response().status == 400
        assert client.is_closed()
    assert reads.outcomes == []


@pytest.mark.parametrize("known", [True, False])
def test_a_body_that_is_too_large(known: bool) -> None:
    """One that says so is refused at once; another when it turns out to be."""
    reads = Reads(lambda source: source.read())
    with Serving(reads, limit_request_body=100_000) as server, contextlib.closing(server.client()) as client:
        if known:
            client.send(request("/", "Content-Length: 100001", method="POST"))
            assert client.response().status == 413
            # It may go on sending for a while, so that it comes to read the answer.
            client.send(b"x" * 100_001)
            assert client.is_closed()
            assert reads.outcomes == []
        else:
            client.send(
                request("/", "Transfer-Encoding: chunked", method="POST")
                + chunked(b"x" * 90_000, b"x" * 20_000)
            )
            assert b"longer than 100000 bytes" in client.response().body
    with Serving(reads, limit_request_body=100_000) as server:
        assert server.get(method="POST", body=b"x" * 100_000).body == b"read"


def test_100_continue() -> None:
    """It is sent when the application reads, and not before; the application may refuse."""
    gate = roving.Event()
    begun = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        begun.set()
        gate.wait(20)
        if environ["PATH_INFO"] == "/no":
            start_response("403 Forbidden", [])
            return [b"no"]
        start_response("200 OK", [])
        return [environ["wsgi.input"].read()]

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        assert begun.wait(20)
        client.socket.setblocking(False)
        with pytest.raises(BlockingIOError):
            client.socket.recv(1)
        client.socket.settimeout(20)
        gate.set()
        assert client.head().status == 100
        client.send(b"hello")
        assert client.response().body == b"hello"
        client.send(request("/no", "Expect: 100-continue", "Content-Length: 5", method="POST"))
        assert client.response().status == 403


def test_an_unread_body() -> None:
    """A small one is passed over; after a large one the connection is closed, once it has its answer."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [])
        return [b"not interested"]

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        for _ in range(3):
            assert client.get(method="POST", body=b"x" * 1000).body == b"not interested"
        with contextlib.closing(server.client()) as other:
            # Closed at once, the connection would be reset, and the response lost.
            other.send(request("/", method="POST", body=b"x" * 3_000_000))
            assert other.response().body == b"not interested"
            assert other.file.read() == b""
        sender = threading.Thread(target=_send, args=(client,))
        sender.start()
        assert client.response().body == b"not interested"
        sender.join(20)


def _send(client: Client) -> None:
    with contextlib.suppress(OSError):
        client.send(request("/", method="POST", body=b"x" * 20_000_000))


def test_a_slow_body_is_given_up() -> None:
    """Both while the server gathers its beginning, and while the application reads."""
    reads = Reads(lambda source: source.read())
    with Serving(reads, timeout_body=0.2, min_body_rate=1_000_000_000) as server:
        with contextlib.closing(server.client()) as client:
            client.send(request("/", "Content-Length: 10", method="POST") + b"x")
            assert client.response().status == 408
            assert client.is_closed()
        assert reads.outcomes == []
        with contextlib.closing(server.client()) as client:
            client.send(request("/", "Content-Length: 100000", method="POST") + b"x" * 70_000)
            assert b"TimeoutError" in client.response().body
    with (
        Serving(reads, timeout_body=0.2, min_body_rate=0) as server,
        contextlib.closing(server.client()) as client,
    ):
        client.send(request("/", "Content-Length: 10", method="POST") + b"x")
        # Without a rate there is no such rule.
        roving.sleep(0.4)
        client.send(b"x" * 9)
        assert client.response().body == b"read"


def test_a_read_can_time_out() -> None:
    """By the application's own means, and nothing is lost by it."""
    timed_out = threading.Event()

    def read(source: Any) -> Any:
        with roving.move_on_after(0.01):
            source.read()
        timed_out.set()
        return source.read()

    reads = Reads(read)
    with Serving(reads) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", "Content-Length: 100000", method="POST") + b"x" * 70_000)
        assert timed_out.wait(20)
        client.send(b"x" * 30_000)
        assert client.response().body == b"read"
    assert reads.outcomes == [b"x" * 100_000]


def test_others_may_read() -> None:
    """A fiber, a plain thread; two at once are told off."""
    entered = threading.Event()

    def read(source: Any) -> Any:
        def all_of_it() -> bytes:
            while True:
                try:
                    return bytes(source.read())
                except RuntimeError:
                    # It has met the other's read of nothing.
                    roving.yield_now()

        first = roving.spawn(all_of_it)
        # Of nothing there is enough at once, until the other has begun.
        told = ""
        while not told:
            try:
                roving.yield_now()
                source.read(0)
            except RuntimeError as error:
                told = str(error)
        assert "another fiber or thread reads" in told
        entered.set()
        return len(first.join())

    reads = Reads(read)
    with Serving(reads) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", "Content-Length: 100000", method="POST") + b"x" * 70_000)
        assert entered.wait(20)
        client.send(b"x" * 30_000)
        assert client.response().body == b"read"
    assert reads.outcomes == [100_000]


def test_a_body_is_taken_as_it_is_read() -> None:
    """A client that sends faster than the application reads is held up: memory stays flat."""
    gate = roving.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        gate.wait(20)
        count = 0
        while data := environ["wsgi.input"].read(65536):
            count += len(data)
        start_response("200 OK", [])
        yield str(count).encode()

    size = 50_000_000
    with Serving(application) as server, contextlib.closing(server.client()) as client:
        client.send(request("/", f"Content-Length: {size}", method="POST"))
        client.socket.setblocking(False)
        sent = 0
        block = b"x" * 65536
        # Until the system takes no more: what is in its buffers, and ours, is all that was read.
        quiet = 0
        while quiet < 50:
            try:
                sent += client.socket.send(block[: size - sent])
                quiet = 0
            except BlockingIOError:
                quiet += 1
                roving.sleep(0.002)
        assert sent < 20_000_000
        client.socket.settimeout(20)
        gate.set()
        while sent < size:
            sent += client.socket.send(block[: size - sent])
        assert client.response().body == str(size).encode()
