"""The admin listener: health, readiness, metrics, whatever the application does."""

import contextlib
import hashlib
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import pytest
import roving
from serving import WAIT, Client, Environ, Serving, StartResponse, plain, request
from serving import quiet_log as quiet_log

pytestmark = pytest.mark.usefixtures("quiet_log")


def admin_of(server: Serving) -> Client:
    """Connect to the admin listener."""
    host, _, port = server.handle.admin_addresses[0].rpartition(":")
    return Client((host, int(port)))


def ask(server: Serving, path: str) -> tuple[int, str]:
    """Ask the admin listener."""
    with contextlib.closing(admin_of(server)) as client:
        found = client.get(path)
    return found.status, found.body.decode()


def metrics(server: Serving) -> dict[str, float]:
    """Read the metrics: each sample by its name and labels."""
    status, text = ask(server, "/metrics")
    assert status == 200
    samples = [line.rsplit(" ", 1) for line in text.splitlines() if not line.startswith("#")]
    assert len({name for name, _ in samples}) == len(samples)
    return {name: float(value) for name, value in samples}


def until(server: Serving, holds: Callable[[dict[str, float]], bool]) -> dict[str, float]:
    """Read the metrics until this holds."""
    limit = time.monotonic() + WAIT
    while not holds(found := metrics(server)):
        assert time.monotonic() < limit, found
    return found


@pytest.fixture
def server() -> Iterator[Serving]:
    """Serve something plain, with an admin listener."""
    with Serving(plain(), admin_bind="127.0.0.1:0") as server:
        yield server


def test_pages(server: Serving) -> None:
    """What there is, what there is not, and how it is asked for."""
    assert ask(server, "/healthz") == (200, "ok\n")
    assert ask(server, "/livez") == (200, "ok\n")
    assert ask(server, "/readyz") == (200, "ok\n")
    assert ask(server, "/readyz?load") == (200, "ok\n")
    assert ask(server, "/nothing")[0] == 404
    with contextlib.closing(admin_of(server)) as client:
        found = client.get("/readyz", method="HEAD")
        assert (found.status, found["content-length"], found["cache-control"]) == (200, "3", "no-store")
        # The connection lives on, and says what it cannot.
        found = client.get("/readyz", method="POST")
        assert (found.status, found["allow"]) == (405, "GET, HEAD")
        found = client.get("/metrics")
        assert found["content-type"] == "text/plain; version=0.0.4; charset=utf-8"
        client.send(request("/healthz") + request("/readyz", "Connection: close"))
        assert client.response().body == b"ok\n"
        assert client.response()["connection"] == "close"
        assert client.is_closed()


def test_it_is_off_by_default() -> None:
    """Nobody listens, and the pages are the application's."""
    with Serving(plain()) as server:
        assert server.handle.admin_addresses == []
        assert server.get("/healthz").body == b"hello"


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (b"GET /healthz HTTP/1.1\nHost: a\n\n", 400),
        (b"GET /healthz HTTP/1.1\r\n\r\n", 400),
        (b"GET /healthz HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\nhello", 413),
        (b"GET /" + b"x" * 5000 + b" HTTP/1.1\r\nHost: a\r\n\r\n", 414),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 100 + b"\r\n", 431),
        (b"\x16\x03\x01\x02\x00\x01\x00", 400),
    ],
)
def test_the_malformed_is_refused(server: Serving, sent: bytes, status: int) -> None:
    """As the server refuses it, and the listener goes on."""
    with contextlib.closing(admin_of(server)) as client:
        client.send(sent)
        assert client.response().status == status
        assert client.is_closed()
    assert ask(server, "/healthz")[0] == 200


def test_clients_that_say_nothing_keep_nobody_out(server: Serving) -> None:
    """There may be a few at once: of more the oldest goes."""
    with contextlib.ExitStack() as stack:
        silent = [stack.enter_context(contextlib.closing(admin_of(server))) for _ in range(80)]
        assert ask(server, "/readyz") == (200, "ok\n")
        assert silent[0].is_closed()
        silent[-1].send(request("/healthz"))
        assert silent[-1].response().status == 200


def test_a_request_in_pieces(server: Serving) -> None:
    """It is answered when the last one has come."""
    with contextlib.closing(admin_of(server)) as client:
        for byte in request("/healthz"):
            client.send(bytes([byte]))
        assert client.response().status == 200


def test_metrics(server: Serving) -> None:
    """They follow what happens; each family has its help and its type, once."""
    before = metrics(server)
    with contextlib.closing(server.client()) as client:
        for _ in range(3):
            assert client.get().status == 200
        client.get(method="POST", body=b"x" * 1000)
        client.get(method="PROPFIND")
        client.send(b"GET / HTTP/1.1\r\n\r\n")
        assert client.response().status == 400
    # A request is over when its response has gone, which its client may see before.
    after = until(
        server,
        lambda found: (
            found["roving_request_duration_seconds_count"] == 5 and found["roving_requests_in_flight"] == 0
        ),
    )

    def grown(name: str) -> float:
        return after[name] - before.get(name, 0)

    assert grown('roving_requests_total{method="GET",code="2xx"}') == 3
    assert grown('roving_requests_total{method="POST",code="2xx"}') == 1
    assert grown('roving_requests_total{method="other",code="2xx"}') == 1
    assert grown('roving_requests_malformed_total{fault="HostMissing"}') == 1
    assert grown('roving_requests_malformed_total{fault="BareLf"}') == 0
    assert grown("roving_request_duration_seconds_count") == 5
    assert grown('roving_request_duration_seconds_bucket{le="+Inf"}') == 5
    assert grown("roving_request_duration_seconds_sum") > 0
    assert grown("roving_connections_total") == 1
    assert grown("roving_received_bytes_total") > 1000
    assert grown("roving_sent_bytes_total") > 5 * 20
    assert grown("roving_fibers_started_total") >= 5
    assert grown("roving_turns_total") > 0
    # One may retire in between.
    until(server, lambda found: found["roving_workers"] == roving.stats()["workers"])
    assert after["roving_ready"] == 1
    assert after["roving_gil_enabled"] == float(bool(roving.stats()["gil"]))
    assert after["process_resident_memory_bytes"] > 1 << 20
    assert after["process_cpu_seconds_total"] > 0
    assert after["process_open_fds"] > 3
    assert abs(after["process_start_time_seconds"] - time.time()) < 7 * 24 * 3600
    _, text = ask(server, "/metrics")
    assert not text.endswith("\n\n")
    assert text.endswith("\n")
    families = re.findall(r"^# TYPE (\S+) (?:counter|gauge|histogram)$", text, re.MULTILINE)
    assert families == re.findall(r"^# HELP (\S+) \S", text, re.MULTILINE)
    assert len(set(families)) == len(families)
    for line in text.splitlines():
        assert re.fullmatch(r'# .+|[a-z_]+(\{[a-z_]+="[^"]*"(,[a-z_]+="[^"]*")*\})? [0-9.e+-]+', line), line
    # Each sample stands below its family.
    for name in re.findall(r"^([a-z_]+)[{ ]", text, re.MULTILINE):
        assert re.sub("_(bucket|sum|count)$", "", name) in families or name in families


def test_buckets_add_up(server: Serving) -> None:
    """Each has what the one before it has."""
    for _ in range(20):
        server.get()
    found = until(server, lambda found: found["roving_request_duration_seconds_count"] == 20)
    buckets = [
        value for name, value in found.items() if name.startswith("roving_request_duration_seconds_bucket")
    ]
    assert buckets == sorted(buckets)
    assert buckets[-1] == 20


class Held:
    """An application that keeps its requests until it is told."""

    def __init__(self) -> None:
        """Keep them."""
        self.entered = threading.Semaphore(0)
        self.released = threading.Event()

    def __call__(self, environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        """Answer, later."""
        self.entered.release()
        roving.blocking(self.released.wait, WAIT)
        start_response("200 OK", [])
        return [b"x"]


def test_a_full_server() -> None:
    """It stays ready, and says so: whoever wants it taken out asks for that."""
    application = Held()
    with contextlib.ExitStack() as stack:
        server = stack.enter_context(
            Serving(application, admin_bind="127.0.0.1:0", limit_concurrency=1, limit_queue=1)
        )
        stack.callback(application.released.set)
        clients = [stack.enter_context(contextlib.closing(server.client())) for _ in range(2)]
        clients[0].send(request())
        assert application.entered.acquire(timeout=WAIT)
        assert ask(server, "/readyz?load") == (200, "ok\n")
        clients[1].send(request())
        until(server, lambda found: found["roving_requests_queued"] == 1)
        assert server.get().status == 503
        assert ask(server, "/readyz") == (200, "ok, full\n")
        assert ask(server, "/readyz?load") == (503, "full\n")
        # As above: its client may see a response before it is counted.
        found = until(server, lambda found: found.get('roving_requests_total{method="GET",code="5xx"}') == 1)
        assert found["roving_requests_in_flight"] == 1
        assert found["roving_requests_queued"] == 1
        assert found["roving_requests_refused_total"] == 1
        # It drains: it is alive, and not ready.
        server.handle.stop()
        assert ask(server, "/readyz") == (503, "draining\n")
        assert ask(server, "/healthz") == (200, "ok\n")
        assert metrics(server)["roving_ready"] == 0
        application.released.set()
        assert [client.response().status for client in clients] == [200, 200]


def test_a_client_that_goes_is_counted() -> None:
    """As a request without a response."""
    application = Held()
    with Serving(application, admin_bind="127.0.0.1:0") as server:
        client = server.client()
        client.send(request())
        assert application.entered.acquire(timeout=WAIT)
        client.reset()
        name = 'roving_requests_total{method="GET",code="none"}'
        until(server, lambda found: found.get(name) == 1)
        application.released.set()


def test_it_answers_while_all_workers_are_busy() -> None:
    """In Python, in C that keeps the interpreter, in C that lets it go. Wanted are 100 ms."""
    over = threading.Event()
    entered = threading.Semaphore(0)
    text = b"x" * (1 << 22)

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        entered.release()
        while not over.is_set():
            match environ["PATH_INFO"]:
                case "/python":
                    sum(range(1000))
                case "/sort":
                    sorted(range(100_000), key=lambda number: -number)
                case "/hash":
                    hashlib.sha256(text).digest()
                case "/sleep":
                    # A plain one, which blocks the worker.
                    time.sleep(0.05)
        start_response("200 OK", [])
        return [b"x"]

    with Serving(application, admin_bind="127.0.0.1:0") as server, contextlib.ExitStack() as stack:
        stack.callback(over.set)
        kinds = ["/python", "/sort", "/hash", "/sleep"]
        for number in range(32):
            client = stack.enter_context(contextlib.closing(server.client()))
            client.send(request(kinds[number % 4]))
        # A worker that calculates begins nothing else: that is the point.
        for _ in range(min(2, roving.stats()["workers"])):
            assert entered.acquire(timeout=WAIT)
        took = []
        for _ in range(50):
            began = time.monotonic()
            assert ask(server, "/readyz")[0] == 200
            took.append(time.monotonic() - began)
        assert metrics(server)["roving_requests_in_flight"] > 0
    # This thread, too, has to wait for its turns: it is one of many on this machine.
    assert min(took) < 0.1, took


def test_a_unix_socket(tmp_path: Path) -> None:
    """Its file goes with the server."""
    path = tmp_path / "admin.sock"
    with Serving(plain(), admin_bind=f"unix:{path}") as server:
        assert server.handle.admin_addresses == [f"unix:{path}"]
        with contextlib.closing(Client(str(path))) as client:
            assert client.get("/healthz").body == b"ok\n"
    assert not path.exists()


def test_it_ends_with_the_server() -> None:
    """Nobody listens there any more; nor when the server cannot listen at all."""
    with Serving(plain(), admin_bind="127.0.0.1:0") as server:
        port = int(server.handle.admin_addresses[0].rpartition(":")[2])
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=WAIT)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        threads = {thread.name for thread in _native_threads()}
        with pytest.raises(OSError, match="cannot listen on"):
            roving.serve(plain(), bind=f"127.0.0.1:{taken.getsockname()[1]}", admin_bind="127.0.0.1:0")
        assert {thread.name for thread in _native_threads()} == threads
        with pytest.raises(OSError, match="cannot listen on"):
            roving.serve(plain(), bind="127.0.0.1:0", admin_bind=f"127.0.0.1:{taken.getsockname()[1]}")


def _native_threads() -> list[Path]:
    """List the threads of this process whose name is the listener's."""
    tasks = Path("/proc/self/task").iterdir()
    return [task for task in tasks if (task / "comm").read_text() == "roving-admin\n"]
