"""roving.testing itself: rest, virtual time, seeds."""

import contextlib
import math
import os
import queue
import textwrap
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import child
import pytest
import roving
from child import check
from roving import testing


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Whatever hours pass in it pass at once."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < 20


def in_fiber(function: Callable[[], Any]) -> Any:
    """Run in a fiber. Without a limit: it would be one by the clock that stands in there."""
    return roving.spawn(function).join()


def in_thread(function: Callable[[], Any]) -> Any:
    """Run here, in a plain thread."""
    return function()


places = pytest.mark.parametrize("place", [in_fiber, in_thread])
type Place = Callable[[Callable[[], Any]], Any]


@places
def test_all_have_parked_when_it_returns(place: Place) -> None:
    """Also those that were spawned meanwhile, and on other workers."""

    def body() -> None:
        for _ in range(30):
            event = roving.Event()
            parked: list[int] = []

            def child(depth: int, event: roving.Event = event, parked: list[int] = parked) -> None:
                if depth:
                    roving.spawn(child, depth - 1)
                sum(range(1000))
                roving.yield_now()
                parked.append(depth)
                event.wait()

            fibers = [roving.options(spread=True).spawn(child, 3) for _ in range(4)]
            testing.wait_all_parked(timeout=20)
            assert len(parked) == 16
            assert not any(fiber.done() for fiber in fibers)
            event.set()
            testing.wait_all_parked(timeout=20)
            assert all(fiber.done() for fiber in fibers)

    place(body)


def test_several_may_wait_for_rest() -> None:
    """They count as parked for one another."""
    fibers = [roving.spawn(testing.wait_all_parked, 20) for _ in range(5)]
    for fiber in fibers:
        fiber.join(20)


@places
def test_rest_that_does_not_come(place: Place) -> None:
    """Times out in real time, and a fiber that waits for it can be cancelled."""

    def body() -> None:
        stop = threading.Event()

        def spin() -> None:
            while not stop.is_set():
                roving.yield_now()

        fiber = roving.spawn(spin)
        with testing.clock(), pytest.raises(TimeoutError, match="parked in time"):
            testing.wait_all_parked(timeout=0.02)
        waits = roving.spawn(testing.wait_all_parked)
        roving.sleep(0.01)
        assert waits.cancel()
        assert waits.wait(20)
        assert waits.cancelled()
        stop.set()
        fiber.join(20)
        testing.wait_all_parked(timeout=20)

    place(body)


@pytest.mark.parametrize("seconds", [-1.0, math.nan])
def test_times_that_are_none(seconds: float) -> None:
    """Are refused."""
    with pytest.raises(ValueError, match="timeout must"):
        testing.wait_all_parked(seconds)
    with pytest.raises(ValueError, match="autojump must"):
        testing.clock(autojump=seconds)
    with testing.clock() as clock, pytest.raises(ValueError, match="seconds must"):
        clock.advance(seconds)


@places
def test_hours_pass_at_once(place: Place) -> None:
    """Each sleeper wakes at its own time, to the nanosecond, and in order."""

    def body() -> None:
        order = []

        def sleeper(hours: int) -> None:
            for _ in range(3):
                roving.sleep(hours * 3600)
            order.append((hours, clock.time()))

        with testing.clock() as clock:
            fibers = [roving.spawn(sleeper, hours) for hours in (5, 1, 3, 2, 4)]
            for fiber in fibers:
                fiber.join()
        assert order == [(hours, 3 * 3600.0 * hours) for hours in (1, 2, 3, 4, 5)]
        assert clock.time() == 15 * 3600

    with at_once():
        place(body)


def waits() -> dict[str, Callable[[], object]]:
    """Wait for ten seconds for what never comes, in every way there is."""
    lock, full, event = roving.Lock(), roving.Channel[int](1), roving.Event()
    theirs = threading.Lock()
    theirs.acquire()
    lock.acquire()
    full.send(1)
    condition = roving.Condition()

    def wait_condition() -> object:
        with condition:
            return condition.wait(10)

    def wait_for() -> object:
        with condition:
            return condition.wait_for(bool, 10)

    def timeout(seconds: float) -> None:
        with roving.timeout(seconds):
            event.wait()

    def move_on() -> object:
        with roving.move_on_after(10) as block:
            event.wait()
        return not block.expired

    return {
        "sleep": lambda: roving.sleep(10),
        "lock": lambda: lock.acquire(timeout=10),
        "condition": wait_condition,
        "wait_for": wait_for,
        "semaphore": lambda: roving.Semaphore(0).acquire(timeout=10),
        "event": lambda: event.wait(10),
        "send": lambda: full.send(2, timeout=10),
        "recv": lambda: roving.Channel[int]().recv(timeout=10),
        "select": lambda: roving.select(roving.Channel[int]().recv_op(), full.send_op(1), timeout=10),
        "get": lambda: roving.Queue[int]().get(timeout=10),
        "get of the last": lambda: roving.LifoQueue[int]().get(timeout=10),
        "get of the least": lambda: roving.PriorityQueue[int]().get(timeout=10),
        "put": queue_put,
        "barrier": lambda: roving.Barrier(2).wait(10),
        "join": lambda: roving.spawn(event.wait, 20).join(10),
        "wait": lambda: roving.spawn(event.wait, 20).wait(10),
        "timeout": lambda: timeout(10),
        "move_on_after": move_on,
        "their lock": lambda: theirs.acquire(timeout=10),
    }


def queue_put() -> None:
    """Put what does not fit."""
    full = roving.Queue[int](1)
    full.put(1)
    full.put(2, timeout=10)


@pytest.mark.parametrize("name", waits())
def test_every_wait_in_a_fiber_goes_by_the_clock(name: str) -> None:
    """And takes just as long as it should."""

    def body() -> float:
        begin = clock.time()
        with contextlib.suppress(TimeoutError, queue.Empty, queue.Full, threading.BrokenBarrierError):
            assert not waits()[name]()
        return clock.time() - begin

    with at_once(), testing.clock() as clock:
        fiber = roving.spawn(body)
        fiber.wait()
        assert fiber.join() == 10
        # Those that were spawned and wait longer.
        testing.wait_all_parked(20)
        clock.advance(20)
        testing.wait_all_parked(20)


@pytest.mark.parametrize("name", [name for name in waits() if name != "their lock"])
def test_every_wait_in_a_plain_thread_goes_by_the_clock(name: str) -> None:
    """But CPython's own, which are real."""
    with at_once(), testing.clock() as clock:
        with contextlib.suppress(TimeoutError, queue.Empty, queue.Full, threading.BrokenBarrierError):
            assert not waits()[name]()
        assert clock.time() == 10
        clock.advance(20)
        testing.wait_all_parked(20)


def test_what_is_left_of_a_time_comes_to_nothing() -> None:
    """Whatever the time, and however long: a rest too short for the clock would never pass."""
    child.check(
        """
        import queue, random
        from roving import testing
        chance, empty = random.Random(0), roving.Queue()
        with testing.clock() as clock:
            for _ in range(300):
                clock.advance(chance.random() * 1e6)
                seconds, begin = chance.random() * 10 ** chance.randrange(-8, 6), clock.time()
                try:
                    roving.spawn(empty.get, timeout=seconds).join()
                except queue.Empty:
                    assert abs(clock.time() - begin - seconds) < 1e-7, (begin, seconds, clock.time())
            for seconds in 1e-10, 1e-20, 5e-324:
                assert not roving.spawn(roving.Event().wait, seconds).join()
            far = roving.spawn(empty.get, timeout=float("inf"))
            testing.wait_all_parked(20)
            empty.put(1)
            assert far.join() == 1
        print("ok")
        """
    )


def test_a_clock_that_is_moved_by_hand() -> None:
    """Stands otherwise."""
    with testing.clock(autojump=False) as clock:
        fibers = [roving.spawn(roving.sleep, seconds) for seconds in (1, 2, 3)]
        testing.wait_all_parked(20)
        assert clock.time() == 0
        ended = []
        for by in (0.5, 0.5, 1.5, 0.5):
            clock.advance(by)
            testing.wait_all_parked(20)
            ended.append([fiber.done() for fiber in fibers])
        assert [sum(done) for done in ended] == [0, 1, 2, 3]
        assert clock.time() == 3.0


def test_who_waits_for_rest_comes_before_the_clock() -> None:
    """So a test sees the moment before time goes on."""
    with testing.clock() as clock:
        fiber = roving.spawn(roving.sleep, 10)
        # Both want the same moment.
        testing.wait_all_parked(20)
        assert (clock.time(), fiber.done()) == (0, False)
        fiber.join()


def test_the_clock_waits_for_those_that_are_awake() -> None:
    """For a fiber that computes, a call on the pool, a plain thread, and whoever stopped it."""
    with testing.clock() as clock:
        sleeper = roving.spawn(roving.sleep, 10)
        time.sleep(0.02)
        assert clock.time() == 0

        def compute() -> float:
            end = time.monotonic() + 0.02
            while time.monotonic() < end:
                pass
            return clock.time()

        assert roving.spawn(compute).join() == 0
        assert roving.spawn(roving.blocking, compute).join() == 0
        channel = roving.Channel[float]()
        thread = threading.Thread(target=lambda: channel.send(compute()))
        thread.start()
        assert channel.recv() == 0
        thread.join()
        assert clock.time() == 0
        sleeper.join()
        assert clock.time() == 10


def test_a_joiner_that_has_been_woken_runs_before_time_goes_on() -> None:
    """A hundred times over: it would have to be lucky each time."""
    with testing.clock() as clock:
        for turn in range(100):
            late = roving.spawn(roving.sleep, 1000)
            assert roving.spawn(roving.sleep, 1).wait()
            assert clock.time() == turn + 1
            late.cancel()
            late.wait()


def test_a_thread_whose_scope_is_cancelled_runs_before_time_goes_on() -> None:
    """Nobody has chosen it, but it is going to run."""
    with testing.clock() as clock:
        for turn in range(50):
            with roving.scope() as scope:

                def cancel(scope: roving.Scope = scope) -> None:
                    roving.sleep(1)
                    scope.cancel()

                fiber = roving.spawn(cancel)
                late = roving.spawn(roving.sleep, 1000)
                roving.sleep(500)
            assert clock.time() == turn + 1
            late.cancel()
            late.wait()
            fiber.join()


def test_a_lenient_clock_does_not_wait_for_threads() -> None:
    """But moves when the fibers have rested for a moment, whatever they do."""
    with testing.clock(autojump=0.005) as clock:
        fiber = roving.spawn(roving.sleep, 100)
        while not fiber.done():
            time.sleep(0.001)
        assert clock.time() == 100


def test_a_lenient_clock_counts_what_fibers_do_alone() -> None:
    """A plain thread that waits, and looks around now and then, is not in its way."""
    with at_once(), testing.clock(autojump=1.2) as clock:
        roving.spawn(roving.sleep, 100).join()
        assert clock.time() == 100


def test_a_thread_that_waits_already() -> None:
    """Learns of a clock that is stopped later, and is moved."""
    condition = roving.Condition()
    log: list[object] = []

    def wait() -> None:
        with condition:
            log.append("waits")
            log.append(condition.wait(600))

    with at_once():
        thread = threading.Thread(target=wait)
        thread.start()
        while True:
            # The other has it but while it waits.
            with condition:
                if log:
                    break
        with testing.clock(autojump=False) as clock:
            clock.advance(601)
            thread.join(20)
        assert log == ["waits", False]


def test_a_signal_handler_holds_the_clock_up() -> None:
    """It runs amid a wait of the main thread, which does not count as waiting meanwhile."""
    check("""
        import roving.testing, signal
        began, seen = [], []
        def handle(*_):
            began.append(None)
            end = time.monotonic() + 0.1
            while time.monotonic() < end:
                pass
            seen.append(clock.time())
        signal.signal(signal.SIGUSR1, handle)
        with roving.testing.clock() as clock:
            def main():
                signal.pthread_kill(threading.main_thread().ident, signal.SIGUSR1)
                while not began:
                    pass
                while not seen and clock.time() < 5:
                    # Rests, and has the clock move on if it may.
                    roving.sleep(1)
            roving.spawn(main).join()
        assert seen == [0], seen
        print("ok")
    """)


def test_run_waits_by_the_clock() -> None:
    """For all but daemons, and is itself at rest for it."""

    def main() -> roving.Fiber[None]:
        roving.spawn(roving.sleep, 3600)
        return roving.options(daemon=True).spawn(roving.sleep, 7200)

    with at_once(), testing.clock() as clock:
        daemon = roving.run(main)
        assert clock.time() == 3600
        daemon.cancel()
        daemon.wait()


def test_a_descriptor_holds_a_strict_clock_up() -> None:
    """Nobody knows when it will be ready; a lenient clock does not wait for it for ever."""
    reader, writer = os.pipe()
    with testing.clock() as clock:
        waits = roving.spawn(roving.wait_readable, reader, timeout=60)
        sleeps = roving.spawn(roving.sleep, 10)
        testing.wait_all_parked(20)
        time.sleep(0.02)
        assert clock.time() == 0
        os.write(writer, b"x")
        waits.join()
        sleeps.join()
        assert clock.time() == 10
    os.read(reader, 1)
    with testing.clock(autojump=0.005) as clock:
        with pytest.raises(TimeoutError):
            roving.spawn(roving.wait_readable, reader, timeout=60).join()
        assert clock.time() == 60
    os.close(reader)
    os.close(writer)


def test_clocks_nest() -> None:
    """An inner one moves the same time by its own rule."""
    with testing.clock() as outer:
        roving.sleep(5)
        with testing.clock(autojump=False) as inner:
            fiber = roving.spawn(roving.sleep, 10)
            testing.wait_all_parked(20)
            assert (inner.time(), outer.time()) == (0, 5)
            inner.advance(10)
            testing.wait_all_parked(20)
            assert fiber.done()
        roving.sleep(1)
        assert (inner.time(), outer.time()) == (10, 16)
    assert roving.spawn(pow, 2, 3).join(20) == 8


def test_a_clock_that_is_over() -> None:
    """Says what is wrong."""
    clock = testing.clock()
    with pytest.raises(RuntimeError, match="does not stand"):
        clock.advance(1)
    with pytest.raises(RuntimeError, match="not been entered"):
        clock.__exit__(None, None, None)
    with clock:
        clock.advance(2.5)
    assert clock.time() == 2.5
    with pytest.raises(RuntimeError, match="entered once"), clock:
        pass
    clock = testing.clock(autojump=False)
    clock.__enter__()
    fiber = roving.spawn(roving.sleep, 3600)
    testing.wait_all_parked(20)
    with pytest.raises(RuntimeError, match="wait for a time of this clock"):
        clock.__exit__(None, None, None)
    fiber.cancel()
    fiber.wait(20)
    # Time goes on by itself again.
    roving.sleep(0.001)
    assert roving.spawn(roving.sleep, 0.001).wait(20)


LEAVING = {
    "a clock that stands": "roving.testing.wait_all_parked()\n",
    "a clock that moves": """
        roving.spawn(roving.sleep, 3600).join()
        def for_ever():
            while True:
                roving.sleep(1)
        roving.spawn(for_ever)
    """,
    "a run by a seed": """
        fiber.cancel()
        fiber.wait()
        clock.__exit__(None, None, None)
        def main():
            started.set()
            while True:
                roving.sleep(1)
        started = threading.Event()
        roving.testing.run(pow, 2, 3)
        threading.Thread(target=roving.testing.run, args=(main,), daemon=True).start()
        started.wait()
    """,
}


@pytest.mark.parametrize("where", LEAVING)
def test_leaving_in_the_middle(where: str) -> None:
    """No crash, no hang."""
    begin = """
        import roving.testing
        clock = roving.testing.clock(autojump=%s)
        clock.__enter__()
        fiber = roving.spawn(roving.sleep, 1e6)
    """
    moves = where == "a clock that moves"
    check(
        textwrap.dedent(begin % moves) + textwrap.dedent(LEAVING[where]) + 'print("ok", flush=True)\n',
        timeout=20,
    )


def test_a_fork_in_between() -> None:
    """The child has a runtime of its own, and no clock."""
    check("""
        import os, roving.testing
        roving.testing.run(pow, 2, 3)
        with roving.testing.clock() as clock:
            roving.spawn(roving.sleep, 3600).join()
            child = os.fork()
            if child == 0:
                begin = time.monotonic()
                roving.spawn(roving.sleep, 0.02).join()
                assert time.monotonic() - begin > 0.015
                with roving.testing.clock():
                    roving.spawn(roving.sleep, 3600).join()
                assert roving.testing.run(pow, 2, 3) == 8
                try:
                    clock.advance(1)
                except RuntimeError as error:
                    assert "forked" in str(error)
                else:
                    raise AssertionError
                # Leaves the parent's block.
                clock.__exit__(None, None, None)
                with roving.testing.clock() as clock:
                    roving.sleep(3600)
                    assert clock.time() == 3600
                begin = time.monotonic()
                roving.sleep(0.02)
                assert time.monotonic() - begin > 0.015
                os._exit(0)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            roving.spawn(roving.sleep, 3600).join()
            assert clock.time() == 7200
        print("ok")
    """)


def test_it_moves_on_after_calls_of_the_pool() -> None:
    """Whose thread may be the last to come to rest, after the fiber that waited for it."""

    def body() -> None:
        for _ in range(200):
            roving.blocking(int)
            roving.sleep(10)

    with at_once(), testing.clock() as clock:
        roving.spawn(body).join()
        assert clock.time() == pytest.approx(2000)
