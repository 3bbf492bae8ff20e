"""Connecting, accepting and names in fibers."""

import errno
import os
import resource
import socket
import sys
import threading
from collections.abc import Callable, Iterator
from typing import Any

import patched
import pytest
import roving
from patched import in_fiber, until_parked


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    with patched.everything():
        yield


def test_connect_accept_and_names() -> None:
    """By name and number, with and without timeouts; modes are as before."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

        def accept(count: int) -> list[Any]:
            accepted = [server.accept() for _ in range(count)]
            for connection, _ in accepted:
                assert connection.gettimeout() is None
                assert os.get_blocking(connection.fileno())
                connection.close()
            return [peer for _, peer in accepted]

        fiber = roving.spawn(accept, 6)
        until_parked(fiber)

        def connect() -> list[Any]:
            names = []
            for host in ("127.0.0.1", "localhost"):
                for timeout in (None, 30):
                    with socket.socket() as s:
                        s.settimeout(timeout)
                        s.connect((host, address[1]))
                        assert s.gettimeout() == timeout
                        assert os.get_blocking(s.fileno()) == (timeout is None)
                        names.append(s.getsockname())
            with socket.create_connection(("localhost", address[1]), timeout=30) as s:
                names.append(s.getsockname())
            with socket.socket() as s:
                assert s.connect_ex(address) == 0
                names.append(s.getsockname())
            return names

        assert in_fiber(connect) == fiber.join()


def test_connections_that_fail() -> None:
    """Refused, at once and later, by exception and by number."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()

    def connect() -> None:
        for timeout in (None, 30):
            with socket.socket() as s:
                s.settimeout(timeout)
                with pytest.raises(ConnectionRefusedError):
                    s.connect(address)
            with socket.socket() as s:
                s.settimeout(timeout)
                assert s.connect_ex(address) == errno.ECONNREFUSED
        with socket.socket() as s, pytest.raises(socket.gaierror):
            s.connect(("no-such-host.invalid", 1))

    in_fiber(connect)


def test_a_connection_that_takes_too_long() -> None:
    """A listener whose backlog is full does not answer."""
    with socket.socket() as server:
        server.bind(("127.0.0.1", 0))
        server.listen(0)
        address = server.getsockname()

        def connect() -> None:
            kept = []
            try:
                for _ in range(5):
                    s = socket.socket()
                    kept.append(s)
                    s.settimeout(0.05)
                    try:
                        s.connect(address)
                    except TimeoutError:
                        break
                else:
                    pytest.fail("they all connected")
                with socket.socket() as s:
                    s.settimeout(0.05)
                    assert s.connect_ex(address) == errno.EAGAIN
            finally:
                for s in kept:
                    s.close()

        in_fiber(connect)


def test_a_full_backlog_of_a_unix_socket() -> None:
    """A blocking connect waits for room."""
    name = b"\0roving-backlog-%d" % os.getpid()
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(name)
        server.listen(0)

        def connect() -> None:
            with socket.socket(socket.AF_UNIX) as s:
                s.connect(name)

        fibers = [roving.spawn(connect) for _ in range(10)]
        for _ in fibers:
            server.accept()[0].close()
        for fiber in fibers:
            fiber.join()


def test_a_thread_accepts_what_fibers_have_accepted_from() -> None:
    """The listener is non-blocking by then, and nobody can tell."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        fiber = roving.spawn(server.accept)
        until_parked(fiber)
        got: list[Any] = []
        thread = threading.Thread(target=lambda: got.append(server.accept()))
        with socket.create_connection(server.getsockname()):
            fiber.join()[0].close()
        thread.start()
        thread.join(0.05)
        assert thread.is_alive()
        with socket.create_connection(server.getsockname()):
            thread.join()
        got[0][0].close()


def test_audit_hooks_see_every_call_and_keep_no_descriptor() -> None:
    """A hook that keeps the socket it is shown closes nothing later."""
    seen: list[Any] = []

    def hook(event: str, args: tuple[Any, ...]) -> None:
        if event == "socket.connect" and watching:
            seen.append((args[0].fileno(), args))

    watching = True
    sys.addaudithook(hook)
    with socket.create_server(("127.0.0.1", 0)) as server, socket.socket() as s:
        s.settimeout(30)
        in_fiber(s.connect, server.getsockname())
        watching = False
        assert [fd for fd, _ in seen] == [s.fileno()]
        seen.clear()
        connection, _ = server.accept()
        with connection:
            connection.sendall(b"x")
            assert s.recv(1) == b"x"


def test_name_lookups_are_made_by_the_pool() -> None:
    """With the results and errors of a thread."""
    calls: list[Callable[[], Any]] = [
        lambda: socket.getaddrinfo("localhost", 80, type=socket.SOCK_STREAM),
        lambda: socket.getaddrinfo("127.0.0.1", "http"),
        lambda: socket.getaddrinfo("127.0.0.1", 80),
        lambda: socket.getaddrinfo("no-such-host.invalid", None),
        lambda: socket.gethostbyname("localhost"),
        lambda: socket.gethostbyname_ex("localhost"),
        lambda: socket.gethostbyaddr("127.0.0.1"),
        lambda: socket.getnameinfo(("127.0.0.1", 80), 0),
        lambda: socket.getnameinfo("no address", 0),  # type: ignore[arg-type]
        lambda: socket.getfqdn("localhost"),
        lambda: socket.gethostbyname(5),  # type: ignore[arg-type]
    ]

    def outcome(call: Callable[[], Any]) -> str:
        try:
            return repr(call())
        except Exception as error:
            return f"{type(error)} {error}"

    for call in calls:
        assert in_fiber(outcome, call) == outcome(call)
    threads: list[Any] = []

    class Host(str):
        """Tells who looks at it."""

        __slots__ = ()

        def encode(self, *args: Any) -> bytes:
            threads.append(roving.current())
            return super().encode(*args)

    in_fiber(socket.getaddrinfo, Host("localhost"), None)
    assert threads in ([], [None])


def test_no_descriptors_left() -> None:
    """accept raises EMFILE as on a thread, and goes on when there are some again."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with socket.create_server(("127.0.0.1", 0)) as server:
        client = socket.create_connection(server.getsockname())
        highest = os.dup(0)
        os.close(highest)
        try:
            resource.setrlimit(resource.RLIMIT_NOFILE, (highest, hard))
            with pytest.raises(OSError, match="Too many open files") as caught:
                in_fiber(server.accept)
            assert caught.value.errno == errno.EMFILE
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
        in_fiber(server.accept)[0].close()
        client.close()


def test_what_is_no_address_is_refused_at_once() -> None:
    """Nobody holds on to it when the error comes, as a thread of the pool might."""

    def references() -> list[int]:
        addresses = [["no", "address"]]
        counts = [sys.getrefcount(addresses[0])]
        try:
            socket.getnameinfo(addresses[0], 0)  # type: ignore[arg-type]
        except TypeError:
            counts.append(sys.getrefcount(addresses[0]))
        return counts

    for _ in range(100):
        assert in_fiber(references) == references()
