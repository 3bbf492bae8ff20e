"""Clients that others wrote: h11, whose state machine has to agree, httpx over HTTP/1 and HTTP/2, curl."""

import asyncio
import contextlib
import shutil
import socket
import ssl
import subprocess
from collections.abc import Iterator
from typing import Any

import h11
import httpx
import pytest
import roving
from serving import WAIT, Environ, Serving, StartResponse, request
from serving import quiet_log as quiet_log
from test_serve_tls import files
from tls import authority

pytestmark = pytest.mark.usefixtures("quiet_log")

BIG = bytes(range(256)) * 1200


def application(environ: Environ, start_response: StartResponse) -> Any:
    """Answer in all the ways there are."""
    path = environ["PATH_INFO"]
    if path == "/none":
        start_response("204 No Content", [])
        return []
    if path == "/same":
        start_response("304 Not Modified", [("ETag", '"1"')])
        return []
    if path == "/echo":
        body = environ["wsgi.input"].read()
        start_response("200 OK", [("X-Method", environ["REQUEST_METHOD"])])
        return [body]
    if path == "/refused":
        # The body is not read.
        start_response("403 Forbidden", [])
        return [b"no"]
    start_response("200 OK", [("Content-Type", "text/plain"), ("X-Protocol", environ["SERVER_PROTOCOL"])])
    if path == "/stream":
        return (b"part %d\n" % number for number in range(5))
    if path == "/big":
        return [BIG]
    return [b"hello"]


STREAM = b"".join(b"part %d\n" % number for number in range(5))


@pytest.fixture
def server() -> Iterator[Serving]:
    """Serve it."""
    with Serving(application) as running:
        yield running


class Peer:
    """An h11 client on a socket."""

    def __init__(self, server: Serving) -> None:
        """Connect."""
        self.socket = socket.create_connection(("127.0.0.1", server.handle.port), timeout=WAIT)
        self.state = h11.Connection(h11.CLIENT)

    def send(self, *events: h11.Event) -> None:
        """Send what they stand for."""
        self.socket.sendall(b"".join(self.state.send(event) or b"" for event in events))

    def ask(self, path: str, *headers: tuple[str, str], method: str = "GET") -> None:
        """Send a head."""
        self.send(h11.Request(method=method, target=path, headers=[("Host", "a"), *headers]))

    def event(self) -> Any:
        """Wait for the next event. Raises h11.RemoteProtocolError for what the server may not send."""
        while (event := self.state.next_event()) is h11.NEED_DATA:
            self.state.receive_data(self.socket.recv(65536))
        return event

    def answer(self) -> tuple[h11.Response, bytes]:
        """Read a response to its end."""
        response = self.event()
        assert isinstance(response, h11.Response), response
        body = b""
        while isinstance(event := self.event(), h11.Data):
            body += event.data
        assert isinstance(event, h11.EndOfMessage), event
        return response, body

    def close(self) -> None:
        """Close it."""
        self.socket.close()


@pytest.fixture
def peer(server: Serving) -> Iterator[Peer]:
    """Connect to it."""
    with contextlib.closing(Peer(server)) as connected:
        yield connected


def test_h11_agrees_on_every_response(peer: Peer) -> None:
    """One after another on one connection: lengths, chunks, none, heads; it stays open."""
    expected = {"/": b"hello", "/stream": STREAM, "/big": BIG, "/none": b"", "/same": b""}
    for path, body in expected.items():
        for method in ("GET", "HEAD", "GET"):
            peer.ask(path, method=method)
            peer.send(h11.EndOfMessage())
            response, found = peer.answer()
            assert found == (body if method == "GET" else b"")
            names = {bytes(name) for name, _ in response.headers}
            if path == "/stream" and method == "GET":
                assert b"transfer-encoding" in names
            if path == "/none":
                assert not names & {b"content-length", b"transfer-encoding"}
            assert (peer.state.our_state, peer.state.their_state) == (h11.DONE, h11.DONE)
            peer.state.start_next_cycle()


@pytest.mark.parametrize("waits", [False, True])
@pytest.mark.parametrize("framing", [("Content-Length", str(len(BIG))), ("Transfer-Encoding", "chunked")])
def test_h11_sends_bodies(peer: Peer, framing: tuple[str, str], waits: bool) -> None:
    """With a length and in chunks with trailers, at once and after 100 Continue, two on one connection."""
    for _ in range(2):
        peer.ask("/echo", framing, *([("Expect", "100-continue")] if waits else []), method="PUT")
        if waits:
            assert peer.state.client_is_waiting_for_100_continue
            told = peer.event()
            assert (type(told), told.status_code) == (h11.InformationalResponse, 100)
        chunks = [h11.Data(data=BIG[at : at + 7000]) for at in range(0, len(BIG), 7000)]
        trailers = [("X-Sum", "1")] if framing[1] == "chunked" else []
        peer.send(*chunks, h11.EndOfMessage(headers=trailers))
        response, body = peer.answer()
        assert (response.status_code, body) == (200, BIG)
        peer.state.start_next_cycle()


def test_h11_who_is_refused_sends_no_body(peer: Peer) -> None:
    """Who waits for 100 Continue and gets a final status: it ends, since its body may come."""
    peer.ask("/refused", ("Content-Length", "5"), ("Expect", "100-continue"), method="POST")
    response, body = peer.answer()
    assert (response.status_code, body) == (403, b"no")
    assert peer.state.their_state is h11.MUST_CLOSE
    assert isinstance(peer.event(), h11.ConnectionClosed)


def test_h11_pipelined(peer: Peer) -> None:
    """Requests in one piece are answered in order; the last one says that it is the last."""
    paths = ["/", "/stream", "/none", "/big", "/same"]
    data = b""
    for path in paths:
        other = h11.Connection(h11.CLIENT)
        last = [("Connection", "close")] if path == paths[-1] else []
        data += other.send(h11.Request(method="GET", target=path, headers=[("Host", "a"), *last])) or b""
        data += other.send(h11.EndOfMessage()) or b""
    peer.socket.sendall(data)
    found = []
    for path in paths:
        last = [("Connection", "close")] if path == paths[-1] else []
        peer.state.send(h11.Request(method="GET", target=path, headers=[("Host", "a"), *last]))
        peer.state.send(h11.EndOfMessage())
        found.append(peer.answer())
        if path != paths[-1]:
            peer.state.start_next_cycle()
    assert [response.status_code for response, _ in found] == [200, 200, 204, 200, 304]
    assert [body for _, body in found] == [b"hello", STREAM, b"", BIG, b""]
    assert isinstance(peer.event(), h11.ConnectionClosed)


def test_h11_close(peer: Peer) -> None:
    """Whoever says close, the connection is closed after the response, and not before."""
    peer.ask("/stream", ("Connection", "close"))
    peer.send(h11.EndOfMessage())
    assert peer.answer()[1] == STREAM
    assert peer.state.their_state is h11.MUST_CLOSE
    assert isinstance(peer.event(), h11.ConnectionClosed)


WAYS = ["http/1.1", "http/2", "http/1.1 with TLS", "http/2 with TLS"]


@pytest.fixture(params=WAYS)
def options(request: pytest.FixtureRequest) -> Iterator[dict[str, Any]]:
    """Serve, and say how httpx connects."""
    two, secure = request.param.startswith("http/2"), request.param.endswith("TLS")
    context: Any = True
    if secure:
        context = ssl.create_default_context(cafile=authority().folder / "ca.pem")
    with Serving(application, **(files() if secure else {})) as server:
        url = f"{'https' if secure else 'http'}://localhost:{server.handle.port}"
        yield {
            "base_url": url, "http1": not two, "http2": two, "verify": context,
            "timeout": WAIT, "trust_env": False,
        }  # fmt: skip


@pytest.fixture
def client(options: dict[str, Any]) -> Iterator[httpx.Client]:
    """Connect with httpx."""
    with httpx.Client(**options) as made:
        yield made


def test_httpx(client: httpx.Client) -> None:
    """Bodies both ways, none, streams, heads."""
    for _ in range(2):
        found = client.get("/")
        assert (found.status_code, found.text) == (200, "hello")
        assert found.headers["x-protocol"] == ("HTTP/2.0" if found.http_version == "HTTP/2" else "HTTP/1.1")
        assert client.get("/stream").content == STREAM
        assert client.get("/big").content == BIG
        assert client.head("/big").content == b""
        assert client.get("/none").status_code == 204
        assert client.get("/same").status_code == 304
        assert client.post("/echo", content=BIG).content == BIG
        pieces = (BIG[at : at + 10_000] for at in range(0, len(BIG), 10_000))
        assert client.put("/echo", content=pieces).content == BIG
    with client.stream("GET", "/stream") as stream:
        assert b"".join(stream.iter_bytes()) == STREAM


def test_httpx_many_at_once(options: dict[str, Any]) -> None:
    """By asyncio, over one client: with HTTP/2 that is one connection, with its windows and streams."""

    async def ask(client: httpx.AsyncClient, number: int) -> int:
        right = 0
        for round_ in range(10):
            body = b"%d %d " % (number, round_) * 5000
            right += (await client.post("/echo", content=body)).content == body
        return right

    async def all_of_them() -> list[int]:
        async with httpx.AsyncClient(**options) as client:
            return await asyncio.gather(*(ask(client, number) for number in range(16)))

    assert asyncio.run(all_of_them()) == [10] * 16


CURL = shutil.which("curl")


def curl(*arguments: str, data: bytes = b"") -> tuple[str, bytes]:
    """Run it: what it says of the response, and the body."""
    assert CURL is not None
    # Told on stderr, so that the body is alone.
    told = "%{stderr}%{http_version} %{response_code} %{num_connects}\n"
    command = [CURL, "-sS", "--max-time", "20", "-w", told, "--cacert", str(authority().folder / "ca.pem")]
    done = subprocess.run([*command, *arguments], input=data, capture_output=True, timeout=60)
    assert done.returncode == 0, done.stderr
    return done.stderr.decode(), done.stdout


@pytest.mark.skipif(CURL is None, reason="there is no curl")
@pytest.mark.parametrize("way", ["--http1.0", "--http1.1", "--http2-prior-knowledge", "--http2 with TLS"])
def test_curl(way: str) -> None:
    """Bodies both ways, in chunks and with 100 Continue where curl sees fit, and one connection for all."""
    option, _, secure = way.partition(" ")
    if "http2" in option and b"HTTP2" not in subprocess.run([CURL or "", "-V"], capture_output=True).stdout:
        pytest.skip("this curl has no HTTP/2")
    version = {"--http1.0": "1", "--http1.1": "1.1"}.get(option, "2")
    with Serving(application, **(files() if secure else {})) as server:
        url = f"{'https' if secure else 'http'}://localhost:{server.handle.port}"
        assert curl(option, f"{url}/") == (f"{version} 200 1\n", b"hello")
        assert curl(option, f"{url}/stream")[1] == STREAM
        assert curl(option, f"{url}/none") == (f"{version} 204 1\n", b"")
        assert b" 200" in curl(option, "-I", f"{url}/big")[1]
        assert curl(option, "--data-binary", "@-", f"{url}/echo", data=BIG)[1] == BIG
        if option != "--http1.0":
            # With HTTP/1.1 it sends chunks then, and asks before it sends them.
            assert curl(option, "-T", "-", "-H", "Expect: 100-continue", f"{url}/echo", data=BIG)[1] == BIG
        if option in ("--http1.1", "--http2"):
            # By prior knowledge curl 7.88 does not use a connection again.
            told, body = curl(option, f"{url}/", f"{url}/big", f"{url}/stream")
            assert body == b"hello" + BIG + STREAM
            assert [line.split()[2] for line in told.splitlines()] == ["1", "0", "0"]


def test_a_client_that_ends_its_sending_half(server: Serving) -> None:
    """It has asked, and reads on: it gets all of its responses."""
    with contextlib.closing(server.client()) as client:
        client.send(request("/big") + request("/stream"))
        client.socket.shutdown(socket.SHUT_WR)
        assert client.response().body == BIG
        assert client.response().body == STREAM
        assert client.is_closed()


def test_who_wants_to_know_at_once_that_a_client_has_gone() -> None:
    """With cancel_on_disconnect the end of a client's sending half is that of the client."""
    begun, cancelled = roving.Event(), roving.Event()

    def waits(environ: Environ, start_response: StartResponse) -> list[bytes]:
        begun.set()
        try:
            roving.sleep(WAIT)
        except roving.Cancelled:
            cancelled.set()
            raise
        return []

    with Serving(waits, cancel_on_disconnect=True) as server, contextlib.closing(server.client()) as client:
        client.send(request("/"))
        assert begun.wait(WAIT)
        client.socket.shutdown(socket.SHUT_WR)
        assert cancelled.wait(WAIT)
        assert client.is_closed()
