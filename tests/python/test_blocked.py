"""Calls that block a worker: others go on, and stats() and the log tell."""

import textwrap

import child
import pytest

pytestmark = pytest.mark.skipif(not child.FREE_THREADED, reason="with a GIL there are no spares")

# Blocks `count` fibers, each in a read of a pipe that nobody patches, until `release` is called.
BLOCKERS = """
    import os

    arrived = []
    go, gate = os.pipe()

    def block():
        # Nothing that could park: it might be held up by the next one.
        arrived.append(None)
        os.read(go, 1)

    def blockers(count):
        fibers = [roving.spawn(block) for _ in range(count)]
        while len(arrived) < count:
            time.sleep(0.001)
        return fibers

    def release(fibers):
        os.write(gate, b"x" * len(fibers))
        for fiber in fibers:
            fiber.join()
"""


def check(source: str, workers: int) -> list[str]:
    """Run the program to its end; give back the lines it printed."""
    *lines, _ok = child.check(textwrap.dedent(source) + "\nprint('ok')", workers=workers).splitlines()
    return lines


def test_fibers_start_and_sleep_while_every_worker_is_blocked() -> None:
    """Spares take the workers' place."""
    output = check(
        BLOCKERS
        + """
    blocked = blockers(2)
    def ticks():
        for _ in range(10):
            roving.sleep(0.001)
        return roving.spawn(int).join()
    print([roving.spawn(ticks).join() for _ in range(3)])
    assert not any(fiber.done() for fiber in blocked)
    release(blocked)
    """,
        workers=2,
    )
    assert output == ["[0, 0, 0]"]


def test_an_application_of_nothing_but_blocking_calls_gets_a_worker_for_each() -> None:
    """As a pool of threads would."""
    check(
        BLOCKERS
        + """
    blocked = blockers(40)
    assert roving.stats()["workers"] >= 40
    release(blocked)
    """,
        workers=2,
    )


def test_short_calls_that_block_get_workers_too() -> None:
    """Each is too short to be found in, but there is always another."""
    check(
        """
        def call():
            if not stop.is_set():
                time.sleep(0.002)

        stop = threading.Event()
        while roving.stats().get("workers", 0) < 10:
            for fiber in [roving.spawn(call) for _ in range(100)]:
                fiber.join()
        """,
        workers=2,
    )


def test_calls_that_calculate_get_one_spare_for_each_core_at_most() -> None:
    """More would share the same cores."""
    check(
        """
        import hashlib

        def calculate():
            hashlib.pbkdf2_hmac("sha256", b"password", b"salt", 20_000)

        for fiber in [roving.spawn(calculate) for _ in range(60)]:
            fiber.join()
        # The system may keep one waiting for a moment, for memory say.
        assert roving.stats()["workers"] <= 8, roving.stats()
        """,
        workers=2,
    )


def test_stats_say_which_call_how_often_and_for_how_long() -> None:
    """One call: its place, once, and its length."""
    output = check(
        BLOCKERS
        + """
    blocked = blockers(1)
    began = time.monotonic()
    while not roving.stats()["blocking_places"] or roving.stats()["blocking_places"][0]["longest"] < 0.05:
        time.sleep(0.001)
    took = time.monotonic() - began
    assert roving.stats()["blocked"] == 1
    release(blocked)
    stats = roving.stats()
    [place] = stats["blocking_places"]
    file, line, function = place["call"].replace(" in ", ":").split(":")
    print(function, place["times"], stats["blocking_calls"])
    assert 0.05 <= place["longest"] == place["seconds"] < took + 1
    """,
        workers=1,
    )
    assert output == ["block 1 1"]


def test_stats_say_how_long_others_were_held_up() -> None:
    """A sleeper that is due while its worker is blocked."""
    check(
        BLOCKERS
        + """
    roving.spawn(int).join()
    assert roving.stats()["held_up"] < 0.005
    # More than once where the sleeper is done before the other blocks.
    while roving.stats()["held_up"] < 0.005:
        sleeping = roving.spawn(roving.sleep, 0.001)
        blocked = blockers(1)
        # Long enough to be found; the sleeper is due then.
        while not roving.stats()["blocked"]:
            pass
        release(blocked)
        sleeping.join()
    """,
        workers=1,
    )


def test_a_long_call_is_logged_once_with_its_stack() -> None:
    """The second from the same place is not."""
    output = check(
        BLOCKERS
        + """
    import logging

    class Handler(logging.Handler):
        def emit(self, record):
            print(record.levelname, record.getMessage().splitlines()[0].split(";")[0])
            print(*(line.rpartition(" ")[2] for line in record.getMessage().splitlines()[1:]))
            logged.release()

    logged = threading.Semaphore(0)
    logging.getLogger("roving").addHandler(Handler())
    logging.getLogger("roving").propagate = False

    def outer():
        block()

    for turn in range(2):
        fiber = roving.spawn(outer)
        while roving.stats()["blocked"] == 0:
            pass
        if turn == 0:
            logged.acquire()
        else:
            while roving.stats()["blocking_places"][0]["longest"] < 0.2:
                time.sleep(0.001)
        release([fiber])
    """,
        workers=1,
    )
    first, stack = output
    assert first.startswith("WARNING a call in block has blocked its worker for 0.1 s")
    assert stack == "outer block"


@pytest.mark.parametrize("patched", [False, True])
def test_a_program_that_patches_nothing_gets_a_hint(patched: bool) -> None:
    """And one that does does not."""
    output = check(
        f"patched = {patched}"
        + """
import ctypes, logging

class Handler(logging.Handler):
    def emit(self, record):
        print("roving.patch.all()" in record.getMessage())
        logged.release()

if patched:
    roving.patch.all()
logged = threading.Semaphore(0)
logging.getLogger("roving").addHandler(Handler())
logging.getLogger("roving").propagate = False
usleep = ctypes.CDLL(None).usleep

def block():
    while not done:
        usleep(200_000)

done = []
fiber = roving.spawn(block)
logged.acquire()
done.append(None)
fiber.join()
""",
        workers=1,
    )
    assert output == [str(not patched)]


def test_a_fork_forgets_them() -> None:
    """The child has workers of its own."""
    check(
        BLOCKERS
        + """
    blocked = blockers(1)
    while not roving.stats()["blocking_places"]:
        time.sleep(0.001)
    child = os.fork()
    if child == 0:
        roving.spawn(int).join()
        os._exit(roving.stats()["blocking_calls"])
    assert os.waitpid(child, 0)[1] == 0
    release(blocked)
    """,
        workers=1,
    )
