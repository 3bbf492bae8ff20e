"""HTTP/2: requests as streams of one connection, over TLS and without."""

import contextlib
import logging
import shutil
import socket
import struct
import subprocess
import threading
from collections.abc import Iterable, Iterator

import pytest
import roving
from http2 import PREFACE, Client, connected, frame
from serving import WAIT, Application, Environ, Serving, StartResponse, plain
from serving import quiet_log as quiet_log
from tls import authority

HEADERS, RST_STREAM, SETTINGS, PING, CONTINUATION = 1, 3, 4, 6, 9
ENHANCE_YOUR_CALM = 11

# hpack: :method GET, :scheme http, :path /, and :authority as a literal.
BLOCK = b"\x82\x86\x84\x41\x01a"


def echo(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Say what the request was, in lines."""
    body = environ["wsgi.input"].read()
    start_response("200 OK", [("X-Protocol", environ["SERVER_PROTOCOL"])])
    names = ("REQUEST_METHOD", "PATH_INFO", "QUERY_STRING", "HTTP_HOST", "HTTP_COOKIE", "wsgi.url_scheme")
    return ["\n".join([*(str(environ.get(name)) for name in names), str(len(body))]).encode()]


@pytest.fixture
def info_log() -> Iterator[None]:
    """Log what is refused, too."""
    logging.getLogger("roving.serve").setLevel("INFO")
    yield
    logging.getLogger("roving.serve").setLevel("NOTSET")


class Held:
    """An application whose requests wait until they are told to go on."""

    def __init__(self) -> None:
        """Nothing is let go yet."""
        self.go = roving.Event()
        self.count = 0
        self._changed = threading.Condition()

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Answer a request."""
        if environ["PATH_INFO"] == "/free":
            start_response("200 OK", [])
            return [b"free"]
        with self._changed:
            self.count += 1
            self._changed.notify_all()
        self.go.wait()
        start_response("200 OK", [])
        return [environ["QUERY_STRING"].encode()]

    def wait_for(self, count: int) -> None:
        """Wait until so many requests are here."""
        with self._changed:
            assert self._changed.wait_for(lambda: self.count >= count, WAIT), self.count


@contextlib.contextmanager
def over(
    application: Application, *, tls: bool = False, **options: object
) -> Iterator[tuple[Serving, Client]]:
    """Serve, and connect."""
    if tls:
        folder = authority().folder
        options |= {"tls_cert": folder / "localhost.pem", "tls_key": folder / "localhost.key"}
    with Serving(application, **options) as server:
        with connected(server.handle.port, authority().client() if tls else None) as client:
            yield server, client


@pytest.mark.parametrize("tls", [False, True])
def test_requests_and_responses(tls: bool) -> None:
    """What a request says arrives, whatever it came over."""
    scheme = "https" if tls else "http"
    with over(echo, tls=tls) as (_, client):
        answer = client.get("/a%20b?c=d", ("cookie", "a=1"), ("cookie", "b=2"))
        assert answer.body.decode().split("\n") == [
            "GET", "/a b", "c=d", "example.org", "a=1; b=2", scheme, "0",
        ]  # fmt: skip
        # However many fields they come in, they are one.
        many = client.get("/", *(("cookie", f"c{number}=1") for number in range(150)))
        assert (many.status, many.body.count(b"=1")) == (200, 150)
        assert (answer.status, answer.headers["x-protocol"]) == (200, "HTTP/2.0")
        assert answer.headers["content-length"] == str(len(answer.body))
        assert "date" in answer.headers
        stream = client.request("/", method="POST", end=False)
        client.send(stream, b"x" * 100_000, end=True)
        assert client.answer(stream).body.endswith(b"\n100000")


@pytest.mark.parametrize("version", ["--http2", "--http2-prior-knowledge", "--http1.1"])
def test_curl(version: str) -> None:
    """A client that others have written."""
    curl = shutil.which("curl")
    if curl is None or "HTTP2" not in subprocess.run([curl, "-V"], capture_output=True, text=True).stdout:
        pytest.skip("there is no curl that speaks HTTP/2")
    tls = version == "--http2"
    with over(echo, tls=tls) as (server, _):
        trust = ("--cacert", str(authority().folder / "ca.pem")) if tls else ()
        url = server.handle.url.replace("127.0.0.1", "localhost")
        shown = ("-sS", "-m", "20", "-d", "abc", "-o", "-", "-w", "\n%{http_version}")
        done = subprocess.run([curl, version, *trust, *shown, url], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr
        assert done.stdout.split("\n")[-2:] == ["3", "1.1" if version == "--http1.1" else "2"]


def test_it_can_be_switched_off() -> None:
    """Then the preface is a request of a version that there is not."""
    with (
        Serving(plain(), http2=False) as server,
        socket.create_connection(("127.0.0.1", server.handle.port), timeout=WAIT) as client,
    ):
        client.sendall(PREFACE)
        assert client.recv(65536).startswith(b"HTTP/1.1 505 ")


def test_a_preface_in_pieces() -> None:
    """However it is cut, it is the same."""
    with (
        Serving(plain()) as server,
        socket.create_connection(("127.0.0.1", server.handle.port), timeout=WAIT) as client,
    ):
        client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in PREFACE + frame(SETTINGS, 0, 0):
            client.sendall(bytes([byte]))
        # Its settings are the first frame that comes.
        assert client.recv(9, socket.MSG_WAITALL)[3] == SETTINGS


def test_two_hundred_at_once() -> None:
    """All of them are with the application together."""
    held = Held()
    with over(held, limit_http2_streams=200, limit_concurrency=256) as (server, client):
        client.get("/free")
        streams = [client.request(f"/?{index}") for index in range(200)]
        held.wait_for(200)
        # The first one is over a little later than its client has its response.
        with roving.timeout(WAIT):
            while server.handle.stats()["in_flight"] != 200:
                roving.sleep(0.001)
        held.go.set()
        for index, stream in enumerate(streams):
            assert client.answer(stream).body == str(index).encode()


def test_streams_count_as_requests() -> None:
    """The limit on requests that are with the application is the same for streams."""
    held = Held()
    with over(held, limit_concurrency=2, limit_queue=1) as (_, client):
        streams = [client.request(f"/?{index}") for index in range(2)]
        held.wait_for(2)
        queued = client.request("/?2")
        refused = client.get("/?3")
        assert (refused.status, refused.headers["retry-after"]) == (503, "1")
        held.go.set()
        assert [bytes(client.answer(stream).body) for stream in (*streams, queued)] == [b"0", b"1", b"2"]


def test_more_streams_than_allowed_are_refused() -> None:
    """h2 refuses them, and the others go on."""
    held = Held()
    with over(held, limit_http2_streams=2) as (_, client):
        client.get("/free")
        assert client.h2.remote_settings.max_concurrent_streams == 2
        streams = [client.request("/?a"), client.request("/?b")]
        held.wait_for(2)
        client.socket.sendall(frame(HEADERS, 5, 101, BLOCK))
        client.receive()
        while 101 not in client.answers:
            client.receive()
        assert client.answers[101].reset == 7  # REFUSED_STREAM
        held.go.set()
        assert [bytes(client.answer(stream).body) for stream in streams] == [b"a", b"b"]


@pytest.mark.parametrize("tls", [False, True])
def test_large_bodies_both_ways(tls: bool) -> None:
    """Many windows full, in both directions at once."""
    size = 8 << 20

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        while data := environ["wsgi.input"].read(50_000):
            yield data

    with over(application, tls=tls) as (_, client):
        stream = client.request("/", method="POST", end=False)
        client.send(stream, b"0123456789abcdef" * (size // 16), end=True)
        assert client.answer(stream).body == b"0123456789abcdef" * (size // 16)


def test_a_client_that_takes_nothing_holds_up_itself_alone() -> None:
    """Its stream's window is used up; the application waits, other streams are served."""
    written: list[int] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] != "/endless":
            return [b"hello"]

        def endless() -> Iterator[bytes]:
            while True:
                written.append(1)
                yield b"x" * 10_000

        return endless()

    with over(application, timeout_write=2) as (_, client):
        client.get("/")
        client.acknowledge = False
        stream = client.request("/endless")
        while len(client.answers[stream].body) < 65535:
            client.receive()
        client.h2.acknowledge_received_data(1, stream)
        client.acknowledge = True
        # The connection's window has room left; this stream's has not, and nobody gives it any.
        before = len(client.answers[stream].body)
        assert client.get("/").body == b"hello"
        assert len(client.answers[stream].body) - before <= 1
        # What was taken, what h2 keeps, what waits for it, and what was being written: flat.
        assert len(written) * 10_000 < 400_000
        # In the end it is told off; the connection is not.
        client.answer(stream)
        assert client.answers[stream].reset == 8  # CANCEL
        assert client.get("/").body == b"hello"


def test_a_reset_reaches_the_application() -> None:
    """What writes is told that the client has gone; the other streams go on."""
    ended = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] != "/endless":
            return [b"hello"]

        def endless() -> Iterator[bytes]:
            try:
                while True:
                    yield b"x" * 1000
            finally:
                ended.set()

        return endless()

    with over(application) as (_, client):
        stream = client.request("/endless")
        client.head(stream)
        client.h2.reset_stream(stream, 8)
        client.flush()
        assert ended.wait(WAIT)
        assert client.get("/").body == b"hello"


def test_a_reset_cancels_the_fiber_if_asked() -> None:
    """As a lost connection does with HTTP/1.1."""
    begun, cancelled = threading.Event(), threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        begun.set()
        try:
            roving.sleep(1000)
        except roving.Cancelled:
            cancelled.set()
            raise
        return []

    with over(application, cancel_on_disconnect=True) as (_, client):
        stream = client.request("/")
        assert begun.wait(WAIT)
        client.h2.reset_stream(stream, 8)
        client.flush()
        assert cancelled.wait(WAIT)


def test_rapid_reset() -> None:
    """Streams that are opened to be reset end their connection; others do not notice."""
    with over(plain()) as (server, client):
        client.get("/")
        streams = range(3, 20_003, 2)
        block = client.h2.encoder.encode(
            [(":method", "GET"), (":scheme", "http"), (":path", "/"), (":authority", "a")]
        )
        flood = b"".join(
            frame(HEADERS, 5, stream, block) + frame(RST_STREAM, 0, stream, struct.pack(">I", 8))
            for stream in streams
        )
        with connected(server.handle.port) as other:
            with contextlib.suppress(ConnectionError):
                client.socket.sendall(flood)
            while not client.ended and client.gone_away is None:
                client.receive()
            assert client.gone_away in (None, ENHANCE_YOUR_CALM)
            assert other.get("/").body == b"hello"
        server.handle.close(WAIT)
        assert server.handle.stats()["in_flight"] == 0


def test_resets_of_streams_that_are_being_answered(info_log: None) -> None:
    """h2 counts those alone that it has not given us yet: these are ours to count."""
    held = Held()
    with over(held, limit_concurrency=1000) as (server, client):
        for count in range(1, 102):
            assert not client.ended
            stream = client.request("/")
            held.wait_for(count)
            client.h2.reset_stream(stream, 8)
            client.flush()
        client.wait_for_end()
        assert client.ended
        held.go.set()
        held.go.set()
        assert any("reset" in line for line in server.logged())
        assert server.handle.stats()["malformed"] == 1


def test_a_header_list_is_limited() -> None:
    """In bytes by h2, in fields by us."""
    with over(plain(), limit_request_head=4096, limit_request_fields=10) as (_, client):
        client.get("/")
        assert client.get("/", ("x", "y" * 5000)).status == 431
        assert client.get("/", *((f"x-{index}", "y") for index in range(11))).status == 431
        assert client.get("/", *((f"x-{index}", "y") for index in range(10))).status == 200


def test_continuation_flood() -> None:
    """A head that never ends ends the connection."""
    with over(plain()) as (server, client):
        client.get("/")
        flood = frame(HEADERS, 1, 3, BLOCK) + frame(CONTINUATION, 0, 3, b"\x00\x01a\x01b" * 200) * 10_000
        with contextlib.suppress(ConnectionError):
            client.socket.sendall(flood)
        client.wait_for_end()
        with connected(server.handle.port) as other:
            assert other.get("/").body == b"hello"


@pytest.mark.parametrize("kind", [PING, SETTINGS])
def test_floods_of_frames_that_are_answered(kind: int) -> None:
    """Nobody reads the answers: the server stops to read, and keeps none."""
    payload = b"01234567" if kind == PING else b""
    with over(plain(), keep_alive=0.5, timeout_write=0.5) as (server, client):
        client.get("/")
        client.socket.settimeout(WAIT)
        flood = frame(kind, 0, 0, payload) * 10_000

        def send() -> None:
            while True:
                client.socket.sendall(flood)

        with pytest.raises(ConnectionError):
            send()
        with connected(server.handle.port) as other:
            assert other.get("/").body == b"hello"


WRONG: list[tuple[str, dict[str, object], list[tuple[str, str]], int | None]] = [
    ("host", {"authority": "a"}, [("host", "b")], 400),
    ("no host", {"authority": None}, [], 400),
    ("two hosts", {"authority": None}, [("host", "a"), ("host", "a")], 400),
    ("user", {"authority": "me@a"}, [], 400),
    ("path", {"path": "/a%zz"}, [], 400),
    ("asterisk", {"path": "*"}, [], 400),
    ("expectation", {}, [("expect", "more")], 417),
    ("CONNECT", {"method": "CONNECT"}, [], None),
    ("connection", {}, [("connection", "close")], None),
    ("transfer-encoding", {}, [("transfer-encoding", "chunked")], None),
    ("te", {}, [("te", "gzip")], None),
    # What is no field at all ends the connection: h2 cannot tell it from a broken table.
    ("upper case", {}, [("X-Upper", "a")], 0),
    ("control", {}, [("x", "a\x00b")], 0),
]


@pytest.mark.parametrize(
    ("options", "headers", "status"), [row[1:] for row in WRONG], ids=[w[0] for w in WRONG]
)
def test_what_is_malformed(
    options: dict[str, object], headers: list[tuple[str, str]], status: int | None, quiet_log: None
) -> None:
    """It is refused, by us with a status or by h2 with a reset, and the connection goes on."""
    called: list[Environ] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        if environ["PATH_INFO"] != "/good":
            called.append(environ)
        return plain()(environ, start_response)  # type: ignore[return-value]

    with over(application) as (_, client):
        client.get("/good")
        given = {"path": "/", **options}
        stream = client.request(str(given.pop("path")), *headers, **given)  # type: ignore[arg-type]
        if status == 0:
            client.wait_for_end()
            assert client.gone_away == 1  # PROTOCOL_ERROR
            assert not called
            return
        answer = client.answer(stream)
        if status is None:
            assert answer.reset == 1 or answer.status >= 400
        else:
            assert answer.status == status
        assert not called
        assert client.get("/good", ("te", "trailers")).body == b"hello"


@pytest.mark.parametrize("sent", [b"ab", b"abcd"])
def test_a_body_of_another_length_than_announced(sent: bytes, quiet_log: None) -> None:
    """Neither shorter nor longer: reading raises, and no part is taken for all of it."""
    read: list[object] = []
    done = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        try:
            read.append(environ["wsgi.input"].read())
        except OSError as error:
            read.append(error)
        done.set()
        return plain()(environ, start_response)  # type: ignore[return-value]

    with over(application) as (_, client):
        client.get("/")
        done.clear()
        read.clear()
        block = client.h2.encoder.encode(
            [
                (":method", "POST"),
                (":scheme", "http"),
                (":path", "/"),
                (":authority", "a"),
                ("content-length", "3"),
            ]
        )
        client.socket.sendall(frame(HEADERS, 4, 3, block) + frame(0, 1, 3, sent))
        while client.answers[3].reset is None and not client.answers[3].headers:
            client.receive()
        assert client.answers[3].reset == 1 or client.answers[3].status == 400
        assert all(isinstance(each, OSError) for each in read)


def test_heads_alone() -> None:
    """HEAD, 204 and 304 have no body, and the length is that of the one there would be."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response(environ["PATH_INFO"][1:] + " X", [])
        return [b"hello"] if environ["PATH_INFO"] == "/200" else []

    with over(application) as (_, client):
        answer = client.get("/200", method="HEAD")
        assert (answer.status, bytes(answer.body), answer.headers["content-length"]) == (200, b"", "5")
        for status in (204, 304):
            answer = client.get(f"/{status}")
            assert (answer.status, bytes(answer.body)) == (status, b"")


def test_trailers_and_expectations() -> None:
    """Trailers of a request are dropped; who expects 100 gets the response."""
    with over(echo) as (_, client):
        stream = client.request("/", ("expect", "100-continue"), method="POST", end=False)
        client.send(stream, b"abc")
        client.h2.send_headers(stream, [("x-trailer", "a")], end_stream=True)
        client.flush()
        answer = client.answer(stream)
        assert (answer.status, bytes(answer.body.split(b"\n")[-1])) == (200, b"3")


def test_an_application_that_fails_amid_its_response(quiet_log: None) -> None:
    """The stream is reset, so that nobody takes it for whole; the connection goes on."""

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/":
            return [b"hello"]

        def broken() -> Iterator[bytes]:
            yield b"begun"
            raise ZeroDivisionError

        return broken()

    with over(application) as (_, client):
        answer = client.get("/broken")
        assert (answer.ended, answer.reset) == (False, 2)  # INTERNAL_ERROR
        assert client.get("/").body == b"hello"


def test_stopping_finishes_what_is_in_flight() -> None:
    """GOAWAY first; then the responses; then the end."""
    held = Held()
    with over(held) as (server, client):
        client.get("/free")
        stream = client.request("/?last")
        held.wait_for(1)
        server.handle.stop()
        while client.gone_away is None:
            client.receive()
        assert client.gone_away == 0
        held.go.set()
        answer = client.answers[stream]
        while not answer.ended:
            client.receive()
        assert answer.body == b"last"
        client.wait_for_end()
        assert server.handle.wait(WAIT)


def test_stopping_does_not_wait_for_who_says_nothing() -> None:
    """A client that answers no ping is left behind."""
    with over(plain(), keep_alive=1000) as (server, client):
        client.get("/")
        server.handle.stop()
        assert server.handle.wait(WAIT)


def test_idle_connections_end() -> None:
    """GOAWAY, without an error, once the keep-alive time is over."""
    with over(plain(), keep_alive=0.05) as (_, client):
        client.get("/")
        client.wait_for_end()
        assert client.gone_away == 0


def test_a_connection_without_a_request_ends() -> None:
    """After the time there is for the first head."""
    with over(plain(), timeout_header=0.05, keep_alive=1000) as (_, client):
        client.wait_for_end()
