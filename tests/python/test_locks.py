"""Locks of `_thread`, `get_ident` and the import lock in fibers."""

import gc
import importlib
import queue
import signal
import time
from collections.abc import Callable
from typing import Any

import child
import pytest
import roving
from roving import testing

# Typeshed does not know what is private.
threading: Any = importlib.import_module("threading")

LOCKS: list[Callable[[], Any]] = [threading.Lock, threading.RLock]


def until(condition: Callable[[], bool]) -> None:
    """Wait in a plain thread, for at most some seconds."""
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "it never came about"
        time.sleep(0.0005)


@pytest.mark.parametrize("make", LOCKS)
def test_a_fiber_waits_for_a_thread(make: Callable[[], Any]) -> None:
    """And the thread's release wakes it."""
    lock = make()
    lock.acquire()
    entered: list[None] = []
    go = threading.Event()

    def take() -> None:
        with lock:
            entered.append(None)
            go.wait()

    fibers = [roving.spawn(take) for _ in range(2)]
    assert not fibers[0].wait(0.01)
    assert not entered
    lock.release()
    until(lambda: bool(entered))
    testing.wait_all_parked(20)
    assert len(entered) == 1
    go.set()
    for fiber in fibers:
        fiber.join()


@pytest.mark.parametrize("make", LOCKS)
def test_a_thread_waits_for_a_fiber(make: Callable[[], Any]) -> None:
    """And the fiber's release wakes it, natively as ever."""
    lock = make()
    held, go = threading.Event(), threading.Event()

    def hold() -> None:
        with lock:
            held.set()
            go.wait()

    fiber = roving.spawn(hold)
    held.wait()
    got: list[bool] = []

    def take() -> None:
        got.append(lock.acquire())
        lock.release()

    thread = threading.Thread(target=take)
    thread.start()
    thread.join(0.02)
    assert not got
    go.set()
    thread.join(10)
    assert got == [True]
    fiber.join()


def test_waiting_takes_no_time_of_the_processor() -> None:
    """With fibers in all sorts of waits, with and without timeouts."""
    lock, rlock, event, condition = (
        threading.Lock(),
        threading.RLock(),
        threading.Event(),
        threading.Condition(),
    )
    lock.acquire()
    rlock.acquire()
    waiting: queue.Queue[None] = queue.Queue()

    def on_condition() -> None:
        with condition:
            condition.wait()

    def with_timeout() -> None:
        lock.acquire(timeout=1000)
        lock.release()

    def on_rlock() -> None:
        with rlock:
            pass

    waits = [with_timeout, on_rlock, event.wait, on_condition, waiting.get]
    fibers = [roving.spawn(wait) for wait in waits * 40]
    testing.wait_all_parked(20)
    time.sleep(0.02)
    cpu, wall = time.process_time(), time.monotonic()
    time.sleep(0.2)
    assert time.process_time() - cpu < 0.1 * (time.monotonic() - wall)
    lock.release()
    rlock.release()
    event.set()
    until(lambda: len(condition._waiters) == 40)
    with condition:
        condition.notify_all()
    for _ in range(40):
        waiting.put(None)
    for fiber in fibers:
        fiber.join(20)


@pytest.mark.parametrize("make", LOCKS)
def test_timeouts(make: Callable[[], Any]) -> None:
    """Are kept, and leave nothing behind."""
    lock = make()
    lock.acquire()

    def wait() -> tuple[bool, float]:
        start = time.monotonic()
        return lock.acquire(timeout=0.02), time.monotonic() - start

    for fiber in [roving.spawn(wait) for _ in range(50)]:
        got, seconds = fiber.join()
        assert not got
        assert 0.02 <= seconds < 5
    assert not roving.spawn(lock.acquire, False).join()
    assert not roving.spawn(lock.acquire, timeout=0).join()
    lock.release()
    assert roving.spawn(lock.acquire, timeout=1).join()


@pytest.mark.parametrize("make", LOCKS)
def test_arguments(make: Callable[[], Any]) -> None:
    """Are refused as CPython refuses them."""
    lock = make()
    calls: list[tuple[tuple[Any, ...], dict[str, Any]]] = [
        ((False, 1), {}),
        ((), {"timeout": -2}),
        ((), {"timeout": 1e100}),
        ((), {"timeout": float("nan")}),
        ((), {"timeout": "1"}),
        ((1, 2, 3), {}),
        ((), {"sooner": True}),
    ]
    for args, kwargs in calls:
        with pytest.raises(Exception) as expected:  # noqa: PT011
            lock.acquire(*args, **kwargs)
        got = roving.spawn(lock.acquire, *args, **kwargs).exception()
        assert (type(got), str(got)) == (type(expected.value), str(expected.value))
    got = roving.spawn(lock.release).exception()
    with pytest.raises(RuntimeError) as expected:
        lock.release()
    assert str(got) == str(expected.value)


@pytest.mark.parametrize("make", LOCKS)
def test_a_cancelled_fiber_stops_waiting(make: Callable[[], Any]) -> None:
    """And the lock goes to the next."""
    lock = make()
    lock.acquire()
    fibers = [roving.spawn(lock.acquire) for _ in range(10)]
    testing.wait_all_parked(20)
    for fiber in fibers[:-1]:
        fiber.cancel()
    for fiber in fibers[:-1]:
        fiber.wait(10)
    assert [fiber.cancelled() for fiber in fibers] == [True] * 9 + [False]
    lock.release()
    assert fibers[-1].join(10)


def test_books_are_kept_when_cancelled() -> None:
    """Cancelled where Condition.wait takes its lock again, it has it at the end. Semaphore.release too."""
    condition = threading.Condition(threading.Lock())
    inside = []

    def wait() -> None:
        with condition:
            inside.append(1)
            try:
                condition.wait()
            finally:
                assert condition._lock.locked()

    fiber = roving.spawn(wait)
    until(lambda: bool(inside) and len(condition._waiters) == 1)
    condition.acquire()
    condition.notify()
    testing.wait_all_parked(20)
    fiber.cancel()
    assert not fiber.wait(0.01)
    condition.release()
    assert fiber.wait(10)
    assert fiber.done()
    assert condition.acquire(timeout=1)
    condition.release()

    semaphore = threading.Semaphore(0)
    semaphore._cond.acquire()
    fiber = roving.spawn(semaphore.release)
    testing.wait_all_parked(20)
    fiber.cancel()
    assert not fiber.wait(0.01)
    semaphore._cond.release()
    assert fiber.wait(10)
    assert semaphore._value == 1


def test_an_rlock_is_the_fibers() -> None:
    """Fibers of one worker exclude each other, and tell whose it is."""
    child.check(
        """
        lock, inside, turns = threading.RLock(), [], 0
        def work():
            global turns
            for _ in range(20):
                with lock:
                    with lock:
                        assert lock._is_owned() and lock._recursion_count() == 2
                        assert not inside, "two in one RLock"
                        inside.append(1)
                        roving.yield_now()
                        inside.pop()
                        turns += 1
                assert not lock._is_owned() and lock._recursion_count() == 0
        for fiber in [roving.spawn(work) for _ in range(50)]:
            fiber.join()
        assert turns == 1000
        lock.acquire()
        error = roving.spawn(lock.release).exception()
        assert "cannot release un-acquired lock" in str(error), error
        lock.release()
        held = roving.spawn(lock.acquire)
        held.join()
        assert not lock.acquire(timeout=0.01) and not lock._is_owned()
        assert roving.spawn(lock.acquire, False).join() is False
        print("ok")
        """,
        workers=1,
    )


def test_whatever_existed_before() -> None:
    """Objects, bound methods, names, threads that wait already: all are covered."""
    child.check("""
        from _thread import get_ident
        lock, rlock = threading.Lock(), threading.RLock()
        acquire, release, enter = lock.acquire, lock.release, rlock.__enter__
        lock.acquire()
        def wait():
            with lock:
                time.sleep(0.01)
        threads = [threading.Thread(target=wait) for _ in range(3)]
        for thread in threads:
            thread.start()
        time.sleep(0.05)
        fibers = [roving.spawn(acquire) for _ in range(2)]
        assert not fibers[0].wait(0.02)
        release()
        for _ in range(2):
            while not any(fiber.done() for fiber in fibers):
                time.sleep(0.001)
            fibers = [fiber for fiber in fibers if not fiber.done()]
            roving.spawn(release).join()
        for thread in threads:
            thread.join()
        assert not lock.locked()
        holder = roving.spawn(lambda: (enter(), get_ident()))
        owner = holder.join()[1]
        assert owner != get_ident() and str(owner) in repr(rlock), (owner, rlock)
        print("ok")
    """)


def test_get_ident() -> None:
    """One per fiber, for its whole life, and no thread's."""

    def ident() -> tuple[int, int, int, int]:
        first = threading.get_ident()
        roving.yield_now()
        return first, threading.get_ident(), threading.get_native_id(), hash(first)

    results = [fiber.join() for fiber in [roving.spawn(ident) for _ in range(200)]]
    assert all(first == second for first, second, _, _ in results)
    idents = {first for first, _, _, _ in results}
    assert len(idents) == 200
    assert threading.get_ident() not in idents
    assert all(0 < ident < 2**63 for ident in idents)


def test_current_thread() -> None:
    """Each fiber has a stand-in, which goes with it."""
    gc.collect()
    before = len(threading._active)

    def name() -> str:
        assert threading.current_thread() is threading.current_thread()
        assert threading.current_thread().ident == threading.get_ident()
        assert threading.current_thread().is_alive()
        roving.yield_now()
        return str(threading.current_thread().name)

    names = {fiber.join() for fiber in [roving.spawn(name) for _ in range(100)]}
    assert len(names) == 100
    until(lambda: len(threading._active) == before)


def test_signals_for_fibers() -> None:
    """A fiber's ident is no pthread_t: what would crash is refused, or goes to the fiber's thread."""
    ident = roving.spawn(threading.get_ident).join()
    with pytest.raises(ProcessLookupError, match="fiber"):
        signal.pthread_kill(ident, 0)
    roving.spawn(lambda: signal.pthread_kill(threading.get_ident(), 0)).join()
    signal.pthread_kill(threading.get_ident(), 0)


def test_clocks_of_fibers() -> None:
    """The same: a fiber's clock is that of its worker."""
    child.check(
        """
        ident = roving.spawn(threading.get_ident).join()
        try:
            time.pthread_getcpuclockid(ident)
        except ProcessLookupError as error:
            assert "fiber" in str(error)
        else:
            raise AssertionError
        clock = roving.spawn(lambda: time.pthread_getcpuclockid(threading.get_ident())).join()
        assert time.clock_gettime(clock) > 0
        assert time.clock_gettime(time.pthread_getcpuclockid(threading.get_ident())) > 0
        print("ok")
        """
    )


def test_reinit_wakes() -> None:
    """`_at_fork_reinit` unlocks: who waits must hear of it."""
    for lock in (threading.Lock(), threading.RLock()):
        lock.acquire()
        fiber = roving.spawn(lock.acquire)
        testing.wait_all_parked(20)
        lock._at_fork_reinit()
        assert fiber.join(10)


@pytest.mark.parametrize(("fibers", "threads"), [(4, 2), (40, 2), (2, 20)])
def test_nobody_starves(fibers: int, threads: int) -> None:
    """Fibers that take a lock all the time leave room for threads, and the reverse.

    With many of a kind some of them wait whenever the lock is let go of: then only turns help the others.
    """
    child.check(f"""
        lock, stop = threading.Lock(), False
        counts = [0] * {fibers + threads}
        def work(n):
            while not stop:
                with lock:
                    counts[n] += 1
                    # The others queue up meanwhile.
                    if n < {fibers}:
                        roving.yield_now()
                    else:
                        time.sleep(0)
        fibers = [roving.spawn(work, n) for n in range({fibers})]
        threads = [threading.Thread(target=work, args=({fibers} + n,)) for n in range({threads})]
        for thread in threads:
            thread.start()
        end = time.monotonic() + 10
        while min(counts) < 20 and time.monotonic() < end:
            time.sleep(0.01)
        stop = True
        for thing in fibers + threads:
            thing.join()
        assert min(counts) >= 20, counts
        print("ok")
    """)
