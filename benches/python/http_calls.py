#!/usr/bin/env python3
"""A thousand HTTP calls at once to a server that takes 50 ms: on fibers, on threads, and on asyncio.

Every peer is measured in a process of its own, the server is another; rounds in turn, medians. `new`: with
1,000 connections that are opened for it; `kept`: with those of the call before. `cpu`: processor time of the
client for one call, with connections that are kept. `benches/README.md` says how to run it.
"""

import argparse
import asyncio
import concurrent.futures
import contextlib
import http.client
import json
import os
import queue
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

# Seconds, and seconds of processor time.
Spent = tuple[float, float]
HERE = Path(__file__).resolve().parent
DELAY = 50
# Makes the client of a library, whose calls get a path's body, and which so many may use at once.
Library = Callable[[int, int], contextlib.AbstractContextManager[Callable[[str], bytes]]]


@contextlib.contextmanager
def with_requests(port: int, size: int) -> Iterator[Callable[[str], bytes]]:
    """A Session for all."""
    import requests

    with requests.Session() as session:
        # Reading the environment for proxies and passwords takes a third of a call.
        session.trust_env = False
        session.mount("http://", requests.adapters.HTTPAdapter(pool_maxsize=size))
        base = f"http://127.0.0.1:{port}"
        yield lambda path: session.get(base + path).content


@contextlib.contextmanager
def with_requests_get(port: int, size: int) -> Iterator[Callable[[str], bytes]]:
    """`requests.get`, with a session and a connection a call."""
    import requests

    base = f"http://127.0.0.1:{port}"
    yield lambda path: requests.get(base + path).content


@contextlib.contextmanager
def with_urllib3(port: int, size: int) -> Iterator[Callable[[str], bytes]]:
    """A pool for all."""
    import urllib3

    with urllib3.HTTPConnectionPool("127.0.0.1", port, maxsize=size) as pool:
        yield lambda path: pool.request("GET", path).data


@contextlib.contextmanager
def with_httpx(port: int, size: int) -> Iterator[Callable[[str], bytes]]:
    """A Client for all, the sync one."""
    import httpx

    # With an expiry, which is set by default, httpcore has a race: docs/DRIVERS.md.
    limits = httpx.Limits(max_connections=size, max_keepalive_connections=size, keepalive_expiry=None)
    base = f"http://127.0.0.1:{port}"
    with httpx.Client(limits=limits, trust_env=False, verify=False, timeout=60) as client:
        yield lambda path: client.get(base + path).content


@contextlib.contextmanager
def with_http_client(port: int, size: int) -> Iterator[Callable[[str], bytes]]:
    """Connections of http.client in a queue."""
    free: queue.SimpleQueue[http.client.HTTPConnection] = queue.SimpleQueue()
    for _ in range(size):
        free.put(http.client.HTTPConnection("127.0.0.1", port))

    def get(path: str) -> bytes:
        connection = free.get()
        connection.request("GET", path)
        body = connection.getresponse().read()
        free.put(connection)
        return body

    yield get
    for _ in range(size):
        free.get().close()


LIBRARIES: dict[str, Library] = {
    "requests": with_requests,
    "requests.get": with_requests_get,
    "urllib3": with_urllib3,
    "httpx": with_httpx,
    "http.client": with_http_client,
}


def on_fibers(get: Callable[[str], bytes], paths: list[str]) -> list[bytes]:
    """A fiber a call."""
    import roving

    fibers = [roving.spawn(get, path) for path in paths]
    return [fiber.join() for fiber in fibers]


def on_threads(count: int) -> Callable[[Callable[[str], bytes], list[str]], list[bytes]]:
    """A pool of threads, started beforehand."""
    executor = concurrent.futures.ThreadPoolExecutor(count)
    barrier = threading.Barrier(count)
    list(executor.map(lambda _: barrier.wait(), range(count)))
    return lambda get, paths: list(executor.map(get, paths))


class Blocking:
    """Blocking libraries, on fibers or threads."""

    def __init__(self, how: str, library: str, port: int, count: int) -> None:
        """Prepare."""
        self.map: Callable[[Callable[[str], bytes], list[str]], list[bytes]] = on_fibers
        if how == "roving":
            import roving

            roving.patch.all()
        else:
            self.map = on_threads(int(how.removeprefix("threads")))
        self.library, self.port, self.count = library, port, count

    def samples(self, paths: list[str]) -> list[Spent]:
        """Call all paths, twice, with a fresh client."""
        spent = []
        with LIBRARIES[self.library](self.port, self.count) as get:
            for _ in range(2):
                before = time.perf_counter(), time.process_time()
                found = self.map(get, paths)
                spent.append((time.perf_counter() - before[0], time.process_time() - before[1]))
                assert found == [path.encode() for path in paths]
        return spent


class OnAsyncio:
    """aiohttp, or httpx's AsyncClient."""

    def __init__(self, library: str, port: int, count: int) -> None:
        """Prepare."""
        self.library, self.base, self.count = library, f"http://127.0.0.1:{port}", count

    def samples(self, paths: list[str]) -> list[Spent]:
        """Call all paths, twice, with a fresh client."""
        return asyncio.run(self.all(paths))

    async def all(self, paths: list[str]) -> list[Spent]:
        """Time them."""
        spent = []
        async with contextlib.AsyncExitStack() as stack:
            get: Any
            if self.library == "aiohttp":
                import aiohttp

                connector = aiohttp.TCPConnector(limit=self.count)
                session = await stack.enter_async_context(aiohttp.ClientSession(connector=connector))

                async def get(path: str) -> bytes:
                    async with session.get(self.base + path) as answer:
                        body: bytes = await answer.read()
                    return body
            else:
                import httpx

                limits = httpx.Limits(max_connections=self.count, max_keepalive_connections=self.count)
                client = await stack.enter_async_context(
                    httpx.AsyncClient(limits=limits, trust_env=False, verify=False, timeout=60)
                )

                async def get(path: str) -> bytes:
                    body: bytes = (await client.get(self.base + path)).content
                    return body

            for _ in range(2):
                before = time.perf_counter(), time.process_time()
                found = await asyncio.gather(*map(get, paths))
                spent.append((time.perf_counter() - before[0], time.process_time() - before[1]))
                assert found == [path.encode() for path in paths]
        return spent


PEERS = [
    "roving/requests",
    "threads64/requests",
    "threads1000/requests",
    "roving/requests.get",
    "threads1000/requests.get",
    "roving/urllib3",
    "threads1000/urllib3",
    "roving/httpx",
    "asyncio/httpx",
    "asyncio/aiohttp",
    "roving/http.client",
    "threads1000/http.client",
]


def serve(peer: str, port: int, count: int) -> None:
    """Take a sample for each line that comes."""
    how, _, library = peer.partition("/")
    try:
        client = OnAsyncio(library, port, count) if how == "asyncio" else Blocking(how, library, port, count)
    except ImportError as error:
        sys.exit(str(error))
    paths = [f"/{number}" for number in range(count)]
    client.samples(paths[:20])
    for _ in sys.stdin:
        (new, _), (kept, cpu) = client.samples(paths)
        print(json.dumps({"new": new, "kept": kept, "cpu": cpu / count}), flush=True)
    os._exit(0)


def measure(options: argparse.Namespace) -> None:
    """Take samples of every peer in turn, and print a table."""
    pipes: dict[str, Any] = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "text": True}
    command = [sys.executable, str(HERE / "origin.py"), "--delay", str(DELAY), "--until-eof"]
    server = subprocess.Popen(command, **pipes)
    port = json.loads(server.stdout.readline())["port"]  # type: ignore[union-attr]
    found: dict[str, list[dict[str, float]]] = {}
    peers = [peer for peer in PEERS if not options.only or peer in options.only]
    for number in range(options.rounds):
        for peer in peers[number % len(peers) :] + peers[: number % len(peers)]:
            command = [sys.executable, __file__, "--serve", peer, "--port", str(port)]
            # Fresh, so that whoever is not measured does not even exist.
            with subprocess.Popen([*command, "--count", str(options.count)], **pipes) as process:
                out, _ = process.communicate("go\n" * options.samples, timeout=120)
            if process.returncode == 0:
                found.setdefault(peer, []).extend(map(json.loads, out.splitlines()))
            else:
                print(f"{peer} failed", file=sys.stderr)
    server.communicate(timeout=20)
    ours = {name: median(found, "roving/requests", name) for name in ("new", "kept", "cpu")}
    print("| peer | new | kept | cpu a call |\n|---|---|---|---|")
    for peer in peers:
        if peer in found:
            cells = []
            for name, unit, factor in (("new", "ms", 1e3), ("kept", "ms", 1e3), ("cpu", "us", 1e6)):
                value = median(found, peer, name)
                cells.append(f"{value * factor:.0f} {unit} ({value / ours[name]:.2f}x)")
            print(f"| {peer} | {' | '.join(cells)} |")


def median(found: dict[str, list[dict[str, float]]], peer: str, name: str) -> float:
    """One figure of a peer's."""
    return statistics.median(sample[name] for sample in found[peer]) if peer in found else float("nan")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--samples", type=int, default=3, help="of a peer in a round (%(default)s)")
    parser.add_argument("--count", type=int, default=1_000)
    parser.add_argument("--only", action="append", metavar="PEER", help="of " + ", ".join(PEERS))
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.serve:
        serve(options.serve, options.port, options.count)
    else:
        measure(options)


if __name__ == "__main__":
    main()
