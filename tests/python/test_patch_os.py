"""os.read, os.write and their like in fibers."""

import errno
import os
import pty
import socket
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import patched
import pytest
import roving
from patched import in_fiber, pair, until_parked


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    with patched.everything():
        yield


@pytest.fixture
def pipe() -> Iterator[tuple[int, int]]:
    """A pipe that is closed in the end, as far as it is open."""
    ends = os.pipe()
    yield ends
    for fd in ends:
        try:
            os.close(fd)
        except OSError:
            continue


def test_pipes_park(pipe: tuple[int, int]) -> None:
    """Readers until there is something, writers until all has been taken."""
    reader, writer = pipe
    fiber = roving.spawn(os.read, reader, 10)
    until_parked(fiber)
    os.write(writer, b"something more")
    assert fiber.join() == b"something "
    assert in_fiber(os.read, reader, 100) == b"more"
    several = roving.spawn(os.readv, reader, [buffer := bytearray(3), other := bytearray(10)])
    until_parked(several)
    os.write(writer, b"12345")
    assert (several.join(), bytes(buffer), bytes(other[:2])) == (5, b"123", b"45")
    data = bytes(range(256)) * 2000
    for write in (lambda: os.write(writer, data), lambda: os.writev(writer, [data[:1000], data[1000:]])):
        count = roving.spawn(write)
        got = bytearray()
        while len(got) < len(data):
            got += in_fiber(os.read, reader, 70_000)
        assert got == data
        assert count.join() == len(data)
    assert os.get_blocking(reader)
    assert os.get_blocking(writer)
    os.close(writer)
    assert in_fiber(os.read, reader, 1) == b""


def test_a_writer_alone(pipe: tuple[int, int]) -> None:
    """The other end goes while it waits."""
    reader, writer = pipe
    fiber = roving.spawn(os.write, writer, b"x" * 200_000)
    until_parked(fiber)
    os.close(reader)
    # Some had been taken.
    assert 0 < fiber.join() < 200_000
    with pytest.raises(BrokenPipeError):
        in_fiber(os.write, writer, b"x")


def test_a_close_under_a_waiter(pipe: tuple[int, int]) -> None:
    """EBADF for reader and writer."""
    reader, _ = pipe
    fiber = roving.spawn(os.read, reader, 10)
    until_parked(fiber)
    thread = threading.Thread(target=os.close, args=(reader,))
    thread.start()
    thread.join()
    with pytest.raises(OSError, match="Bad file") as caught:
        fiber.join()
    assert caught.value.errno == errno.EBADF


def test_terminals() -> None:
    """A line at a time, after a wait."""
    master, slave = pty.openpty()
    try:
        fiber = roving.spawn(os.read, slave, 100)
        until_parked(fiber)
        in_fiber(os.write, master, b"typed\n")
        assert fiber.join() == b"typed\n"
        assert in_fiber(os.read, master, 100).startswith(b"typed")
    finally:
        os.close(master)
        os.close(slave)


def test_sockets_and_eventfds() -> None:
    """By number."""
    with pair() as (a, b):
        fiber = roving.spawn(os.read, a.fileno(), 10)
        until_parked(fiber)
        assert in_fiber(os.write, b.fileno(), b"by number") == 9
        assert fiber.join() == b"by number"
    event = os.eventfd(0)
    fiber = roving.spawn(os.read, event, 8)
    until_parked(fiber)
    os.eventfd_write(event, 5)
    assert int.from_bytes(fiber.join(), "little") == 5
    os.close(event)


def test_what_does_not_wait_is_left_alone(tmp_path: Path, pipe: tuple[int, int]) -> None:
    """Regular files, devices, descriptors with O_NONBLOCK; errors."""

    def use() -> None:
        fd = os.open(tmp_path / "file", os.O_RDWR | os.O_CREAT)
        assert os.write(fd, b"contents") == 8
        os.lseek(fd, 0, os.SEEK_SET)
        assert os.read(fd, 100) == b"contents"
        os.close(fd)
        with open("/dev/null", "r+b", buffering=0) as null, open("/dev/zero", "rb") as zero:
            assert os.read(null.fileno(), 5) == b""
            assert os.write(null.fileno(), b"x") == 1
            assert os.read(zero.fileno(), 3) == bytes(3)
        os.set_blocking(pipe[0], False)
        with pytest.raises(BlockingIOError):
            os.read(pipe[0], 1)
        assert os.read(pipe[0], 0) == b""
        for call in (
            lambda: os.read(pipe[0], -1),
            lambda: os.read(pipe[1], 1),
            lambda: os.write(pipe[0], b"x"),
            lambda: os.write(fd, b"x"),
        ):
            with pytest.raises(OSError, match=r"Bad file|Invalid"):
                call()
        for wrong in (lambda: os.read("x", 1), lambda: os.write(pipe[1], "text"), lambda: os.read(1)):  # type: ignore[arg-type,call-arg]
            with pytest.raises(TypeError):
                wrong()

    in_fiber(use)


def test_cancellation(pipe: tuple[int, int]) -> None:
    """And timeouts."""
    reader, _ = pipe

    def read() -> None:
        with pytest.raises(TimeoutError), roving.timeout(0.01):
            os.read(reader, 1)

    in_fiber(read)
    fiber = roving.spawn(os.read, reader, 1)
    until_parked(fiber)
    fiber.cancel()
    with pytest.raises(roving.FiberCancelled):
        fiber.join()


def test_sendfile_waits_in_the_pool(tmp_path: Path) -> None:
    """Other fibers of its worker run meanwhile."""
    data = b"0123456789" * 300_000
    (tmp_path / "file").write_bytes(data)
    with pair() as (a, b), open(tmp_path / "file", "rb") as file:
        fiber = roving.spawn(os.sendfile, a.fileno(), file.fileno(), 0, len(data))
        assert in_fiber(pow, 2, 3) == 8
        got = 0
        while got < len(data):
            got += len(b.recv(1 << 20))
        assert fiber.join() == len(data)


def test_closing_takes_what_it_took(pipe: tuple[int, int]) -> None:
    """Arguments by name, errors, ranges, dup2."""

    def use() -> None:
        fd = os.dup(pipe[0])
        os.close(fd=fd)
        with pytest.raises(OSError, match="Bad file"):
            os.close(fd)
        close: Callable[..., None] = os.close
        for arguments in (("x",), (), (1, 2)):
            with pytest.raises(TypeError):
                close(*arguments)
        os.closerange(5, 5)
        copy = os.dup(pipe[0])
        assert os.dup2(pipe[0], copy) == copy
        assert os.dup2(copy, copy) == copy
        assert os.dup2(fd=pipe[0], fd2=copy, inheritable=False) == copy
        os.close(copy)
        with pytest.raises(OSError, match="Bad file"):
            os.dup2(copy, pipe[0])
        with pytest.raises(OSError, match="Bad file"):
            socket.close(copy)

    in_fiber(use)
    time.sleep(0)
