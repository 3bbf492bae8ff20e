"""What tests of patched calls have in common."""

import contextlib
import socket
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import roving
import roving.patch
from roving._roving import _dump


@contextlib.contextmanager
def everything() -> Iterator[None]:
    """Patch all, and undo it."""
    roving.patch.all()
    try:
        yield
    finally:
        roving.patch.undo()


def in_fiber[T](function: Callable[..., T], *args: Any) -> T:
    """Call something in a fiber; no more than half a minute."""
    fiber = roving.spawn(function, *args)
    if not fiber.wait(30):
        roving.dump()
        fiber.cancel()
        raise AssertionError("it did not end")
    return fiber.join()


def until_parked(*fibers: roving.Fiber[Any], for_a: str = "descriptor") -> None:
    """Wait in a plain thread until all of them wait for a descriptor, or a lock."""
    end = time.monotonic() + 20
    while True:
        parked = {fiber.id for fiber, _, why, _ in _dump() if why == for_a}
        if all(fiber.id in parked for fiber in fibers):
            return
        assert time.monotonic() < end, "they never parked"
        assert not any(fiber.done() for fiber in fibers), "one has ended"
        time.sleep(0.001)


@contextlib.contextmanager
def pair(kind: int = socket.SOCK_STREAM) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two sockets that are connected."""
    a, b = socket.socketpair(socket.AF_UNIX, kind)
    with a, b:
        yield a, b


@contextlib.contextmanager
def tcp_pair() -> Iterator[tuple[socket.socket, socket.socket]]:
    """Two TCP sockets that are connected."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        a = socket.create_connection(server.getsockname())
        b, _ = server.accept()
    with a, b:
        yield a, b


@contextlib.contextmanager
def threads(count: int, function: Callable[..., Any], *args: Any) -> Iterator[list[Any]]:
    """Call something in so many plain threads; the results are there when the block is over."""
    results: list[Any] = []
    running = [threading.Thread(target=lambda: results.append(function(*args))) for _ in range(count)]
    for thread in running:
        thread.start()
    try:
        yield results
    finally:
        for thread in running:
            thread.join()
