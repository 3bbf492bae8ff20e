"""TLS in fibers: cancelled, closed under a waiter, cut short, shared with threads, undone."""

import contextlib
import errno
import gc
import os
import socket
import ssl
import threading
import time
import weakref
from collections.abc import Callable, Iterator
from typing import Any

import patched
import pytest
import roving
import tls
from patched import in_fiber, tcp_pair, until_parked
from tls import handshake, lasts, wrapped

TIMEOUTS = pytest.mark.parametrize("timeout", [None, 30])


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    tls.authority()
    with patched.everything():
        yield


def fill(s: ssl.SSLSocket) -> None:
    """Send until it does not go on."""
    s.sendall(bytes(64 << 20))


WAITERS: dict[str, Callable[[ssl.SSLSocket], Any]] = {
    "read": lambda s: s.recv(10),
    "write": fill,
    "unwrap": lambda s: s.unwrap(),
}


@TIMEOUTS
@pytest.mark.parametrize("name", [*WAITERS, "handshake"])
def test_cancelled(name: str, timeout: float | None) -> None:
    """Parked in each call; and others go on."""
    if name == "handshake":
        with tcp_pair() as (a, _):
            a.settimeout(timeout)
            # On its own: wrap_socket closes nothing after errors of this kind.
            with wrapped(a) as s:
                fiber = roving.spawn(s.do_handshake)
                until_parked(fiber)
                fiber.cancel()
                with pytest.raises(roving.FiberCancelled):
                    fiber.join()
        return
    with tls.pair(timeout) as (a, b):
        fiber = roving.spawn(WAITERS[name], a)
        until_parked(fiber)
        fiber.cancel()
        with pytest.raises(roving.FiberCancelled):
            fiber.join()
        if name == "read":
            b.send(b"data")
            assert in_fiber(a.recv, 10) == b"data"


def test_a_scope_that_times_out() -> None:
    """roving.timeout ends a read."""

    def read(s: ssl.SSLSocket) -> None:
        with roving.timeout(0.02):
            s.recv(10)

    with tls.pair() as (a, b):
        with pytest.raises(TimeoutError):
            in_fiber(read, a)
        b.send(b"data")
        assert in_fiber(a.recv, 10) == b"data"


@TIMEOUTS
@pytest.mark.parametrize("name", WAITERS)
def test_closed_under_a_waiter(name: str, timeout: float | None) -> None:
    """It gets EBADF, at once."""
    with tls.pair(timeout) as (a, _):
        fiber = roving.spawn(WAITERS[name], a)
        until_parked(fiber)
        a.close()
        with pytest.raises(OSError, match="Bad file descriptor") as caught:
            fiber.join()
        assert caught.value.errno == errno.EBADF


def test_a_number_used_again() -> None:
    """What remains of a closed connection does not read from another."""
    with tls.pair() as (a, _), tcp_pair() as (c, d):
        sslobj: Any = a._sslobj  # type: ignore[attr-defined]
        fd = a.fileno()
        with contextlib.suppress(TimeoutError):
            a.settimeout(0.01)
            in_fiber(a.recv, 1)
        a.close()
        os.dup2(c.fileno(), fd)
        try:
            d.send(b"not for you")
            with pytest.raises(OSError, match="Bad file descriptor"):
                in_fiber(sslobj.read, 10)
            assert c.recv(100) == b"not for you"
        finally:
            os.close(fd)


def test_a_socket_that_is_gone() -> None:
    """Is an error as on a thread."""
    with tcp_pair() as (a, _):
        raw = socket.socket(fileno=a.detach())
        raw.settimeout(0.01)
        context: Any = tls.authority().client()
        sslobj = context._wrap_socket(raw, False, "localhost")
        with pytest.raises(TimeoutError):
            in_fiber(sslobj.read, 10)
        raw.close()
        gone = weakref.ref(raw)
        del raw
        # The fiber's worker may have been the last to let go of it.
        deadline = time.monotonic() + 20
        while gone() is not None:
            assert time.monotonic() < deadline
            gc.collect()
        for where in (in_fiber, lambda f, *args: f(*args)):
            with pytest.raises(ssl.SSLError, match="Underlying socket connection gone"):
                where(sslobj.read, 10)


@TIMEOUTS
def test_end_of_file(timeout: float | None) -> None:
    """Announced, and not; amid a record, and amid a handshake."""
    with tls.pair(timeout) as (a, b):
        fiber = roving.spawn(a.recv, 10)
        until_parked(fiber)
        other = roving.spawn(b.unwrap)
        assert fiber.join() == b""
        assert in_fiber(a.recv, 10) == b""
        in_fiber(a.unwrap)
        other.join()
    for suppress in (True, False):
        with tls.puppet(timeout) as (a, puppet):
            a.suppress_ragged_eofs = suppress  # type: ignore[attr-defined]
            fiber = roving.spawn(a.recv, 10)
            until_parked(fiber)
            puppet.raw.sendall(puppet.record(b"some data")[:15])
            puppet.raw.shutdown(socket.SHUT_WR)
            if suppress:
                assert fiber.join() == b""
            else:
                with pytest.raises(ssl.SSLEOFError):
                    fiber.join()
    with tcp_pair() as (c, d):
        c.settimeout(timeout)
        client = roving.spawn(handshake, c)
        until_parked(client)
        d.shutdown(socket.SHUT_WR)
        with pytest.raises(ssl.SSLEOFError):
            client.join()


def test_a_reset() -> None:
    """Is raised as it is."""
    with tls.puppet() as (a, puppet):
        fiber = roving.spawn(a.recv, 10)
        until_parked(fiber)
        puppet.raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        puppet.raw.close()
        with pytest.raises(ConnectionResetError):
            fiber.join()


def test_closed_by_the_peer_is_told_again() -> None:
    """Also when the peer does not close its socket, and after data."""
    with tls.puppet() as (a, puppet):
        puppet.raw.sendall(puppet.record(b"data"))
        assert in_fiber(a.recv, 10) == b"data"
        fiber = roving.spawn(a.recv, 10)
        until_parked(fiber)
        with pytest.raises(ssl.SSLWantReadError):
            puppet.ssl.unwrap()
        puppet.raw.sendall(puppet.outgoing.read())
        assert fiber.join() == b""
        assert in_fiber(a.recv, 10) == b""


@pytest.mark.parametrize("on", ["thread", "fiber"])
def test_plain_text_after_unwrap(on: str) -> None:
    """The socket is what it was: blocking, its own timeout, and nothing is lost."""
    with tls.pair() as (a, b):
        fiber = roving.spawn(a.unwrap)
        until_parked(fiber)
        plain = in_fiber(b.unwrap)
        other = fiber.join()
        assert other is a
        assert plain is b
        assert os.get_blocking(other.fileno())
        assert other.gettimeout() is None
        plain.send(b"in the clear")
        where: Any = in_fiber if on == "fiber" else lambda f, *args: f(*args)
        assert where(other.recv, 100) == b"in the clear"


def test_the_mode_is_given_back() -> None:
    """When the object goes by any other way."""
    with tls.pair() as (a, b):
        b.send(b"data")
        assert in_fiber(a.recv, 10) == b"data"
        a.shutdown(socket.SHUT_WR)
        gc.collect()
        deadline = time.monotonic() + 10
        while not os.get_blocking(a.fileno()):
            assert time.monotonic() < deadline
            gc.collect()


# ---- threads and fibers ----


@TIMEOUTS
def test_a_thread_after_a_fiber(timeout: float | None) -> None:
    """Waits as it always did, and takes no processor time for it."""
    with tls.pair(timeout) as (a, b):
        b.send(b"first")
        assert in_fiber(a.recv, 10) == b"first"
        in_fiber(a.send, b"second")
        assert b.recv(10) == b"second"
        spent = []

        def receive() -> None:
            start = time.thread_time()
            assert a.recv(10) == b"third"
            spent.append(time.thread_time() - start)

        thread = threading.Thread(target=receive)
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        b.send(b"third")
        thread.join()
        assert spent[0] < 0.1
        a.settimeout(0.05)
        assert 0.05 <= lasts(lambda: a.recv(10), "^The read operation timed out$") < 5


def test_a_thread_reads_while_a_fiber_writes() -> None:
    """And the other way round."""
    data = os.urandom(4 << 20)
    with tls.pair() as (a, b):
        for s in (a, b):
            with contextlib.suppress(TimeoutError):
                s.settimeout(0.01)
                in_fiber(s.recv, 1)
            s.settimeout(None)
        received = bytearray()

        def receive() -> None:
            while len(received) < len(data):
                received.extend(a.recv(1 << 16))

        thread = threading.Thread(target=receive)
        thread.start()
        back = roving.spawn(a.sendall, data)
        b.sendall(data)
        thread.join()
        assert received == data
        received.clear()
        while len(received) < len(data):
            received += in_fiber(b.recv, 1 << 20)
        back.join()
        assert received == data


def test_openssl_has_one_caller_at_a_time() -> None:
    """In a connection that a thread reads from and a fiber writes to."""
    client = tls.authority().client()
    inside: list[object] = []
    most = []

    def message(*_: object) -> None:
        inside.append(None)
        most.append(len(inside))
        # A fiber does not park in a callback.
        time.sleep(0.0005)
        inside.pop()

    client._msg_callback = message  # type: ignore[attr-defined]
    with tls.pair(client=client) as (a, b):
        in_fiber(a.send, b"first")
        assert b.recv(10) == b"first"

        def receive() -> None:
            for _ in range(100):
                assert a.recv(1) == b"y"

        thread = threading.Thread(target=receive)
        thread.start()
        other = roving.spawn(lambda: [a.send(b"x") for _ in range(100)])
        for _ in range(100):
            b.send(b"y")
        thread.join()
        other.join()
    assert len(most) > 200
    assert max(most) == 1


def test_undo() -> None:
    """Sockets that fibers have used are of use to threads; a fiber that is parked ends well."""
    with tls.pair() as (a, b):
        b.send(b"first")
        assert in_fiber(a.recv, 10) == b"first"
        fiber = roving.spawn(a.recv, 10)
        until_parked(fiber)
        roving.patch.undo()
        assert roving.patch.report()["ssl"] == ()
        b.send(b"second")
        assert fiber.join() == b"second"
        sender = threading.Timer(0.05, b.send, [b"third"])
        sender.start()
        assert a.recv(10) == b"third"
        sender.join()
        roving.patch.all()
        assert len(roving.patch.report()["ssl"]) == 5


def test_nothing_is_left() -> None:
    """Of a connection that is over: neither the objects nor what roving keeps beside them."""

    def use() -> list[weakref.ref[Any]]:
        with tls.pair() as (a, b):
            b.send(b"data")
            assert in_fiber(a.recv, 10) == b"data"
            return [weakref.ref(a), weakref.ref(b)]

    def kept() -> int:
        return sum(type(item).__name__ in ("_TLS", "_Companion") for item in gc.get_objects())

    before = kept()
    references = [reference for _ in range(20) for reference in use()]
    deadline = time.monotonic() + 20
    while any(reference() is not None for reference in references) or kept() > before:
        assert time.monotonic() < deadline, (before, kept())
        gc.collect()
        in_fiber(gc.collect)
