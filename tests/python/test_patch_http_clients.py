"""http.client and urllib against a server in another process, a thousand fibers at once.

Drivers stand on these. `make drivers` does the like with requests, httpx, redis, SQLAlchemy and others.
"""

import contextlib
import http.client
import json
import queue
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator

import child
import patched
import pytest
import roving

COUNT = 1_000
POOL = 50


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    with patched.everything():
        yield


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    """Start the server of the benches."""
    command = [sys.executable, str(child.ROOT / "benches" / "python" / "origin.py"), "--until-eof"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as server:
        assert server.stdout is not None
        yield json.loads(server.stdout.readline())["port"]
        assert server.stdin is not None
        server.stdin.close()


def all_of[T](fibers: list[roving.Fiber[T]]) -> list[T]:
    """Join them all, none for longer than a minute."""
    return [fiber.join(60) for fiber in fibers]


class Pool:
    """Connections of http.client that are kept open, and closed when anything goes wrong."""

    def __init__(self, port: int) -> None:
        """Make them."""
        self.free: queue.LifoQueue[http.client.HTTPConnection] = queue.LifoQueue()
        for _ in range(POOL):
            self.free.put(http.client.HTTPConnection("127.0.0.1", port, timeout=30))

    def get(self, path: str) -> bytes:
        """Get a path's body."""
        connection = self.free.get()
        try:
            connection.request("GET", path)
            return connection.getresponse().read()
        except BaseException:
            connection.close()
            raise
        finally:
            self.free.put(connection)

    def close(self) -> None:
        """Close them."""
        while not self.free.empty():
            self.free.get().close()


def test_a_pool_of_connections(port: int) -> None:
    """Everybody gets the own answer; after cancellations too, in the middle of a call, and before one."""
    with contextlib.closing(Pool(port)) as pool:
        fibers = [roving.spawn(pool.get, f"/after/1/{number}") for number in range(COUNT)]
        assert all_of(fibers) == [b"/after/1/%d" % number for number in range(COUNT)]
        late = [roving.spawn(pool.get, f"/after/60000/{number}") for number in range(POOL)]
        patched.until_parked(*late)
        waiting = [roving.spawn(pool.get, f"/after/60000/{number}") for number in range(POOL)]
        for fiber in [*waiting, *late]:
            fiber.cancel()
        assert all(fiber.wait(20) and fiber.cancelled() for fiber in [*waiting, *late])
        fibers = [roving.spawn(pool.get, f"/after/1/{number}") for number in range(2 * POOL)]
        assert all_of(fibers) == [b"/after/1/%d" % number for number in range(2 * POOL)]


def test_urllib(port: int) -> None:
    """A connection each; a fifth of them is reset, another fifth times out."""

    def get(number: int) -> object:
        path, limit = {3: ("/reset", 30), 4: ("/after/60000", 0.1)}.get(
            number % 5, (f"/after/5/{number}", 30)
        )
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=limit) as answer:
                return answer.read()
        except (urllib.error.URLError, ConnectionError, TimeoutError) as error:
            reason = getattr(error, "reason", error)
            return type(reason)

    found = all_of([roving.spawn(get, number) for number in range(200)])
    for number, answer in enumerate(found):
        wanted = {3: ConnectionResetError, 4: TimeoutError}.get(number % 5, b"/after/5/%d" % number)
        if number % 5 == 3:
            # http.client says so when the end comes before the first byte.
            assert answer in (ConnectionResetError, http.client.RemoteDisconnected)
        else:
            assert answer == wanted
