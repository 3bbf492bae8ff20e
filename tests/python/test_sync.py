"""Locks and their like, and queues: between fibers and threads, with the interface of threading's."""

import inspect
import queue
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest
import roving
from roving import testing
from test_scope import Place, timed_places


def workers(count: int, function: Callable[[], Any]) -> None:
    """Run it in so many fibers and half as many threads, and wait for all."""
    threads = [threading.Thread(target=function) for _ in range(count // 2)]
    for thread in threads:
        thread.start()
    with roving.scope() as scope:
        for _ in range(count):
            scope.spawn(function)
    for thread in threads:
        thread.join()


@pytest.mark.parametrize("kind", [roving.Lock, roving.RLock])
def test_one_at_a_time(kind: Any) -> None:
    """Though it waits in between."""
    lock = kind()
    count = 0

    def work() -> None:
        nonlocal count
        for _ in range(50):
            with lock:
                before = count
                roving.yield_now()
                count = before + 1

    workers(8, work)
    assert count == 12 * 50


@timed_places
def test_lock(place: Place) -> None:
    """As threading's."""

    def body() -> None:
        lock = roving.Lock()
        assert lock.acquire() is True
        assert lock.locked()
        assert lock.acquire(False) is False
        assert lock.acquire(blocking=False) is False
        assert lock.acquire(timeout=2) is False
        assert lock.acquire(True, 0) is False
        with pytest.raises(ValueError, match="non-blocking"):
            lock.acquire(False, 1)
        with pytest.raises(ValueError, match="timeout"):
            lock.acquire(timeout=-2)
        roving.spawn(lock.release).join()
        with pytest.raises(RuntimeError, match="unlocked"):
            lock.release()
        assert lock.__enter__() is True
        lock.__exit__(None, None, None)

    place(body)


def test_a_lock_is_fair() -> None:
    """Who takes it again and again does not keep others out."""
    lock = roving.Lock()
    stop = False
    turns = [0] * 4

    def work(index: int) -> None:
        while not stop:
            with lock:
                turns[index] += 1
            if index == 0:
                continue
            roving.yield_now()

    with roving.scope() as scope:
        for index in range(1, 4):
            scope.spawn(work, index)
        thread = threading.Thread(target=work, args=(0,))
        thread.start()
        while min(turns) < 5:
            roving.sleep(0.001)
        stop = True
        thread.join()


@timed_places
def test_rlock(place: Place) -> None:
    """Its owner takes it again, others do not."""

    def body() -> None:
        lock = roving.RLock()
        with lock, lock:
            assert lock.acquire(False)
            lock.release()
            assert lock.locked()
            assert not roving.spawn(lock.acquire, False).join()
            with pytest.raises(RuntimeError, match="un-acquired"):
                roving.spawn(lock.release).join()
        assert not lock.locked()
        with pytest.raises(RuntimeError, match="un-acquired"):
            lock.release()

    place(body)


def test_fibers_of_one_worker_do_not_share_an_rlock() -> None:
    """Nor a fiber and the thread under it."""
    lock = roving.RLock()

    def hold() -> None:
        with lock:
            roving.sleep(10)

    with testing.clock() as clock:
        fibers = [roving.spawn(hold) for _ in range(8)]
        for fiber in fibers:
            fiber.join()
        assert clock.time() == 80


@timed_places
@pytest.mark.parametrize("lock", [None, roving.Lock, roving.RLock, threading.Lock])
def test_condition(place: Place, lock: Any) -> None:
    """Over any lock."""

    def body() -> None:
        condition = roving.Condition(lock and lock())
        items: list[int] = []

        def take() -> int:
            with condition:
                assert condition.wait_for(lambda: items, timeout=10)
                return items.pop()

        fibers = [roving.spawn(take) for _ in range(4)]
        for number in range(4):
            with condition:
                items.append(number)
                condition.notify()
        assert sorted(fiber.join(10) for fiber in fibers) == [0, 1, 2, 3]
        with condition:
            assert condition.wait(2) is False
            assert condition.wait_for(lambda: 0, 2) == 0
        with pytest.raises(RuntimeError, match="un-acquired"):
            condition.wait()
        with pytest.raises(RuntimeError, match="un-acquired"):
            condition.notify()

    place(body)


def test_a_notification_is_not_lost_with_a_cancelled_waiter() -> None:
    """The next one gets it."""
    for _ in range(100):
        condition = roving.Condition()
        ready = 0

        def wait(condition: roving.Condition = condition) -> None:
            nonlocal ready
            with condition:
                ready += 1
                condition.wait()

        one, other = roving.spawn(wait), roving.spawn(wait)
        while ready < 2:
            roving.yield_now()
        with condition:
            condition.notify()
            one.cancel()
        one.wait(10)
        with condition:
            if one.cancelled():
                pass
            else:
                condition.notify()
        assert other.wait(10)


@timed_places
def test_semaphore(place: Place) -> None:
    """Counts, and is first come, first served."""

    def body() -> None:
        gate = roving.Semaphore(2)
        assert gate.acquire()
        assert gate.acquire(blocking=False)
        assert not gate.acquire(blocking=False)
        assert not gate.acquire(timeout=2)
        fibers = [roving.spawn(gate.acquire) for _ in range(3)]
        testing.wait_all_parked(20)
        gate.release(3)
        for fiber in fibers:
            assert fiber.join(10)
        for bad in (0, -1):
            with pytest.raises(ValueError, match="one or more"):
                gate.release(bad)
        with pytest.raises(ValueError, match=">= 0"):
            roving.Semaphore(-1)
        with pytest.raises(ValueError, match="timeout"):
            gate.acquire(False, 1)
        bounded = roving.BoundedSemaphore(1)
        assert isinstance(bounded, roving.Semaphore)
        with bounded:
            pass
        with pytest.raises(ValueError, match="too many"):
            bounded.release()

    place(body)


def test_permits_are_neither_lost_nor_made() -> None:
    """With waiters cancelled at any moment."""
    gate = roving.Semaphore(3)

    def work() -> None:
        for _ in range(20):
            with gate:
                roving.yield_now()

    for _ in range(30):
        fibers = [roving.spawn(work) for _ in range(8)]
        roving.yield_now()
        for fiber in fibers[::2]:
            fiber.cancel()
        for fiber in fibers:
            assert fiber.wait(10)
    assert [gate.acquire(False) for _ in range(4)] == [True, True, True, False]


@timed_places
def test_event(place: Place) -> None:
    """Wakes who waits when it is set."""

    def body() -> None:
        event = roving.Event()
        assert not event.is_set()
        assert event.wait(2) is False
        assert event.wait(-1) is False
        fibers = [roving.spawn(event.wait) for _ in range(5)]
        testing.wait_all_parked(20)
        event.set()
        event.clear()
        assert all(fiber.join(10) for fiber in fibers)
        event.set()
        assert event.wait()

    place(body)


@timed_places
def test_barrier(place: Place) -> None:
    """As threading's, broken by one that is cancelled."""

    def body() -> None:
        calls: list[int] = []
        barrier = roving.Barrier(5, action=lambda: calls.append(1))
        for _ in range(3):
            fibers = [roving.spawn(barrier.wait) for _ in range(4)]
            assert sorted([barrier.wait(), *(fiber.join(10) for fiber in fibers)]) == [0, 1, 2, 3, 4]
        assert calls == [1, 1, 1]
        one, other = roving.spawn(barrier.wait), roving.spawn(barrier.wait)
        testing.wait_all_parked(20)
        one.cancel()
        with pytest.raises(threading.BrokenBarrierError):
            other.join(10)
        assert barrier.broken
        barrier.reset()
        with pytest.raises(threading.BrokenBarrierError):
            barrier.wait(2)

    place(body)


@pytest.mark.parametrize("kind", [roving.Queue, roving.LifoQueue, roving.PriorityQueue])
def test_queues(kind: Any) -> None:
    """All that is put is got, between fibers and threads; shutdown ends it."""
    jobs = kind(3)
    got: list[int] = []

    def put() -> None:
        for number in range(50):
            jobs.put(number)

    def get() -> None:
        try:
            while True:
                got.append(jobs.get())
                jobs.task_done()
        except queue.ShutDown:
            pass

    consumers = [roving.spawn(get) for _ in range(3)]
    thread = threading.Thread(target=get)
    thread.start()
    workers(4, put)
    jobs.join()
    jobs.shutdown()
    for fiber in consumers:
        fiber.join(10)
    thread.join(10)
    assert sorted(got) == sorted(list(range(50)) * 6)
    with pytest.raises(queue.ShutDown):
        jobs.put(1)
    jobs = kind(1)
    with pytest.raises(queue.Empty):
        jobs.get_nowait()
    with pytest.raises(queue.Empty):
        jobs.get(timeout=0.002)
    jobs.put(1)
    with pytest.raises(queue.Full):
        jobs.put_nowait(2)
    with pytest.raises(ValueError, match="timeout"):
        jobs.get(timeout=-1)


@pytest.mark.parametrize(
    "name", ["Lock", "RLock", "Condition", "Semaphore", "BoundedSemaphore", "Event", "Barrier"]
)
def test_the_interface_is_that_of_threading(name: str) -> None:
    """Every public method is there, with the same parameters."""
    ours, theirs = getattr(roving, name), getattr(threading, name)
    if name in ("Lock", "RLock"):
        theirs = type(theirs())
    for method in dir(theirs):
        if method.startswith("_") or method.endswith("_lock") or method in ("isSet", "notifyAll"):
            continue
        assert hasattr(ours, method), method
        if name in ("Lock", "RLock") or not callable(getattr(theirs, method)):
            continue
        if isinstance(getattr(theirs, method), property) or method in ("acquire", "release"):
            continue
        expected = list(inspect.signature(getattr(theirs, method)).parameters)
        assert list(inspect.signature(getattr(ours, method)).parameters) == expected, method


def test_a_wait_uses_no_processor_time() -> None:
    """Neither of fibers nor of threads."""
    lock = roving.Lock()
    lock.acquire()
    threads = [threading.Thread(target=lock.acquire, kwargs={"timeout": 0.5}) for _ in range(4)]
    fibers = [roving.spawn(lock.acquire, timeout=0.5) for _ in range(100)]
    for thread in threads:
        thread.start()
    roving.sleep(0.05)
    start = time.process_time()
    time.sleep(0.3)
    assert time.process_time() - start < 0.1
    for thread in threads:
        thread.join()
    for fiber in fibers:
        assert fiber.join(10) is False


def test_a_condition_over_a_lock_of_ones_own() -> None:
    """A cancelled waiter has the lock back, whatever its class."""

    class Own(roving.Lock):
        pass

    condition = roving.Condition(Own())

    def wait() -> None:
        with condition:
            condition.wait()

    fiber = roving.spawn(wait)
    testing.wait_all_parked(20)
    with condition:
        fiber.cancel()
        # It waits for the lock now.
        testing.wait_all_parked(20)
    assert fiber.wait(10)
    assert fiber.cancelled()
    assert not condition.locked()
