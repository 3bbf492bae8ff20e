"""How many requests, and for how long: turns, times, and the end of a server."""

import contextlib
import socket
import threading
from collections.abc import Callable, Iterator

import pytest
import roving
from child import FREE_THREADED
from serving import WAIT, Client, Environ, Serving, StartResponse, plain, request
from serving import quiet_log as quiet_log

pytestmark = pytest.mark.usefixtures("quiet_log")


class Gate:
    """An application that lets nobody through until it is told to."""

    def __init__(self) -> None:
        """Nobody is here yet."""
        self.event = roving.Event()
        self.entered = roving.Semaphore(0)
        self.most = self.inside = 0

    def __call__(self, environ: Environ, start_response: StartResponse) -> list[bytes]:
        """Wait, unless the path is another."""
        start_response("200 OK", [])
        if environ["PATH_INFO"] == "/quick":
            return [b"quick"]
        with roving.no_preempt():
            self.inside += 1
            self.most = max(self.most, self.inside)
        self.entered.release()
        self.event.wait(WAIT)
        with roving.no_preempt():
            self.inside -= 1
        return [b"through"]

    def wait(self, count: int) -> None:
        """Wait until so many have come in."""
        for _ in range(count):
            assert self.entered.acquire(timeout=WAIT)


def until(condition: Callable[[], bool]) -> None:
    """Wait for what nobody tells of."""
    with roving.timeout(WAIT):
        while not condition():
            roving.sleep(0.001)


def test_requests_are_counted_and_not_connections() -> None:
    """So many at once, so many in the queue, 503 for the rest; idle connections take nobody's place."""
    gate = Gate()
    with Serving(gate, limit_concurrency=2, limit_queue=3) as server, contextlib.ExitStack() as stack:
        idle = [stack.enter_context(contextlib.closing(server.client())) for _ in range(20)]
        for client in idle:
            assert client.get("/quick").body == b"quick"
        inside = idle[:2]
        for client in inside:
            client.send(request("/"))
        gate.wait(2)
        queued = idle[2:5]
        for count, client in enumerate(queued):
            client.send(request("/"))
            until(lambda count=count: server.handle.stats()["queued"] == count + 1)  # type: ignore[misc]
        refused = idle[5].get("/")
        assert (refused.status, refused["retry-after"]) == (503, "1")
        assert server.handle.stats()["refused"] == 1
        # One that gives up makes room in the queue, and a refused client may come again.
        queued.pop().close()
        until(lambda: server.handle.stats()["queued"] == 2)
        idle[5].send(request("/"))
        until(lambda: server.handle.stats()["queued"] == 3)
        gate.event.set()
        for client in [*inside, *queued, idle[5]]:
            assert client.response().body == b"through"
        assert gate.most == 2
        until(lambda: server.handle.stats()["in_flight"] == 0)
        assert server.handle.stats()["queued"] == 0


def test_a_flood_through_a_small_gate() -> None:
    """Every request has its turn, and no turn is lost."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        roving.yield_now()
        start_response("200 OK", [])
        return [environ["PATH_INFO"].encode()]

    def ask(server: Serving, number: int) -> None:
        with contextlib.closing(server.client()) as client:
            for round_ in range(100):
                assert client.get(f"/{number}/{round_}").body == b"/%d/%d" % (number, round_)

    with Serving(application, limit_concurrency=2) as server:
        threads = [threading.Thread(target=ask, args=(server, number)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(WAIT)
            assert not thread.is_alive()
        until(lambda: server.handle.stats()["in_flight"] == 0)


@pytest.mark.parametrize("sent", [b"", b"GET / HT", b"GET / HTTP/1.1\r\nHost: a\r\n"])
def test_a_slow_head_is_given_up(sent: bytes) -> None:
    """However it comes: bytes buy no time."""
    with (
        Serving(plain(), timeout_header=0.3, keep_alive=60) as server,
        contextlib.closing(server.client()) as client,
    ):
        client.send(sent)
        if sent:
            assert client.response().status == 408
        assert client.is_closed()
        with contextlib.closing(server.client()) as other:
            with contextlib.suppress(OSError):
                for byte in request():
                    other.send(bytes([byte]))
                    roving.sleep(0.02)
            assert other.response().status == 408
            assert other.is_closed()


def test_what_is_malformed_is_refused_and_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Before the application sees it; one line a second says what it was, and a number how many."""
    bad = [
        (b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n", 400),
        (b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n", 400),
        (b"GET /" + b"a" * 9000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101 + b"\r\n", 431),
        (b"GET / HTTP/1.1\nHost: a\n\n", 400),
    ]
    called = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        called.append(environ["PATH_INFO"])
        return plain()(environ, start_response)  # type: ignore[return-value]

    caplog.set_level("INFO", logger="roving.serve")
    with Serving(application) as server:
        for sent, status in bad:
            with contextlib.closing(server.client()) as client:
                # What comes before it is answered.
                client.send(request("/before") + sent)
                assert client.response().status == 200
                assert client.response().status == status
                assert client.is_closed()
        assert server.handle.stats()["malformed"] == len(bad)
        # A fiber of its own tells of it.
        server.logged()
    assert called == ["/before"] * len(bad)
    messages = [record.getMessage() for record in caplog.records]
    assert any("127.0.0.1 was refused" in message and "Host" in message for message in messages), messages


def test_an_idle_connection_is_closed() -> None:
    """After the keep-alive time, and not before a request that takes longer."""
    gate = Gate()
    with Serving(gate, keep_alive=0.2) as server, contextlib.closing(server.client()) as client:
        client.send(request("/"))
        gate.wait(1)
        roving.sleep(0.4)
        gate.event.set()
        assert client.response().body == b"through"
        assert client.is_closed()


@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET /" + b"a" * 300 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(20)) + b"\r\n", 431),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"a" * 10_000 + b"\r\n\r\n", 431),
        (b"CONNECT a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n", 501),
        (b"nonsense\r\n\r\n", 400),
    ],
)
def test_heads_that_are_too_much(data: bytes, status: int) -> None:
    """Each with the status that says so."""
    limits = {"limit_request_line": 100, "limit_request_fields": 10, "limit_request_head": 4096}
    with Serving(plain(), **limits) as server, contextlib.closing(server.client()) as client:
        client.send(data)
        assert client.response().status == status


def refuses(server: Serving) -> bool:
    """Tell whether nobody listens any more."""
    try:
        server.client().close()
    except ConnectionRefusedError:
        return True
    return False


def test_close_finishes_what_is_there() -> None:
    """A request that is worked on; idle connections are closed, and no new ones accepted."""
    gate = Gate()
    server = Serving(gate)
    with contextlib.ExitStack() as stack:
        idle, busy = (stack.enter_context(contextlib.closing(server.client())) for _ in range(2))
        assert idle.get("/quick").body == b"quick"
        busy.send(request("/"))
        gate.wait(1)
        closed: list[bool] = []
        closing = threading.Thread(target=lambda: closed.append(server.handle.close(WAIT)))
        closing.start()
        assert idle.is_closed()
        until(lambda: refuses(server))
        assert not closed
        gate.event.set()
        found = busy.response()
        assert (found.body, found["connection"]) == (b"through", "close")
        closing.join(WAIT)
        assert closed == [True]
        assert server.handle.close() is True


def test_close_breaks_off_what_does_not_end() -> None:
    """Its fibers are cancelled."""
    ended = threading.Event()
    begun = threading.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        yield b"begun"
        begun.set()
        try:
            roving.sleep(WAIT)
        finally:
            ended.set()

    server = Serving(application)
    with contextlib.closing(server.client()) as client:
        client.send(request())
        assert begun.wait(WAIT)
        assert server.handle.close(0.05) is False
        assert ended.wait(WAIT)
        assert not client.response().whole


def test_no_request_is_lost_when_a_server_stops() -> None:
    """Every one is answered as a whole, or else its connection is closed before it."""
    answered = []

    def ask(server: Serving) -> None:
        with contextlib.suppress(ConnectionError, EOFError), contextlib.closing(server.client()) as client:
            while True:
                client.send(request())
                found = client.response()
                assert found.whole
                answered.append(found.body)
                if found.all("connection"):
                    break

    for _ in range(10):
        server = Serving(plain())
        threads = [threading.Thread(target=ask, args=(server,)) for _ in range(4)]
        for thread in threads:
            thread.start()
        until(lambda: len(answered) > 50)
        assert server.handle.close(WAIT)
        for thread in threads:
            thread.join(WAIT)
        assert set(answered) == {b"hello"}
        answered.clear()


def test_several_places(tmp_path: object) -> None:
    """TCP, IPv6 where there is any, and a Unix socket, whose file goes with the server."""
    path = f"{tmp_path}/socket"
    places = ["127.0.0.1:0", f"unix:{path}"]
    with contextlib.suppress(OSError), socket.socket(socket.AF_INET6) as probe:
        probe.bind(("::1", 0))
        places.append("[::1]:0")
    seen: list[Environ] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(environ)
        start_response("200 OK", [])
        return [b"hello"]

    with roving.serve(application, bind=places) as handle:
        assert handle.addresses[1] == f"unix:{path}"
        with contextlib.closing(Client(path)) as client:
            assert client.get().body == b"hello"
        assert (seen[0]["REMOTE_ADDR"], seen[0]["SERVER_NAME"], seen[0]["SERVER_PORT"]) == ("", path, "")
        with contextlib.closing(Client(("127.0.0.1", handle.port))) as client:
            assert client.get().body == b"hello"
        if len(places) == 3:
            host, _, port = handle.addresses[2].rpartition(":")
            with contextlib.closing(Client((host.strip("[]"), int(port)))) as client:
                assert client.get().body == b"hello"
            assert seen[-1]["REMOTE_ADDR"] == "::1"
    with pytest.raises(FileNotFoundError):
        Client(path)


def test_servers_beside_one_another() -> None:
    """Each has its application, and its options."""
    with Serving(plain(b"one"), root_path="/one") as one, Serving(plain(b"two"), server_header="two") as two:
        for _ in range(3):
            assert (one.get().body, one.get().all("server")) == (b"one", [])
            assert (two.get().body, two.get()["server"]) == (b"two", "two")
    with Serving(plain(), date_header=False) as server:
        assert not server.get().all("date")


@pytest.mark.skipif(not FREE_THREADED, reason="with a GIL there are no spares")
def test_a_server_may_ask_another() -> None:
    """Of this process, with or without patch: a worker that blocks has another beside it."""
    import http.client

    with Serving(plain(b"inner")) as inner:
        port = inner.handle.port

        def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=WAIT)
            connection.request("GET", "/")
            body = connection.getresponse().read()
            connection.close()
            start_response("200 OK", [])
            return [b"outer " + body]

        with Serving(application) as outer:
            assert outer.get().body == b"outer inner"
