"""Weights on a server in a process of its own: idle connections, bodies of gigabytes, storms of bad clients.

Short by default; `make stress` asks for more by ROVING_IDLE_CONNECTIONS, ROVING_BIG_BYTES and
ROVING_STORM_SECONDS.
"""

import contextlib
import json
import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import soak_client
from serving import WAIT, Client, Response
from test_patch_ssl_load import line

CONNECTIONS = int(os.environ.get("ROVING_IDLE_CONNECTIONS", "500"))
BIG = int(os.environ.get("ROVING_BIG_BYTES", str(256 << 20)))
SECONDS = int(os.environ.get("ROVING_STORM_SECONDS", "4"))


class Server:
    """A server, whose log is a file: nobody has to read it."""

    def __init__(self, folder: Path, *arguments: str) -> None:
        """Start it, and wait until it serves."""
        self.path = folder / "log"
        self.admin_path = str(folder / "admin")
        where = ["--app-dir", str(Path(soak_client.__file__).parent), "--bind", "127.0.0.1:0"]
        options = [*where, "--admin-bind", f"unix:{self.admin_path}", "--keep-alive", "600", *arguments]
        command = [sys.executable, "-X", "faulthandler", "-m", "roving", "serve", "soak_site:application"]
        with self.path.open("wb") as log:
            self.process = subprocess.Popen([*command, *options], stderr=log)
        limit = time.monotonic() + WAIT
        while not (found := re.search(r"127\.0\.0\.1:(\d+)", self.log())):
            assert self.process.poll() is None, self.log()
            assert time.monotonic() < limit, self.log()
            time.sleep(0.01)
        self.port = int(found[1])

    def log(self) -> str:
        """Read what it has logged."""
        return self.path.read_text(errors="replace")

    def memory(self) -> int:
        """Say what it has in memory, in bytes."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        found = re.search(r"VmRSS:\s+(\d+) kB", status)
        assert found is not None
        return int(found[1]) * 1024

    def admin(self, path: str) -> Response:
        """Ask the admin listener, on a new connection."""
        with contextlib.closing(Client(self.admin_path)) as client:
            return client.get(path)

    def is_ready(self) -> bool:
        """Probe it."""
        return self.admin("/readyz").status == 200

    def metric(self, name: str) -> float:
        """Read a metric."""
        found = re.search(rf"^{name} (\S+)$", self.admin("/metrics").body.decode(), re.MULTILINE)
        assert found is not None, name
        return float(found[1])

    def until(self, name: str, value: float) -> None:
        """Wait until a metric has come down to that."""
        limit = time.monotonic() + WAIT
        while (found := self.metric(name)) > value:
            assert time.monotonic() < limit, f"{name} is {found}"

    def ask(self) -> int:
        """Make a request."""
        with contextlib.closing(Client(("127.0.0.1", self.port))) as client:
            return client.get("/").status

    def stop(self) -> None:
        """Ask it to end, which it does well."""
        self.process.send_signal(signal.SIGTERM)
        assert self.process.wait(WAIT) == 0, self.log()[-3000:]
        assert "panic" not in self.log()


@contextlib.contextmanager
def serve(folder: Path, *arguments: str) -> Iterator[Server]:
    """Start a server; whatever happens, it ends."""
    server = Server(folder, *arguments)
    try:
        yield server
        server.stop()
    finally:
        server.process.kill()
        server.process.wait()


@contextlib.contextmanager
def client(server: Server, what: str, argument: int) -> Iterator[subprocess.Popen[str]]:
    """Start clients."""
    command = [sys.executable, soak_client.__file__, what, str(server.port), str(argument)]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe, stderr=pipe, text=True) as process:
        try:
            yield process
        finally:
            process.kill()


def go_on(process: subprocess.Popen[str]) -> None:
    """Tell clients to go on."""
    assert process.stdin is not None
    process.stdin.write("\n")
    process.stdin.flush()


def test_idle_connections(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Each keeps little memory, and nobody up: all are answered again."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < CONNECTIONS + 100:
        pytest.skip(f"{CONNECTIONS} connections need as many descriptors, and the limit is {hard}")
    with serve(tmp_path) as server:
        with client(server, "idle", 200) as first, client(server, "idle", CONNECTIONS) as process:
            # What the first ones need is no connection's own.
            go_on(first)
            assert line(first) == "connected"
            before = server.memory()
            go_on(process)
            assert line(process) == "connected"
            each = (server.memory() - before) / CONNECTIONS
            assert server.metric("roving_connections") >= CONNECTIONS
            assert server.is_ready()
            go_on(process)
            assert json.loads(line(process)) == {"first": CONNECTIONS, "second": CONNECTIONS}
        server.until("roving_connections", 0)
    with capsys.disabled():
        print(f" {CONNECTIONS} idle connections: {each / 1024:.1f} KiB each", end="")
    # 16 KiB of them are the buffers that hyper keeps.
    assert each < 32 * 1024


@pytest.mark.parametrize("way", ["download", "upload"])
def test_large_bodies(tmp_path: Path, way: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They take no memory, however large."""
    with serve(tmp_path) as server:
        with client(server, way, 4 << 20) as process:
            assert json.loads(line(process))["bytes"] >= 4 << 20
        before = most = server.memory()
        began = time.monotonic()
        with client(server, way, BIG) as process:
            while process.poll() is None:
                most = max(most, server.memory())
                time.sleep(0.02)
            found = json.loads(line(process))["bytes"]
        took = time.monotonic() - began
    # A download comes in chunks, each with its frame.
    assert BIG <= found <= BIG + BIG // 1000 + 10
    with capsys.disabled():
        rate = BIG / took / (1 << 20)
        print(f" {BIG >> 20} MiB, {rate:.0f} MiB/s, memory +{(most - before) / (1 << 20):.1f} MiB", end="")
    assert most - before < 24 << 20


def test_a_storm(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Floods, slow clients, clients that vanish, an application that fails, streams that fill the limit.

    Probes are answered all along, and after it the server is as before.
    """
    limits = ["--limit-concurrency", "8", "--limit-queue", "4", "--timeout-write", "5"]
    with serve(tmp_path, *limits) as server:
        times = []
        full = 0
        with client(server, "storm", SECONDS) as process:
            while process.poll() is None:
                began = time.monotonic()
                assert server.is_ready()
                times.append(time.monotonic() - began)
                full += server.admin("/readyz?load").status == 503
                time.sleep(0.002)
            found = json.loads(line(process))
        # The slow ones have filled the limit, and the queue.
        assert full, found
        assert server.metric("roving_requests_refused_total") > 0
        unknown = [key for key in found if not re.fullmatch(r"\w+ (200|0|503|reset)", key)]
        assert not unknown, (found, server.log()[-3000:])
        assert all(any(key.startswith(kind.__name__) for key in found) for kind in soak_client.KINDS)
        server.until("roving_requests_in_flight", 0)
        server.until("roving_requests_queued", 0)
        server.until("roving_connections", 0)
        assert server.ask() == 200
        times.sort()
        tail = times[len(times) * 999 // 1000]
        log = server.log()
    for stage in ("before", "started", "first", "iterate", "close", "write"):
        assert f"LookupError: {stage}" in log or f"LookupError: '{stage}'" in log, stage
    with capsys.disabled():
        print(f" {len(times)} probes, p99.9 {tail * 1e3:.1f} ms, at most {times[-1] * 1e3:.1f} ms", end="")
    assert tail < 0.1
