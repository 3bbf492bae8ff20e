"""roving.testing.run and explore: runs that a seed draws."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any

import pytest
import roving
from child import FREE_THREADED, check
from roving import testing


@contextlib.contextmanager
def at_once() -> Iterator[None]:
    """Whatever hours pass in it pass at once."""
    begin = time.monotonic()
    yield
    assert time.monotonic() - begin < 20


def story() -> list[tuple[int, int]]:
    """Tell in which order fibers got to where, that compete for all that roving has."""
    order: list[tuple[int, int]] = []
    lock, condition = roving.Lock(), roving.Condition()
    channel, gate = roving.Channel[int](1), roving.Semaphore(2)

    def child(number: int) -> None:
        for step in range(3):
            with gate, lock:
                order.append((number, step))
            channel.send(number)
            roving.select(channel.recv_op(), channel.recv_op())
            with condition:
                condition.notify_all()
                condition.wait(timeout=number)
            roving.sleep(number % 2)

    with roving.scope() as scope:
        for number in range(4):
            scope.spawn(child, number)
    return order


def test_a_seed_tells_the_same_story_again() -> None:
    """And another one another."""
    stories = [testing.run(story, seed=seed) for seed in range(40)]
    assert stories == [testing.run(story, seed=seed) for seed in range(40)]
    assert len(set(map(tuple, stories))) > 30


def lost_update() -> None:
    """Forget that another fiber may come in between."""
    lock, total = roving.Lock(), [0]

    def add() -> None:
        with lock:
            before = total[0]
        with lock:
            total[0] = before + 1

    with roving.scope() as scope:
        scope.spawn(add)
        scope.spawn(add)
    assert total == [2]


def test_explore_finds_what_a_run_or_two_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    """It names the seed, which finds it again."""
    monkeypatch.delenv("ROVING_SEED", raising=False)
    with pytest.raises(AssertionError) as raised:
        testing.explore(lost_update)
    note = raised.value.__notes__[-1]
    seed = int(note.split("seed ")[1].split()[0])
    for _ in range(3):
        with pytest.raises(AssertionError):
            testing.run(lost_update, seed=seed)
    # Most seeds must be innocent, or it is no find.
    failed = 0
    for other in range(30):
        try:
            testing.run(lost_update, seed=other)
        except AssertionError:
            failed += 1
    assert 0 < failed < 30
    monkeypatch.setenv("ROVING_SEED", str(seed))
    with pytest.raises(AssertionError):
        testing.explore(lost_update, seeds=[])


def test_a_deadlock_is_found_and_told_with_a_dump() -> None:
    """Two locks in two orders, and afterwards the next run works."""

    def main() -> None:
        one, other = roving.Lock(), roving.Lock()

        def take(first: roving.Lock, second: roving.Lock) -> None:
            with first, second:
                pass

        with roving.scope() as scope:
            scope.spawn(take, one, other)
            scope.spawn(take, other, one)

    with pytest.raises(roving.Deadlock, match=r"(?s)parked in lock:.*in .*take") as raised:
        testing.explore(main)
    assert "seed" in raised.value.__notes__[-1]
    assert testing.run(pow, 2, 3) == 8
    assert roving.spawn(pow, 2, 3).join(20) == 8


def test_a_deadlock_that_cannot_be_cancelled() -> None:
    """Costs the runtime it happened in, and no more."""

    def main() -> None:
        with roving.shield():
            roving.Event().wait()

    for _ in range(2):
        with pytest.raises(roving.Deadlock):
            testing.run(main)
    assert testing.run(pow, 2, 3) == 8
    assert roving.spawn(pow, 2, 3).join(20) == 8


def test_time_in_a_seeded_run() -> None:
    """Moves by itself, and by hand."""

    def main() -> tuple[float, float]:
        with testing.clock() as clock:
            roving.sleep(3600)
            first = clock.time()
        with testing.clock(autojump=False) as clock:
            fiber = roving.spawn(roving.sleep, 60)
            testing.wait_all_parked()
            clock.advance(60)
            fiber.join()
            return first, clock.time()

    with at_once():
        assert testing.run(main) == (3600, 60)


def test_what_a_seeded_run_leaves_is_ended() -> None:
    """Daemons are cancelled, however long they would sleep; others are waited for, as run does."""
    ended: list[str] = []

    def daemon() -> None:
        try:
            roving.sleep(1e9)
            ended.append("slept")
        finally:
            roving.sleep(1)
            ended.append("daemon")

    def other() -> None:
        roving.sleep(100)
        ended.append("other")

    def main() -> str:
        roving.options(daemon=True).spawn(daemon)
        roving.spawn(other)
        return "main"

    for _ in range(30):
        assert testing.run(main) == "main"
        assert ended == ["other", "daemon"]
        ended.clear()


def test_a_seeded_run_needs_the_process_to_itself() -> None:
    """And says so."""
    event = roving.Event()
    stop: list[int] = []

    def spin() -> None:
        while not stop:
            roving.yield_now()

    parked, spins = roving.spawn(event.wait), roving.spawn(spin)
    with pytest.raises(RuntimeError, match="fibers that run"):
        testing.run(pow, 2, 3)
    stop.append(1)
    spins.join(20)

    def leave_a_daemon() -> None:
        roving.options(daemon=True).spawn(roving.Event().wait)

    # Those that are parked are left alone.
    testing.run(leave_a_daemon)
    assert not parked.done()
    event.set()
    assert parked.join(20)
    with pytest.raises(RuntimeError, match="for plain threads"):
        roving.spawn(lambda: testing.run(pow, 2, 3)).join(20)

    def nested() -> Any:
        return roving.blocking(lambda: testing.run(pow, 2, 3))

    with pytest.raises(RuntimeError, match="one at a time"):
        testing.run(nested)
    assert testing.run(pow, 2, 3) == 8


def test_no_preempt_holds_in_a_seeded_run() -> None:
    """Nobody comes in between, by any seed."""

    def main() -> None:
        lock, inside = roving.Lock(), [0]

        def child() -> None:
            with roving.no_preempt():
                inside[0] += 1
                assert lock.acquire(blocking=False)
                lock.release()
                assert inside == [1]
                inside[0] -= 1

        with roving.scope() as scope:
            for _ in range(4):
                scope.spawn(child)

    testing.explore(main, seeds=range(30))


def test_what_main_raises_is_raised() -> None:
    """With the seed."""
    with pytest.raises(ZeroDivisionError) as raised:
        testing.run(divmod, 1, 0, seed=12)
    assert "seed 12" in raised.value.__notes__[-1]


def test_sequencer() -> None:
    """Blocks run in their order, whoever comes first."""

    def main() -> list[int]:
        in_order, order = testing.Sequencer(), []

        def child(number: int) -> None:
            with in_order(number):
                order.append(number)

        with roving.scope() as scope:
            for number in (3, 1, 0, 2):
                scope.spawn(child, number)
        with pytest.raises(RuntimeError, match="used already"), in_order(0):
            pass
        return order

    for seed in range(10):
        assert testing.run(main, seed=seed) == [0, 1, 2, 3]


def test_a_broken_sequencer() -> None:
    """Lets nobody wait for ever."""

    def main() -> None:
        in_order = testing.Sequencer()

        def child(number: int) -> None:
            with in_order(number):
                pass

        waits = roving.spawn(child, 1)
        last = roving.spawn(child, 2)
        testing.wait_all_parked()
        waits.cancel()
        with pytest.raises(RuntimeError, match="never will"):
            last.join()

    testing.run(main)


def test_ctrl_c_in_a_seeded_run() -> None:
    """Ends it, and the next one works."""
    check("""
        import os, signal, roving.testing
        def main():
            os.kill(os.getpid(), signal.SIGINT)
            roving.Event().wait(1e9)
            while True:
                roving.yield_now()
        try:
            roving.testing.run(main)
        except KeyboardInterrupt as error:
            assert "seed 0" in error.__notes__[-1]
        else:
            raise AssertionError
        assert roving.testing.run(pow, 2, 3) == 8
        print("ok")
    """)


@pytest.mark.skipif(not FREE_THREADED, reason="with a GIL it is not looked for calls that block")
def test_a_call_that_blocks_in_a_run_is_noted_there() -> None:
    """In its own counters, and nothing is logged: a handler would be one more that comes from outside."""
    check("""
        import logging, roving.testing
        logged = []
        class Handler(logging.Handler):
            def emit(self, record):
                logged.append(record)
        logging.getLogger("roving").addHandler(Handler())
        def main():
            def longest():
                return max((place["longest"] for place in roving.stats()["blocking_places"]), default=0)
            while longest() < 0.1:
                time.sleep(0.2)
            # One that is logged has its own thread of the pool.
            return roving.stats()["blocking_threads"]
        roving.spawn(int).join()
        assert roving.testing.run(main, seed=1) == 0
        assert roving.stats()["blocking_calls"] == 0, roving.stats()
        assert not logged
        print("ok")
    """)
