"""Preemption: a fiber that does not wait gives way after its quantum, where it may, and nowhere else."""

import child
import pytest

# One worker, a spinner and somebody who must run for it to end.
PAIR = """
    def pair(spinner, other, quantum=0.005):
        roving.configure(preempt=quantum)
        def main():
            fibers = [roving.spawn(spinner), roving.spawn(other)]
            for fiber in fibers:
                fiber.join()
        roving.run(main, workers=1)

    def spin(seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            pass
"""


def test_a_spinner_leaves_room_for_a_sleeper() -> None:
    """The spinner waits, spinning, for what a sleeper does on the same worker."""
    child.check(
        PAIR
        + """
    slept = []
    def spinner():
        end = time.monotonic() + 20
        while len(slept) < 5:
            assert time.monotonic() < end, slept
    def sleeper():
        for _ in range(5):
            roving.sleep(0.001)
            slept.append(1)
    pair(spinner, sleeper)
    assert roving.stats()["preemptions"] >= 5, roving.stats()
    print("ok")
    """
    )


def test_it_is_off_until_asked_for_and_again_when_told_so() -> None:
    """A fiber that spins keeps its worker."""
    child.check(
        PAIR
        + """
    def once(quantum, **configure):
        if configure:
            roving.configure(**configure)
        order = []
        def spinner():
            order.append("spinner")
            spin(0.2)
            order.append("spinner")
        def other():
            order.append("other")
        def main():
            fibers = [roving.spawn(spinner), roving.spawn(other)]
            for fiber in fibers:
                fiber.join()
        before = roving.stats().get("preemptions", 0)
        roving.run(main, workers=1)
        return order, roving.stats()["preemptions"] - before

    kept = ["spinner", "spinner", "other"]
    assert once(None) == (kept, 0)
    order, count = once(None, preempt=0.005)
    assert order == ["spinner", "other", "spinner"] and count >= 1, (order, count)
    assert once(None, preempt=None) == (kept, 0)
    once(None, preempt=0.005)
    assert once(None, preempt=0) == (kept, 0)
    # What is not named stays as it is.
    roving.configure(preempt=0.005)
    roving.configure()
    assert once(None)[1] >= 1
    print("ok")
    """
    )


def test_a_fiber_that_is_alone_is_left_alone() -> None:
    """Nobody waits for its worker: it is not suspended. A parked fiber does not wait for the worker."""
    child.check(
        PAIR
        + """
    over = roving.Event()
    def sleeper():
        with roving.timeout(60):
            over.wait()
    def spinner():
        roving.sleep(0.01)
        before = roving.stats()["preemptions"]
        spin(0.2)
        count = roving.stats()["preemptions"] - before
        over.set()
        return count
    counts = []
    pair(lambda: counts.append(spinner()), sleeper, quantum=0.001)
    assert counts == [0], counts
    print("ok")
    """
    )


MARK = """
    inside, seen = [False], []
    done = [False]
    def spinner():
        for _ in range(5):
            BLOCK
            spin(0.01)
        done[0] = True
    def other():
        while not done[0]:
            seen.append(inside[0])
            roving.yield_now()
    pair(spinner, other, quantum=0.001)
    # It did run, in between.
    assert seen.count(False) > 5, seen
    assert not any(seen), seen.count(True)
    print("ok")
"""

NESTED = """with roving.no_preempt():
                with roving.no_preempt():
                    pass
                inside[0] = True
                spin(0.02)
                inside[0] = False"""

IMPORT = """_imp.acquire_lock()
            inside[0] = True
            spin(0.02)
            inside[0] = False
            _imp.release_lock()"""

CALLBACK = """callback()"""
CALLBACK_SET_UP = """
    import ctypes
    @ctypes.CFUNCTYPE(None)
    def callback():
        inside[0] = True
        spin(0.02)
        inside[0] = False
"""

FINALIZER = """class Cycle:
                def __del__(self):
                    inside[0] = True
                    spin(0.02)
                    inside[0] = False
            cycle = Cycle()
            cycle.me = cycle
            del cycle
            gc.collect()"""


@pytest.mark.parametrize(
    "block", [NESTED, IMPORT, CALLBACK, FINALIZER], ids=["mark", "import-lock", "callback", "collection"]
)
def test_where_a_fiber_must_not_be_suspended(block: str) -> None:
    """In a marked block, under the import lock, in a callback from C, in a collection; unchecked, it is."""
    source = PAIR + "    import _imp\n" + CALLBACK_SET_UP + MARK.replace("BLOCK", block)
    child.check(source, faults="")
    broken = child.run(source, faults="no-preempt", timeout=30)
    assert broken.returncode != 0


def test_marks_are_the_fibers_own() -> None:
    """A fiber that waits inside its mark keeps no others from being preempted. Threads may use it too."""
    child.check(
        PAIR
        + """
    with roving.no_preempt() as mark:
        assert mark is not None
    turns = []
    def marked():
        with roving.no_preempt():
            roving.sleep(0.2)
    def spinner():
        end = time.monotonic() + 20
        while len(turns) < 5:
            assert time.monotonic() < end
    def other():
        for _ in range(5):
            turns.append(1)
            roving.yield_now()
    roving.configure(preempt=0.001)
    def main():
        for fiber in [roving.spawn(f) for f in (marked, spinner, other)]:
            fiber.join()
    roving.run(main, workers=1)
    print("ok")
    """
    )


@pytest.mark.parametrize("value", ["-1", "float('nan')", "1e-9", "'soon'"])
def test_a_quantum_that_makes_no_sense(value: str) -> None:
    """It is refused, and nothing changes."""
    child.check(f"""
    try:
        roving.configure(preempt={value})
    except (ValueError, TypeError) as error:
        print(error)
    else:
        raise AssertionError
    print("ok")
    """)


def test_an_asynchronous_exception_reaches_the_fiber_that_runs() -> None:
    """PyThreadState_SetAsyncExc, in the midst of a storm: exactly one fiber gets it."""
    child.check(
        """
    import ctypes
    pthread_self = ctypes.CDLL(None).pthread_self
    pthread_self.restype = ctypes.c_ulong
    class Stop(Exception): pass
    roving.configure(preempt=0.001)
    ended, threads = [False], []
    def spinner():
        threads.append(pthread_self())
        while not ended[0]:
            pass
    fibers = [roving.spawn(spinner) for _ in range(5)]
    end = time.monotonic() + 20
    while len(threads) < 5:
        assert time.monotonic() < end
        time.sleep(0.001)
    for n in range(1, 4):
        set_exception = ctypes.pythonapi.PyThreadState_SetAsyncExc
        assert set_exception(ctypes.c_ulong(threads[0]), ctypes.py_object(Stop)) == 1
        while sum(fiber.done() for fiber in fibers) < n:
            assert time.monotonic() < end
            time.sleep(0.001)
    ended[0] = True
    caught = [fiber.exception() for fiber in fibers]
    assert sum(isinstance(error, Stop) for error in caught) == 3, caught
    assert caught.count(None) == 2, caught
    assert roving.stats()["preemptions"] > 0
    print("ok")
    """,
        workers=1,
    )
