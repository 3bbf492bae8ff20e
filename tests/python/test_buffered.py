"""Buffered files whose raw file parks."""

import child
import pytest

RAW = """
    import io
    class Raw(io.RawIOBase):
        def __init__(self):
            self.data = []
            self.inside = 0
        def readable(self):
            return True
        def writable(self):
            return True
        def enter(self):
            assert self.inside == 0, "two in the raw file"
            self.inside += 1
            roving.sleep(0.0002)
            self.inside -= 1
        def write(self, data):
            self.enter()
            self.data.append(bytes(data))
            return len(data)
        def readinto(self, buffer):
            self.enter()
            buffer[:] = b"x" * (len(buffer) - 1) + b"\\n"
            return len(buffer)
    raw = Raw()
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_writers(workers: int) -> None:
    """Fibers of one worker and of several, and a thread, write and flush: no deadlock, nothing torn."""
    child.check(
        RAW
        + """
    file = io.BufferedWriter(raw, 64)
    def work(n):
        for i in range(10):
            file.write(b"%03d " % n * 5)
            file.flush()
    fibers = [roving.spawn(work, n) for n in range(30)]
    thread = threading.Thread(target=work, args=(99,))
    thread.start()
    for thing in [*fibers, thread]:
        thing.join(40)
    file.close()
    words = b"".join(raw.data).split()
    assert len(words) == 31 * 50
    assert all(words[i] == words[i - i % 5] for i in range(len(words)))
    print("ok")
    """,
        workers=workers,
    )


@pytest.mark.parametrize("workers", [1, 2])
def test_readers(workers: int) -> None:
    """By line, by piece, and by iteration."""
    child.check(
        RAW
        + """
    file = io.BufferedReader(raw, 32)
    def by_line():
        return [file.readline() for _ in range(10)]
    def by_iteration():
        return [next(file) for _ in range(10)]
    def by_piece():
        return [file.read(8) for _ in range(10)] + [file.read1(8)]
    fibers = [roving.spawn(f) for f in [by_line, by_iteration, by_piece] * 10]
    thread = threading.Thread(target=by_line)
    thread.start()
    for fiber in fibers:
        fiber.join(40)
    thread.join()
    print("ok")
    """,
        workers=workers,
    )


def test_a_waiter_is_cancelled() -> None:
    """And the next has its turn."""
    child.check(
        RAW
        + """
    go = threading.Event()
    raw.enter = go.wait
    file = io.BufferedWriter(raw, 8)
    fibers = [roving.spawn(file.write, b"x" * 100) for _ in range(4)]
    roving.spawn(roving.sleep, 0.05).join()
    fibers[1].cancel()
    fibers[2].cancel()
    assert fibers[1].wait(10) and fibers[2].wait(10)
    go.set()
    assert [fiber.cancelled() for fiber in fibers] == [False, True, True, False]
    assert fibers[0].join(10) == fibers[3].join(10) == 100
    print("ok")
    """,
        workers=1,
    )


def test_reentrance_is_an_error() -> None:
    """As ever, and it hangs nobody."""
    child.check(
        RAW
        + """
    file = io.BufferedWriter(raw, 8)
    raw.enter = lambda: file.write(b"again")
    error = roving.spawn(file.write, b"x" * 100).exception(10)
    assert isinstance(error, RuntimeError) and "reentrant call" in str(error), error
    raw.enter = lambda: None
    file.write(b"x" * 100)
    print("ok", flush=True)
    import os
    os._exit(0)
    """
    )


def test_sockets() -> None:
    """makefile: a buffered pair over a raw file written in Python."""
    child.check("""
        import socket
        a, b = socket.socketpair()
        with a.makefile("rwb") as left, b.makefile("rwb") as right:
            def write():
                left.write(b"line\\n" * 100)
                left.flush()
            roving.spawn(write).join()
            assert roving.spawn(lambda: [right.readline() for _ in range(100)]).join() == [b"line\\n"] * 100
        print("ok")
    """)


def test_files_with_a_position_under_patch() -> None:
    """They are neither guarded nor asked whether they are ready; a pipe in their place is, as before."""
    child.check(
        """
        import io, os, tempfile
        import roving.patch
        roving.patch.all()

        def use(n):
            with tempfile.NamedTemporaryFile("wb+") as file, open(file.name, "r+b", buffering=0) as raw:
                for i in range(200):
                    file.write(b"%05d\\n" % i)
                    if i % 20 == n % 20:
                        file.flush()
                        roving.yield_now()
                file.flush()
                lines = raw.readall().splitlines()
                assert lines == [b"%05d" % i for i in range(200)]
                file.seek(600)
                assert file.readline() == b"00100\\n" and raw.write(b"tail") == 4
                assert len(file.read()) == 600 + 4 - 6
        for fiber in [roving.spawn(use, n) for n in range(20)]:
            fiber.join()

        # Nothing is known of a position before anybody has asked: unbuffered, this parks.
        read, write = os.pipe()
        for buffering in (0, -1):
            with open(os.dup(read), "rb", buffering) as file:
                readers = [roving.spawn(file.read, 3) for _ in range(4)]
                for i in range(4):
                    roving.spawn(os.write, write, b"abc").join()
                assert [reader.join() for reader in readers] == [b"abc"] * 4
        print("ok")
        """,
        workers=1,
    )
