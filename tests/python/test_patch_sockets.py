"""Sockets in fibers: all methods, with and without timeouts, closes, resets and half-closes."""

import array
import errno
import os
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import patched
import pytest
import roving
from patched import in_fiber, pair, tcp_pair, until_parked


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    with patched.everything():
        yield


RECEIVERS: dict[str, Callable[[socket.socket], Any]] = {
    "recv": lambda s: s.recv(10),
    "recv_into": lambda s: s.recv_into(bytearray(10)),
    "recvfrom": lambda s: s.recvfrom(10),
    "recvfrom_into": lambda s: s.recvfrom_into(bytearray(10)),
    "recvmsg": lambda s: s.recvmsg(10, 100),
    "recvmsg_into": lambda s: s.recvmsg_into(iter([bytearray(10)])),
    "recvfrom_into with names": lambda s: s.recvfrom_into(bytearray(10), nbytes=5, flags=0),
    "recv_into with names": lambda s: s.recv_into(bytearray(10), nbytes=5, flags=0),
}


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("name", RECEIVERS)
def test_receiving_parks(name: str, timeout: float | None) -> None:
    """And gives what it gives on a thread; neither timeout nor mode is changed by it."""
    results = []
    for run in (lambda f, s: f(s), in_fiber):
        with pair() as (a, b):
            a.settimeout(timeout)
            if run is in_fiber:
                fiber = roving.spawn(RECEIVERS[name], a)
                until_parked(fiber)
                b.sendall(b"data")
                results.append(fiber.join())
                b.sendall(b"data")
                in_fiber(RECEIVERS[name], a)
            else:
                b.sendall(b"data")
                results.append(RECEIVERS[name](a))
            assert a.gettimeout() == timeout
            assert os.get_blocking(a.fileno()) == (timeout is None)
    assert results[0] == results[1]


@pytest.mark.parametrize("name", RECEIVERS)
def test_timeouts_are_total(name: str) -> None:
    """They raise what they raise on a thread, in time."""

    def receive() -> float:
        with pair() as (a, _):
            a.settimeout(0.03)
            start = time.monotonic()
            with pytest.raises(TimeoutError, match="timed out"):
                RECEIVERS[name](a)
            return time.monotonic() - start

    assert 0.03 <= in_fiber(receive) < 5


@pytest.mark.parametrize("name", RECEIVERS)
def test_non_blocking_sockets_do_not_wait(name: str) -> None:
    """Nor do calls that say so."""

    def receive() -> None:
        with pair() as (a, _):
            a.setblocking(False)
            with pytest.raises(BlockingIOError):
                RECEIVERS[name](a)
            a.setblocking(True)
            for call in (
                lambda: a.recv(1, socket.MSG_DONTWAIT),
                lambda: a.recvfrom(1, socket.MSG_DONTWAIT),
                lambda: a.recvmsg(1, 0, socket.MSG_DONTWAIT),
                lambda: a.recv_into(bytearray(1), 0, socket.MSG_DONTWAIT),
                lambda: a.recvfrom_into(bytearray(1), flags=socket.MSG_DONTWAIT),
            ):
                with pytest.raises(BlockingIOError):
                    call()

    in_fiber(receive)


BAD_CALLS: dict[str, Callable[[socket.socket], Any]] = {
    "recv none": lambda s: s.recv(),  # type: ignore[call-arg]
    "recv negative": lambda s: s.recv(-1),
    "recv text": lambda s: s.recv("1"),  # type: ignore[arg-type]
    "recv flags": lambda s: s.recv(1, "x"),  # type: ignore[arg-type]
    "recv_into bytes": lambda s: s.recv_into(b"123"),
    "recv_into small": lambda s: s.recv_into(bytearray(3), 4),
    "recv_into negative": lambda s: s.recv_into(bytearray(3), -4),
    "recv_into name": lambda s: s.recv_into(bytearray(3), size=1),  # type: ignore[call-arg]
    "recvfrom negative": lambda s: s.recvfrom(-1),
    "recvfrom flags": lambda s: s.recvfrom(1, 1.5),  # type: ignore[arg-type]
    "recvfrom_into name": lambda s: s.recvfrom_into(bytearray(3), size=1),  # type: ignore[call-arg]
    "recvfrom_into four": lambda s: s.recvfrom_into(bytearray(3), 1, 1, 1),  # type: ignore[call-arg]
    "recvmsg negative": lambda s: s.recvmsg(1, -1),
    "recvmsg_into number": lambda s: s.recvmsg_into(5),  # type: ignore[arg-type]
    "send text": lambda s: s.send("text"),  # type: ignore[arg-type]
    "send none": lambda s: s.send(),  # type: ignore[call-arg]
    "sendall text": lambda s: s.sendall("text"),  # type: ignore[arg-type]
    "sendall flags": lambda s: s.sendall(b"x", "y"),  # type: ignore[arg-type]
    "sendto one": lambda s: s.sendto(b"x"),  # type: ignore[call-overload]
    "sendto four": lambda s: s.sendto(b"x", 0, "y", "z"),  # type: ignore[call-overload]
    "sendto address": lambda s: s.sendto(b"x", 5),
    "sendmsg text": lambda s: s.sendmsg("x"),  # type: ignore[arg-type]
    "sendmsg data": lambda s: s.sendmsg([b"x"], [(1, 2)]),  # type: ignore[list-item]
    "connect address": lambda s: s.connect(5),
    "connect nowhere": lambda s: s.connect("/nowhere/at/all"),
    "connect_ex nowhere": lambda s: s.connect_ex("/nowhere/at/all"),
}


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("name", BAD_CALLS)
def test_errors_are_those_of_a_thread(name: str, timeout: float | None) -> None:
    """The same type, the same text."""

    def outcome() -> str:
        with pair() as (a, b):
            a.settimeout(timeout)
            b.send(b"something to read")
            try:
                return repr(BAD_CALLS[name](a))
            except Exception as error:
                return f"{type(error)} {error}"

    assert in_fiber(outcome) == outcome()


def test_a_closed_socket_is_one() -> None:
    """Every method says so."""

    def close() -> None:
        a, b = socket.socketpair()
        a.close()
        b.close()
        calls: list[Callable[[], Any]] = [lambda f=f: f(a) for f in RECEIVERS.values()]  # type: ignore[misc]
        calls += [lambda: a.send(b"x"), lambda: a.sendall(b"x"), a.accept, lambda: a.connect("x")]
        for call in calls:
            with pytest.raises(OSError, match="Bad file") as caught:
                call()
            assert caught.value.errno == errno.EBADF

    in_fiber(close)


BIG = b"0123456789abcdef" * (1 << 16)


@pytest.mark.parametrize("timeout", [None, 30])
def test_sendall_to_a_slow_peer(timeout: float | None) -> None:
    """Parks as often as it takes; what arrives is what was sent."""
    with tcp_pair() as (a, b):
        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
        a.settimeout(timeout)
        fiber = roving.spawn(a.sendall, BIG)
        until_parked(fiber)
        got = bytearray()
        while len(got) < len(BIG):
            got += b.recv(70_000)
        assert got == BIG
        fiber.join()


def test_send_of_a_blocking_socket_takes_all() -> None:
    """As the kernel has it; with a timeout, some."""
    with tcp_pair() as (a, b):
        fiber = roving.spawn(a.send, BIG)
        got = 0
        while got < len(BIG):
            got += len(b.recv(1 << 20))
        assert fiber.join() == len(BIG)
        a.settimeout(30)
        sent = in_fiber(a.send, BIG * 16)
        assert 0 < sent < len(BIG) * 16


def test_sendalls_time_is_that_of_the_whole() -> None:
    """Though the peer takes something now and then."""
    with tcp_pair() as (a, b):
        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
        b.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 5000)
        a.settimeout(0.1)
        fiber = roving.spawn(a.sendall, BIG)
        start = time.monotonic()
        while not fiber.wait(0.005):
            b.recv(3000)
        with pytest.raises(TimeoutError):
            fiber.join()
        assert 0.1 <= time.monotonic() - start < 5


def test_waitall() -> None:
    """All of it, or what there is at the end."""
    with tcp_pair() as (a, b):
        fibers = [
            roving.spawn(a.recv, 6, socket.MSG_WAITALL),
        ]
        for part in (b"ab", b"cd", b"ef"):
            until_parked(*fibers)
            b.sendall(part)
            if part == b"ef":
                assert fibers[0].join() == b"abcdef"
        buffer = bytearray(10)
        into = roving.spawn(a.recv_into, buffer, 10, socket.MSG_WAITALL)
        until_parked(into)
        b.sendall(b"gh")
        b.shutdown(socket.SHUT_WR)
        assert into.join() == 2
        assert in_fiber(a.recvfrom, 5, socket.MSG_WAITALL)[0] == b""
        assert in_fiber(a.recv, 5, socket.MSG_WAITALL | socket.MSG_PEEK) == b""


def test_ancillary_data() -> None:
    """Descriptors over a Unix socket, in both directions and after a wait."""

    def receive(s: socket.socket) -> bytes:
        data, ancillary, _, _ = s.recvmsg(10, socket.CMSG_SPACE(4))
        [(level, kind, raw)] = ancillary
        assert (level, kind, data) == (socket.SOL_SOCKET, socket.SCM_RIGHTS, b"fd")
        fd = array.array("i", raw)[0]
        try:
            return os.read(fd, 10)
        finally:
            os.close(fd)

    def send(s: socket.socket, fd: int) -> None:
        rights = (socket.SOL_SOCKET, socket.SCM_RIGHTS, array.array("i", [fd]))
        s.sendmsg(iter([b"f", b"d"]), iter([rights]))

    for timeout in (None, 30):
        with pair() as (a, b):
            a.settimeout(timeout)
            b.settimeout(timeout)
            reader, writer = os.pipe()
            os.write(writer, b"through")
            fiber = roving.spawn(receive, a)
            until_parked(fiber)
            in_fiber(send, b, reader)
            assert fiber.join() == b"through"
            os.close(reader)
            os.close(writer)


def test_messages_wait_for_room() -> None:
    """sendto, sendmsg and send of datagrams park when the queue is full."""
    for call in (
        lambda s, to: s.sendto(b"x" * 100, to),
        lambda s, to: s.sendto(b"x" * 100, 0, to),
        lambda s, to: s.sendmsg((part for part in (b"x" * 50, b"y" * 50)), [], 0, to),
    ):
        for timeout in (None, 30):
            name = b"\0roving-test-%d" % os.getpid()
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as a, socket.socket(a.family, a.type) as b:
                b.bind(name)
                a.settimeout(timeout)

                def fill(a: socket.socket = a, call: Any = call, name: bytes = name) -> int:
                    return sum(call(a, name) for _ in range(50))

                fiber = roving.spawn(fill)
                until_parked(fiber)
                for _ in range(50):
                    assert len(b.recv(200)) == 100
                assert fiber.join() == 5000


def test_two_waiters_on_one_socket() -> None:
    """Readers share what comes; one writes while another reads."""
    with tcp_pair() as (a, b):
        fibers = [roving.spawn(a.recv, 1) for _ in range(4)]
        until_parked(*fibers)
        b.sendall(b"abcd")
        assert sorted(fiber.join() for fiber in fibers) == [b"a", b"b", b"c", b"d"]
        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
        writer, reader = roving.spawn(a.sendall, BIG), roving.spawn(a.recv, 10)
        until_parked(writer, reader)
        b.sendall(b"answer")
        assert reader.join() == b"answer"
        got = 0
        while got < len(BIG):
            got += len(b.recv(1 << 20))
        writer.join()


@pytest.mark.parametrize("by", ["close", "os.close", "thread", "closerange", "dup2", "socket.close"])
def test_a_close_under_a_waiter(by: str) -> None:
    """EBADF, whoever closes; and the next one of that number is not taken for it."""
    a, b = socket.socketpair()
    fd = a.fileno()
    # Out of the way of other descriptors, which others make meanwhile.
    high = os.dup(fd)
    os.close(high)
    fiber = roving.spawn(a.recv, 1)
    until_parked(fiber)
    other_a, other_b = socket.socketpair()
    if by == "close":
        in_fiber(a.close)
    elif by == "thread":
        thread = threading.Thread(target=a.close)
        thread.start()
        thread.join()
    else:
        a.detach()
        if by == "os.close":
            os.close(fd)
        elif by == "closerange":
            os.closerange(fd, fd + 1)
        elif by == "socket.close":
            socket.close(fd)
        else:
            os.dup2(other_a.fileno(), fd)
            other_b.send(b"x")
    with pytest.raises(OSError, match="Bad file") as caught:
        fiber.join()
    assert caught.value.errno == errno.EBADF
    if by == "dup2":
        os.close(fd)
    for one in (b, other_a, other_b):
        one.close()


def test_resets_and_half_closes() -> None:
    """A reset raises, the end of one direction ends just that one."""
    with tcp_pair() as (a, b):
        fiber = roving.spawn(a.recv, 1)
        until_parked(fiber)
        b.shutdown(socket.SHUT_WR)
        assert fiber.join() == b""
        in_fiber(a.sendall, b"still here")
        assert in_fiber(b.recv, 100) == b"still here"
    with tcp_pair() as (a, b):
        fiber = roving.spawn(a.recv, 1)
        until_parked(fiber)
        b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        b.close()
        with pytest.raises(ConnectionResetError):
            fiber.join()
    with tcp_pair() as (a, b):
        a.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 5000)
        sender = roving.spawn(a.sendall, BIG)
        until_parked(sender)
        b.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        b.close()
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            sender.join()


def test_shutdown_wakes_a_waiter() -> None:
    """One's own, too."""
    with tcp_pair() as (a, _):
        fiber = roving.spawn(a.recv, 1)
        until_parked(fiber)
        a.shutdown(socket.SHUT_RD)
        assert fiber.join() == b""
    with socket.create_server(("127.0.0.1", 0)) as server:
        accepting = roving.spawn(server.accept)
        until_parked(accepting)
        server.shutdown(socket.SHUT_RDWR)
        with pytest.raises(OSError, match="Invalid argument"):
            accepting.join()


def test_cancellation_and_timeouts_of_roving() -> None:
    """They end the wait; the socket is as it was, and usable."""
    with tcp_pair() as (a, b):
        fiber = roving.spawn(a.recv, 1)
        until_parked(fiber)
        fiber.cancel()
        with pytest.raises(roving.FiberCancelled):
            fiber.join()

        def limited(call: Callable[[], Any]) -> None:
            with pytest.raises(TimeoutError), roving.timeout(0.01):
                call()

        in_fiber(limited, lambda: a.recv(1))
        in_fiber(limited, lambda: a.recvfrom(1))
        in_fiber(limited, lambda: a.sendall(BIG * 20))
        b.sendall(b"x")
        assert in_fiber(a.recv, 1) == b"x"
    with socket.create_server(("127.0.0.1", 0)) as server:
        in_fiber(limited, server.accept)


def test_timeouts_that_fire_as_data_arrive() -> None:
    """One or the other: nothing is lost, nothing comes twice."""

    def receive(s: socket.socket, got: list[int], count: int) -> None:
        s.settimeout(0.001)
        while len(got) < count:
            try:
                got.extend(s.recv(1))
            except TimeoutError:
                continue

    with pair() as (a, b):
        got: list[int] = []
        fiber = roving.spawn(receive, a, got, 200)

        def send() -> None:
            for number in range(200):
                time.sleep(0.0005 + number % 10 * 0.0001)
                b.send(bytes([number]))

        in_fiber(send)
        fiber.join()
        assert got == list(range(200))


def test_socket_options_for_timeouts() -> None:
    """SO_RCVTIMEO ends a blocking call with EAGAIN."""

    def receive() -> None:
        with pair() as (a, _):
            a.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack("ll", 0, 20_000))
            with pytest.raises(BlockingIOError):
                a.recv(1)

    in_fiber(receive)


def test_files_duplicates_and_detached() -> None:
    """makefile, dup, detach, sendfile, fromfd."""

    def use() -> None:
        with tcp_pair() as (a, b):
            with a.makefile("rwb") as mine, b.makefile("r", encoding="ascii") as theirs:
                reader = roving.spawn(theirs.readline)
                mine.write(b"line 1\nline")
                mine.flush()
                assert reader.join() == "line 1\n"
                reader = roving.spawn(theirs.readline)
                mine.write(b" 2\n")
                mine.flush()
                assert reader.join() == "line 2\n"
            with a.dup() as copy:
                fiber = roving.spawn(copy.recv, 1)
                b.send(b"d")
                assert fiber.join() == b"d"
            with open(__file__, "rb") as file:
                whole = file.read()
                fiber = roving.spawn(lambda: b"".join(iter(lambda: b.recv(1000), b"")))
                assert a.sendfile(file, 0) == len(whole)
                a.shutdown(socket.SHUT_WR)
                assert fiber.join() == whole
            with socket.socket(fileno=a.detach()) as again:
                fiber = roving.spawn(again.recv, 1)
                b.send(b"e")
                assert fiber.join() == b"e"

    in_fiber(use)
