"""roving.patch: what is in place, when, and what plain threads see of it."""

import os
import socket
import threading
import time
from collections.abc import Iterator
from typing import Any

import child
import pytest
import roving
import roving.patch

early_sleep = time.sleep


@pytest.fixture
def patched() -> Iterator[None]:
    """Patch for one test."""
    roving.patch.all()
    yield
    roving.patch.undo()


def test_parts_go_in_and_out() -> None:
    """One by one, twice, and all of them out again."""
    others = roving.patch.report().keys() - {"time"}
    assert not any(roving.patch.report().values())
    roving.patch.all(**dict.fromkeys(others, False))
    report = roving.patch.report()
    assert report.pop("time") == ("time.sleep",)
    assert not any(report.values())
    roving.patch.all(time=False)
    roving.patch.all()
    report = roving.patch.report()
    assert all(report.values())
    assert "_socket.socket.recv" in report["socket"]
    assert "select.epoll.poll" in report["select"]
    assert "posix.close" in report["os"]
    assert "_socket.getaddrinfo" in report["dns"]
    assert "_ssl._SSLSocket.read" in report["ssl"]
    roving.patch.undo()
    assert not any(roving.patch.report().values())


def test_names_and_objects_from_before_are_covered(patched: None) -> None:
    """A function imported before the patch, a bound method, a socket."""
    assert roving.spawn(_all_at_once).join() < 5


def _all_at_once() -> float:
    start = time.monotonic()
    bound = early_sleep
    fibers = [roving.spawn(bound, 0.05) for _ in range(500)]
    for fiber in fibers:
        fiber.join()
    return time.monotonic() - start


def test_calls_before_the_patch_end_as_they_began() -> None:
    """A fiber in the old recv blocks its worker; the new one is used from the next call on."""
    child.check(
        """
        import socket, roving.patch
        a, b = socket.socketpair()
        receive = a.recv
        started = threading.Event()
        def reader():
            started.set()
            first = receive(1)
            return first + receive(1)
        fiber = roving.spawn(reader)
        started.wait()
        roving.patch.all()
        b.send(b"x")
        while not any(why == "descriptor" for _, _, why, _ in roving._roving._dump()):
            time.sleep(0.001)
        assert roving.spawn(pow, 2, 3).join() == 8
        b.send(b"y")
        assert fiber.join() == b"xy"
        print("ok")
        """,
        workers=1,
    )


def test_undone_it_is_what_it_was() -> None:
    """The interpreter's functions are those of before; fibers that are parked end well."""
    child.check(
        """
        import socket, roving.patch
        roving.patch.all()
        a, b = socket.socketpair()
        fiber = roving.spawn(a.recv, 5)
        while not any(why == "descriptor" for _, _, why, _ in roving._roving._dump()):
            time.sleep(0.001)
        roving.patch.undo()
        b.send(b"last")
        assert fiber.join() == b"last"
        fiber = roving.spawn(time.sleep, 0.2)
        start = time.monotonic()
        while time.monotonic() - start < 0.05:
            pass
        # It sits in the call: nothing else runs on its worker but what spares take.
        assert "sleep" not in [why for _, _, why, _ in roving._roving._dump()]
        fiber.join()
        print("ok")
        """,
        workers=1,
    )


def test_undoing_is_refused_in_a_fiber(patched: None) -> None:
    """It would leave the others to block."""
    with pytest.raises(RuntimeError, match="plain thread"):
        roving.spawn(roving.patch.undo).join()
    assert any(roving.patch.report().values())


def test_plain_threads_are_as_they_were(patched: None) -> None:
    """Sleeps, timeouts, errors and results of a thread, beside fibers."""
    a, b = socket.socketpair()
    with a, b:
        a.settimeout(0.02)
        with pytest.raises(TimeoutError):
            a.recv(1)
        a.setblocking(False)
        with pytest.raises(BlockingIOError):
            a.recv(1)
        a.setblocking(True)
        got: list[bytes] = []
        thread = threading.Thread(target=lambda: got.append(a.recv(10)))
        thread.start()
        roving.spawn(b.sendall, b"from a fiber").join()
        thread.join()
        assert got == [b"from a fib"]
        assert os.get_blocking(a.fileno())
        assert os.get_blocking(b.fileno())
    with pytest.raises(ValueError, match="non-negative"):
        time.sleep(-1)


def test_sleep_as_ever(patched: None) -> None:
    """Its errors, its audit event, zero, and floats, ints and what has __index__."""

    class Index:
        def __index__(self) -> int:
            return 0

    def sleeper() -> None:
        for duration in (0, 0.0, 0.001, Index(), True):
            if duration is not True:
                time.sleep(duration)
        with pytest.raises(ValueError, match="sleep length must be non-negative"):
            time.sleep(-0.1)
        with pytest.raises(ValueError, match="NaN"):
            time.sleep(float("nan"))
        with pytest.raises(TypeError):
            time.sleep("1")  # type: ignore[arg-type]
        with pytest.raises(OverflowError):
            time.sleep(1e30)

    roving.spawn(sleeper).join()


def test_cancel_and_timeout_end_a_sleep(patched: None) -> None:
    """At once."""
    with pytest.raises(TimeoutError):
        roving.spawn(_sleep_within, 0.01).join()
    fiber = roving.spawn(time.sleep, 1000)
    fiber.cancel()
    with pytest.raises(roving.FiberCancelled):
        fiber.join()


def _sleep_within(limit: float) -> None:
    with roving.timeout(limit):
        time.sleep(1000)


def test_callbacks_from_c_do_not_park() -> None:
    """A sqlite3 function sleeps as on a thread: C code below it holds a lock."""
    pytest.importorskip("sqlite3")
    child.check(
        """
        import sqlite3, roving.patch
        roving.configure(max_spares=0)
        roving.patch.all()
        def ask():
            with sqlite3.connect(":memory:") as connection:
                seen = []
                def nap(duration):
                    roving.spawn(seen.append, 1)
                    time.sleep(duration)
                    return len(seen)
                connection.create_function("nap", 1, nap)
                return connection.execute("select nap(0.02)").fetchone()[0]
        # Nothing else ran on the one worker meanwhile.
        assert roving.spawn(ask).join() == 0
        print("ok")
        """,
        workers=1,
    )


def test_fork_under_patch() -> None:
    """The child of a plain thread uses sockets in fibers of its own; that of a fiber has plain functions."""
    child.check(
        """
        import os, socket, roving.patch, warnings
        warnings.simplefilter("ignore")
        roving.patch.all()
        a, b = socket.socketpair()
        waiting = roving.spawn(a.recv, 1)
        while not any(why == "descriptor" for _, _, why, _ in roving._roving._dump()):
            time.sleep(0.001)
        pid = os.fork()
        if pid == 0:
            c, d = socket.socketpair()
            fiber = roving.spawn(c.recv, 5)
            d.send(b"child")
            os._exit(0 if fiber.join() == b"child" else 1)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        def forks():
            pid = os.fork()
            if pid == 0:
                c, d = socket.socketpair()
                d.send(b"x")
                time.sleep(0.001)
                os._exit(0 if c.recv(1) == b"x" else 1)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        assert roving.spawn(forks).join() == 0
        b.send(b"y")
        assert waiting.join() == b"y"
        print("ok")
        """,
        workers=1,
    )


def test_signals_while_parked() -> None:
    """A handler runs on the main thread, while fibers are parked and while the main thread joins one."""
    child.check(
        """
        import os, signal, socket, roving.patch
        roving.patch.all()
        a, b = socket.socketpair()
        def handler(number, frame):
            b.send(b"%d" % number)
        signal.signal(signal.SIGUSR1, handler)
        fiber = roving.spawn(a.recv, 10)
        def kill():
            while not any(why == "descriptor" for _, _, why, _ in roving._roving._dump()):
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGUSR1)
        roving.spawn(kill)
        assert fiber.join() == b"%d" % signal.SIGUSR1
        print("ok")
        """
    )


def test_waiting_takes_no_time_of_the_processor(patched: None) -> None:
    """With hundreds of fibers in all sorts of I/O."""
    pairs = [socket.socketpair() for _ in range(100)]
    server = socket.create_server(("127.0.0.1", 0))
    fibers: list[roving.Fiber[Any]] = [roving.spawn(a.recv, 1) for a, _ in pairs]
    fibers += [roving.spawn(time.sleep, 1000), roving.spawn(server.accept)]
    time.sleep(0.05)
    before = time.process_time()
    time.sleep(0.4)
    used = time.process_time() - before
    for fiber in fibers:
        fiber.cancel()
    for fiber in fibers:
        fiber.wait()
    for pair in pairs:
        for end in pair:
            end.close()
    server.close()
    assert used < 0.02
