"""Reloading under load: not one request fails, on connections that are kept and on new ones."""

import http.client
import signal
import threading
from collections import Counter

import pytest
from reloads import Reloading, Site, site

__all__ = ["site"]

CLIENTS = 6
RELOADS = 4


class Load:
    """Clients that ask without a pause, each on connections of its own."""

    def __init__(self, port: int) -> None:
        """Start them: of three, one keeps its connection while it may, two use a new one each time."""
        self._port = port
        self._ends = threading.Event()
        self._lock = threading.Condition()
        self.answers: Counter[str] = Counter()
        self.failures: list[str] = []
        self._clients = [
            threading.Thread(target=self._ask, args=(index % 3 != 0,)) for index in range(CLIENTS)
        ]
        for client in self._clients:
            client.start()

    def _ask(self, once: bool) -> None:
        connection = None
        while not self._ends.is_set():
            try:
                if connection is None:
                    connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=20)
                connection.request("GET", "/", headers={"Connection": "close"} if once else {})
                response = connection.getresponse()
                body = response.read().decode()
                if response.status != 200:
                    raise http.client.HTTPException(f"status {response.status}")
                if once or response.will_close:
                    connection.close()
                    connection = None
            except (OSError, http.client.HTTPException) as error:
                with self._lock:
                    self.failures.append(f"{'new' if once else 'kept'}: {error!r}")
                return
            with self._lock:
                self.answers[body] += 1
                self._lock.notify_all()
        if connection is not None:
            connection.close()

    def until(self, version: str, count: int) -> None:
        """Wait for so many answers of a version."""
        with self._lock:
            assert self._lock.wait_for(lambda: self.answers[version] >= count or self.failures, 30)

    def end(self) -> None:
        """Have them end."""
        self._ends.set()
        for client in self._clients:
            client.join()


@pytest.mark.parametrize("how", ["another process", "the same process"])
def test_no_request_fails(site: Site, how: str) -> None:
    """Over several reloads, with a broken application in between."""
    same = how == "the same process"
    with Reloading(site, "--workers", "2", *(["--keep-pid"] if same else [])) as server:
        load = Load(server.port)
        try:
            load.until("one", 200)
            for number in range(RELOADS):
                version = f"version {number}"
                site.write(version, "import nowhere")
                server.send(signal.SIGHUP)
                server.wait_for("this one serves on")
                site.write(version)
                server.send(signal.SIGHUP)
                if same:
                    server.wait_for("serves again")
                else:
                    server.handed_over()
                load.until(version, 200)
                server.wait_for("finished")
        finally:
            load.end()
        assert load.failures == []
        log = server.stop()
    assert "broken off" not in log
    assert sum(load.answers.values()) > 200 * (RELOADS + 1)
    assert set(load.answers) == {"one", *(f"version {number}" for number in range(RELOADS))}
