"""requests, urllib3, httpx and http.client over pools of 50 connections, a thousand fibers at once."""

import contextlib
import http.client
import queue
from collections.abc import Callable, Iterator

import patched
import pytest
import roving
from crowd import FIBERS, POOL, assert_parks, crowd, finish, parked, until
from servers import Server

# Get the body of a path, or raise; post a body, and get it back; within so many seconds.
Get = Callable[[str, float], bytes]


@contextlib.contextmanager
def with_requests(port: int) -> Iterator[Get]:
    """A Session that all fibers share."""
    requests = pytest.importorskip("requests")
    with requests.Session() as session:
        session.trust_env = False
        adapter = requests.adapters.HTTPAdapter(pool_connections=1, pool_maxsize=POOL, pool_block=True)
        session.mount("http://", adapter)

        def get(path: str, limit: float) -> bytes:
            answer = session.get(f"http://127.0.0.1:{port}{path}", timeout=limit)
            answer.raise_for_status()
            body: bytes = answer.content
            return body

        yield get


@contextlib.contextmanager
def with_urllib3(port: int) -> Iterator[Get]:
    """A PoolManager."""
    urllib3 = pytest.importorskip("urllib3")
    with urllib3.PoolManager(maxsize=POOL, block=True) as manager:

        def get(path: str, limit: float) -> bytes:
            answer = manager.request("GET", f"http://127.0.0.1:{port}{path}", timeout=limit, retries=False)
            body: bytes = answer.data
            return body

        yield get


@contextlib.contextmanager
def with_httpx(port: int) -> Iterator[Get]:
    """A Client, the sync one."""
    httpx = pytest.importorskip("httpx")
    # With an expiry, which is set by default, httpcore has a race: docs/DRIVERS.md.
    limits = httpx.Limits(max_connections=POOL, max_keepalive_connections=POOL, keepalive_expiry=None)
    with httpx.Client(limits=limits, trust_env=False, verify=False) as client:

        def get(path: str, limit: float) -> bytes:
            # It would give up waiting for the pool after the same time.
            timeout = httpx.Timeout(limit, pool=60)
            answer = client.get(f"http://127.0.0.1:{port}{path}", timeout=timeout)
            body: bytes = answer.raise_for_status().content
            return body

        yield get


@contextlib.contextmanager
def with_http_client(port: int) -> Iterator[Get]:
    """HTTPConnections in a queue: the pool one would write oneself."""
    pool: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()
    for _ in range(POOL):
        pool.put(http.client.HTTPConnection("127.0.0.1", port))

    def get(path: str, limit: float) -> bytes:
        connection = pool.get()
        try:
            connection.timeout = limit
            if connection.sock is not None:
                connection.sock.settimeout(limit)
            connection.request("GET", path)
            return connection.getresponse().read()
        except BaseException:
            connection.close()
            raise
        finally:
            pool.put(connection)

    yield get
    while not pool.empty():
        pool.get().close()


CLIENTS = [with_requests, with_urllib3, with_httpx, with_http_client]


@pytest.fixture(params=CLIENTS, ids=lambda client: client.__name__.removeprefix("with_"))
def get(request: pytest.FixtureRequest, origin: Server) -> Iterator[Get]:
    """Each of the clients."""
    with request.param(origin.port) as get:
        yield get


def test_everybody_gets_the_own_answer(get: Get) -> None:
    """A thousand fibers over fifty connections."""

    def ask(number: int) -> list[bytes]:
        return [get(f"/after/{number % 7}/{number}/{turn}", 60) for turn in range(3)]

    expected = [[b"/after/%d/%d/%d" % (n % 7, n, turn) for turn in range(3)] for n in range(FIBERS)]
    assert crowd(ask) == expected


def test_waits_hold_nobody_up(get: Get) -> None:
    """While answers take half a second, every worker goes on."""
    crowd(lambda number: get(f"/after/1/{number}", 60), 20)
    assert_parks(lambda: crowd(lambda number: get(f"/after/500/{number}", 60), 20))


def test_timeouts_and_faults(get: Get) -> None:
    """Half of the requests fail, each in its way; the others do not notice, nor does who comes later."""

    def ask(number: int) -> object:
        path, limit = [
            (f"/after/5/{number}", 60),
            ("/reset", 60),
            (f"/after/2/{number}", 60),
            ("/cut/short", 60),
            (f"/after/1/{number}", 60),
            ("/after/60000/never", 0.2),
        ][number % 6]
        try:
            return get(path, limit) == path.encode()
        except Exception as error:
            return type(error).__name__

    names = crowd(ask, 300)
    assert names[0::2] == [True] * 150
    for first in (1, 3, 5):
        kinds = set(names[first::6])
        assert not kinds & {True, False}, kinds
        assert len(kinds) <= 2, kinds
    assert any("Timeout" in str(name) or name == "TimeoutError" for name in set(names[5::6]))
    assert crowd(lambda number: get(f"/{number}", 60), 2 * POOL) == [b"/%d" % n for n in range(2 * POOL)]


def test_cancelled_in_the_middle(get: Get, request: pytest.FixtureRequest) -> None:
    """Connections of fibers that are cancelled, or time out, do not bring others their answers."""

    def forever(number: int) -> None:
        get(f"/after/60000/never/{number}", 120)

    def soon(number: int) -> bool:
        try:
            with roving.timeout(0.1):
                get(f"/after/300/late/{number}", 60)
        except TimeoutError:
            return True
        return False

    fibers = [roving.spawn(forever, number) for number in range(POOL)]
    patched.until_parked(*fibers)
    waiting = []
    if request.node.callspec.params["get"] not in (with_requests, with_urllib3):
        # As many again, which wait for the pool.
        waiting = [roving.spawn(forever, number) for number in range(POOL)]
    for fiber in [*waiting, *fibers]:
        fiber.cancel()
    finish([*waiting, *fibers], 20)
    assert all(fiber.cancelled() for fiber in [*waiting, *fibers])
    assert all(crowd(soon, POOL, 20))
    assert crowd(lambda number: get(f"/{number}", 60), 4 * POOL) == [b"/%d" % n for n in range(4 * POOL)]


def test_reconnects(get: Get, origin: Server) -> None:
    """The server goes while connections idle, and comes back."""
    crowd(lambda number: get(f"/after/20/{number}", 60), POOL)
    origin.stop()
    kinds = crowd(lambda number: _outcome(get, number), POOL)
    origin.start()
    assert b"/0" not in kinds
    # Connections that were lost while they idled are found out at once, or by the first to use them.
    crowd(lambda number: _outcome(get, number), 2 * POOL)
    assert crowd(lambda number: _outcome(get, number), FIBERS) == [b"/%d" % n for n in range(FIBERS)]


def _outcome(get: Get, number: int) -> bytes | str:
    try:
        return get(f"/{number}", 60)
    except Exception as error:
        return type(error).__name__


def test_cancelled_while_waiting_for_urllib3s_pool(origin: Server) -> None:
    """urllib3 then believes that a connection was lost, makes room for one more, and fails who comes back.

    It is so for every exception that is raised in there, gevent's and KeyboardInterrupt included.
    docs/DRIVERS.md says it; when this fails, it need not any more.
    """
    urllib3 = pytest.importorskip("urllib3")
    with urllib3.HTTPConnectionPool("127.0.0.1", origin.port, maxsize=1, block=True, retries=False) as pool:
        holder = roving.spawn(pool.request, "GET", "/after/60000/never")
        patched.until_parked(holder)
        waiter = roving.spawn(pool.request, "GET", "/")
        patched.until_parked(waiter, for_a="lock")
        waiter.cancel()
        finish([waiter])
        holder.cancel()
        finish([holder])
        assert waiter.cancelled()
        assert isinstance(holder.exception(), urllib3.exceptions.FullPoolError)


def test_a_semaphore_before_urllib3s_pool(origin: Server) -> None:
    """What to do about it: a semaphore that lets as many in as the pool has connections."""
    requests = pytest.importorskip("requests")
    gate = roving.Semaphore(POOL)
    with requests.Session() as session:
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=POOL, pool_block=True))

        def get(path: str) -> bytes:
            with gate:
                body: bytes = session.get(f"http://127.0.0.1:{origin.port}{path}").content
                return body

        fibers = [roving.spawn(get, "/after/60000/never") for _ in range(3 * POOL)]
        until(lambda: parked(fibers) == POOL)
        for fiber in reversed(fibers):
            fiber.cancel()
        finish(fibers, 20)
        assert all(fiber.cancelled() for fiber in fibers)
        expected = [b"/%d" % number for number in range(FIBERS)]
        assert crowd(lambda number: get(f"/{number}")) == expected
