"""map, blocking, descriptors, the executor, options, configure, dump and stats."""

import asyncio
import concurrent.futures
import contextvars
import os
import textwrap
import threading
import time
from collections.abc import Iterator

import child
import pytest
import roving
from roving.futures import FiberExecutor
from test_scope import Place, places


@places
def test_map(place: Place) -> None:
    """Is ordered, bounded and lazy."""

    def body() -> None:
        running = most = taken = 0

        def numbers() -> Iterator[int]:
            nonlocal taken
            for number in range(50):
                taken += 1
                yield number

        def square(number: int) -> int:
            nonlocal running, most
            running += 1
            most = max(most, running)
            roving.sleep(0.001 if number % 2 else 0)
            running -= 1
            return number * number

        results = roving.map(square, numbers(), limit=4)
        assert taken == 0
        assert next(results) == 0
        assert taken == 4
        assert list(results) == [number * number for number in range(1, 50)]
        assert most <= 4

    # One worker's counters: they are not locked.
    place(body)


def test_map_raises_in_place() -> None:
    """What a call raises, or an iterable; the rest can still be had."""

    def f(number: int) -> int:
        if number == 2:
            raise KeyError(number)
        return number

    def numbers() -> Iterator[int]:
        yield from range(4)
        raise OSError("no more")

    results = roving.map(f, numbers())
    assert [next(results), next(results)] == [0, 1]
    with pytest.raises(KeyError):
        next(results)
    assert next(results) == 3
    with pytest.raises(OSError, match="no more"):
        next(results)
    with pytest.raises(StopIteration):
        next(results)


def test_map_that_is_abandoned() -> None:
    """Cancels the rest."""
    waiting, cancelled = [], []

    def wait(number: int) -> int:
        if number == 0:
            return 0
        try:
            waiting.append(number)
            roving.sleep(60)
        except roving.Cancelled:
            cancelled.append(number)
            raise
        return number

    results = roving.map(wait, range(4))
    assert next(results) == 0
    end = time.monotonic() + 20
    while len(waiting) < 3:
        assert time.monotonic() < end
        roving.sleep(0.001)
    del results
    with roving.timeout(10):
        while len(cancelled) < 3:
            roving.sleep(0.001)


def test_map_that_makes_no_sense() -> None:
    """Is refused."""
    with pytest.raises(TypeError, match="callable"):
        roving.map(3, [])  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="iterable"):
        roving.map(int)
    with pytest.raises(ValueError, match="limit"):
        roving.map(int, [], limit=0)
    with pytest.raises(ValueError, match="longer"):
        list(roving.map(pow, [1], [1, 2], strict=True))


@places
def test_blocking(place: Place) -> None:
    """Results, errors and context come through; calls run side by side."""
    variable = contextvars.ContextVar("variable", default=0)

    def body() -> None:
        variable.set(7)
        assert roving.blocking(variable.get) == 7
        assert roving.blocking(int, "11", base=2) == 3
        with pytest.raises(ZeroDivisionError):
            roving.blocking(divmod, 1, 0)
        with pytest.raises(TypeError, match="not callable"):
            roving.blocking(3)  # type: ignore[arg-type]

    place(body)


def test_blocking_calls_do_not_hold_up_their_worker() -> None:
    """Twenty of them run at the same time, and a cancelled fiber does not wait for its own."""
    together = threading.Barrier(20)
    fibers = [roving.spawn(roving.blocking, together.wait, 20) for _ in range(20)]
    assert sorted(fiber.join() for fiber in fibers) == list(range(20))
    begun, over = threading.Event(), threading.Event()

    def call() -> None:
        begun.set()
        over.wait()

    fiber = roving.spawn(roving.blocking, call)
    try:
        assert begun.wait(20)
        fiber.cancel()
        assert fiber.wait(20)
        assert fiber.cancelled()
    finally:
        over.set()


@places
def test_descriptors(place: Place) -> None:
    """Ready, not ready in time, not open."""

    def body() -> None:
        reader, writer = os.pipe()
        with pytest.raises(TimeoutError):
            roving.wait_readable(reader, timeout=0.002)
        roving.wait_writable(writer)
        fiber = roving.spawn(os.write, writer, b"x")
        roving.wait_readable(reader, timeout=10)
        fiber.join()
        with open(reader, "rb") as file:
            roving.wait_readable(file)
        os.close(writer)
        with pytest.raises(OSError, match="9"):
            roving.wait_readable(reader)
        with pytest.raises(TypeError, match="fileno"):
            roving.wait_readable("x")  # type: ignore[arg-type]
        with pytest.raises(ValueError, match="negative"):
            roving.wait_readable(-1)

    place(body)


@places
def test_executor(place: Place) -> None:
    """As concurrent.futures has it."""

    def body() -> None:
        with FiberExecutor() as executor:
            assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
            futures = [executor.submit(pow, number, 2) for number in range(20)]
            assert [future.result(10) for future in futures] == [number**2 for number in range(20)]
            assert list(executor.map(pow, [2, 3], [3, 2])) == [8, 9]
            with pytest.raises(ZeroDivisionError):
                executor.submit(divmod, 1, 0).result(10)
        with pytest.raises(RuntimeError, match="after shutdown"):
            executor.submit(int)

    place(body)


def test_an_executor_with_a_limit() -> None:
    """No more at once, none left behind."""
    running, most, lock = 0, 0, roving.Lock()

    def call() -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        roving.sleep(0.001)
        with lock:
            running -= 1

    with FiberExecutor(3) as executor:
        for _ in range(100):
            executor.submit(call)
    assert (most, running) == (3, 0)
    executor = FiberExecutor(1)
    first = executor.submit(roving.sleep, 0.02)
    second = executor.submit(int)
    executor.shutdown(cancel_futures=True)
    assert first.result() is None
    assert second.cancelled()


def test_an_executor_with_an_initializer() -> None:
    """It runs before the calls; if it fails, all of them fail."""
    local = threading.local()

    def start(value: int) -> None:
        local.value = value

    with FiberExecutor(2, initializer=start, initargs=(3,)) as executor:
        assert [f.result() for f in [executor.submit(lambda: local.value) for _ in range(9)]] == [3] * 9
    with FiberExecutor(1, initializer=boom) as executor:
        future = executor.submit(int)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            future.result(10)
        with pytest.raises(concurrent.futures.BrokenExecutor):
            executor.submit(int)
    with pytest.raises(ValueError, match="max_workers"):
        FiberExecutor(0)
    with pytest.raises(TypeError, match="initializer"):
        FiberExecutor(initializer=3)  # type: ignore[arg-type]


def boom() -> None:
    """Raise."""
    raise ValueError("boom")


def test_an_executor_with_the_tools_of_others() -> None:
    """wait, as_completed, asyncio."""
    with FiberExecutor() as executor:
        futures = [executor.submit(roving.sleep, number / 1000) for number in range(5)]
        done, pending = concurrent.futures.wait(futures, 10)
        assert len(done) == 5
        assert not pending
        assert len(list(concurrent.futures.as_completed(futures, 10))) == 5

        async def main() -> list[int]:
            loop = asyncio.get_running_loop()
            return await asyncio.gather(*(loop.run_in_executor(executor, pow, n, 2) for n in range(5)))

        assert asyncio.run(main()) == [0, 1, 4, 9, 16]


def test_options() -> None:
    """A name, a size, a class; and what is refused."""
    fiber = roving.options(name="one", stack_size=1 << 20, spread=True, background=True).spawn(pow, 2, exp=3)
    assert fiber.name == "one"
    assert fiber.join() == 8
    for size in (0, -1, 1 << 30):
        with pytest.raises(ValueError, match="stack_size"):
            roving.options(stack_size=size)
    with pytest.raises(TypeError):
        roving.options(colour="red")  # type: ignore[call-arg]


def test_run_does_not_wait_for_daemons() -> None:
    """It does for others."""
    child.check(
        """
        done = []
        def other(): roving.sleep(0.05); done.append(1)
        def main():
            roving.options(daemon=True).spawn(roving.sleep, 60)
            roving.spawn(other)
            return 3
        start = time.monotonic()
        assert roving.run(main) == 3
        assert done == [1]
        assert time.monotonic() - start < 10
        print("ok")
        """
    )


def test_configure() -> None:
    """Before the first spawn, within bounds."""
    for setting in (
        {"workers": 0},
        {"workers": 100000},
        {"stack_size": 0},
        {"max_spares": -1},
        {"blocking_threads": 0},
        {"cancel_grace": -1},
    ):
        with pytest.raises(ValueError, match=next(iter(setting))):
            roving.configure(**setting)  # type: ignore[arg-type]
    roving.spawn(int).join()
    with pytest.raises(RuntimeError, match="before the first spawn"):
        roving.configure(workers=3)
    child.check(
        """
        roving.configure(workers=3, stack_size=1 << 20)
        roving.spawn(int).join()
        assert roving.stats()["workers"] == 3 or not hasattr(sys, "_is_gil_enabled") or sys._is_gil_enabled()
        print("ok")
        """
    )


def test_dump_and_fibers() -> None:
    """Every fiber with what it waits for, and its stack."""
    event = roving.Event()

    def deep(calls: int) -> None:
        if calls:
            deep(calls - 1)
        else:
            event.wait()

    fibers = [roving.options(name=f"deep-{n}").spawn(deep, 5) for n in range(3)]
    roving.sleep(0.02)
    try:
        text = roving.dump()
        for fiber in fibers:
            head = f"fiber {fiber.id} '{fiber.name}', parked in event:"
            assert head in text
            part = text.split(head)[1].split("\n\n")[0]
            assert part.count("deep\n") == 6
            assert part.rstrip().endswith("event.wait()")
        assert set(fibers) <= set(roving.fibers())
    finally:
        event.set()
    for fiber in fibers:
        fiber.join()
    assert not set(fibers) & set(roving.fibers())
    me = roving.spawn(lambda: roving.current() in roving.fibers() and "running" in roving.dump())
    assert me.join()


def test_dump_beside_switches() -> None:
    """While fibers come, go and switch as fast as they can."""
    child.check(
        """
        def work():
            for _ in range(100):
                roving.yield_now()
        end = time.monotonic() + 2
        count = 0
        def spawn():
            while time.monotonic() < end:
                for fiber in [roving.spawn(work) for _ in range(20)]:
                    fiber.join()
        spawners = [roving.spawn(spawn) for _ in range(2)]
        while time.monotonic() < end:
            assert isinstance(roving.dump(), str)
            gc.collect()
        for fiber in spawners:
            fiber.join()
        print("ok")
        """,
        workers=2,
    )


def test_stats() -> None:
    """Numbers of all kinds."""
    roving.spawn(int).join()
    stats = roving.stats()
    assert stats["workers"] >= 1
    assert isinstance(stats["gil"], bool)


def test_ctrl_c_in_a_wait() -> None:
    """Of the main thread, whatever it waits for."""
    child.check(
        child.INTERRUPT
        + textwrap.dedent("""
        lock = roving.Lock(); lock.acquire()
        channel = roving.Channel()
        for wait in (lock.acquire, channel.recv, roving.Event().wait, roving.Queue().get,
                     lambda: roving.sleep(60), lambda: roving.spawn(roving.sleep, 60).join()):
            interrupt_in(sys._getframe().f_lineno + 2)
            try:
                wait()
            except KeyboardInterrupt:
                pass
            else:
                raise AssertionError
        def scope():
            with roving.scope() as scope:
                scope.spawn(roving.sleep, 60)
        interrupt_in(sys._getframe().f_lineno + 2)
        try:
            scope()
        except BaseExceptionGroup as error:
            assert isinstance(error.exceptions[0], KeyboardInterrupt)
        print("ok")
        """),
        timeout=30,
    )


def test_a_pool_thread_keeps_its_state() -> None:
    """From call to call; it goes with the thread, at exit, and the child of a fork has threads of its own."""
    child.check(
        """
        import os
        class Last:
            def __del__(self):
                gone.append(1)
        gone, threads = [], set()
        local = threading.local()
        def count():
            threads.add(threading.get_ident())
            local.calls = getattr(local, "calls", 0) + 1
            local.last = getattr(local, "last", None) or Last()
            return local.calls
        def calls():
            return max(roving.blocking(count) for _ in range(50))
        # By two threads perhaps: one may not be back yet when its call has been told of.
        roving.configure(blocking_threads=2)
        assert roving.spawn(calls).join() >= 25
        assert not gone
        with roving.scope() as scope:
            for _ in range(16):
                scope.spawn(calls)
        # Nobody is taken for a thread that runs Python code, between calls.
        assert len(sys._current_frames()) <= 1 + roving.stats()["workers"] * 2
        child = os.fork()
        if child == 0:
            os._exit(0 if roving.spawn(calls).join() >= 25 else 1)
        assert os.waitpid(child, 0)[1] == 0
        roving._roving._stop()
        assert len(gone) == len(threads), (len(gone), threads)
        print("ok")
        """
    )
