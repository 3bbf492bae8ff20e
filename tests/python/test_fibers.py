"""Spawning, joining and what a fiber's object tells."""

import contextlib
import gc
import threading
import time
import weakref

import pytest
import roving


def boom(message: str = "boom") -> None:
    """Raise."""
    raise ValueError(message)


def test_a_result_is_the_very_object() -> None:
    """Nothing is copied on its way."""
    thing = object()
    assert roving.spawn(lambda: thing).join() is thing


def test_arguments_arrive() -> None:
    """By position and by name."""

    def keep(*args: object, **kwargs: object) -> object:
        return args, kwargs

    assert roving.spawn(keep).join() == ((), {})
    assert roving.spawn(keep, 1, 2).join() == ((1, 2), {})
    assert roving.spawn(keep, 1, a=2, function=3).join() == ((1,), {"a": 2, "function": 3})


def test_what_a_fiber_raised_is_raised_by_join() -> None:
    """The same object each time, with the traceback to its origin."""
    fiber = roving.spawn(boom)
    with pytest.raises(ValueError, match="boom") as first:
        fiber.join()
    with pytest.raises(ValueError, match="boom") as second:
        fiber.result()
    assert first.value is second.value is fiber.exception()
    assert first.traceback[-1].name == "boom"


def test_an_exception_that_is_no_exception() -> None:
    """BaseExceptions are carried too."""
    with pytest.raises(SystemExit):
        roving.spawn(exit, 3).join()
    assert isinstance(roving.spawn(exit, 3).exception(), SystemExit)


def test_no_exception() -> None:
    """A fiber that returned has none."""
    assert roving.spawn(int).exception() is None


@pytest.mark.parametrize("thing", [None, 3, "print"])
def test_what_cannot_be_called(thing: object) -> None:
    """Is refused where it is spawned."""
    with pytest.raises(TypeError, match="not callable"):
        roving.spawn(thing)  # type: ignore[arg-type]


def test_arguments_that_do_not_fit() -> None:
    """Are the callee's to refuse."""
    with pytest.raises(TypeError, match="positional argument"):
        roving.spawn(boom, "1", 2).join()  # type: ignore[call-arg]


def test_timeouts() -> None:
    """From a plain thread and from a fiber."""
    gate = roving.spawn(roving.sleep, 60)

    def look() -> None:
        assert gate.wait(0) is False
        assert gate.wait(0.01) is False
        for method in (gate.join, gate.result, gate.exception):
            with pytest.raises(TimeoutError, match="has not ended"):
                method(timeout=0.01)

    look()
    roving.spawn(look).join()
    assert not gate.done()
    gate.cancel()
    assert gate.wait(10)


@pytest.mark.parametrize("timeout", [-1, -0.001, float("nan")])
def test_timeouts_that_make_no_sense(timeout: float) -> None:
    """Are refused, also by a fiber that has ended."""
    with pytest.raises(ValueError, match="timeout must"):
        roving.spawn(int).join(timeout)
    with pytest.raises(ValueError, match="seconds must"):
        roving.sleep(timeout)


def test_a_timeout_later_than_the_clock_can_say() -> None:
    """Is none."""
    assert roving.spawn(int).join(1e300) == 0
    assert roving.spawn(int).join(float("inf")) == 0


def test_a_fiber_cannot_join_itself() -> None:
    """It would wait for ever."""

    def join() -> None:
        me = roving.current()
        assert me is not None
        me.join()

    with pytest.raises(RuntimeError, match="cannot join itself"):
        roving.spawn(join).join()


def test_current() -> None:
    """The fiber, inside; nothing outside."""
    assert roving.current() is None
    fiber = roving.spawn(roving.current)
    assert fiber.join() is fiber


def test_what_it_tells_of_itself() -> None:
    """Number, state, text."""
    fiber = roving.spawn(roving.sleep, 60)
    other = roving.spawn(int)
    assert fiber.id != other.id
    assert fiber.name is None
    assert not fiber.done()
    assert repr(fiber) == f"<roving.Fiber fiber {fiber.id}, running>"
    other.join()
    assert other.done()
    assert not other.cancelled()
    assert repr(other) == f"<roving.Fiber fiber {other.id}, done>"
    assert fiber.cancel() is True
    assert fiber.wait(10)
    assert repr(fiber) == f"<roving.Fiber fiber {fiber.id}, cancelled>"
    assert fiber.cancel() is False


def test_cancelled_where_it_waits() -> None:
    """Once: what it then waits for in its clean-up it gets."""
    trace = []

    def work() -> None:
        trace.append("started")
        try:
            roving.sleep(60)
        except roving.Cancelled:
            trace.append("told")
            roving.sleep(0)
            roving.yield_now()
            trace.append("cleaned up")
            raise

    fiber = roving.spawn(work)
    while not trace:
        roving.yield_now()
    fiber.cancel()
    assert fiber.wait(10)
    assert trace == ["started", "told", "cleaned up"]
    assert fiber.cancelled()
    for method in (fiber.join, fiber.result, fiber.exception):
        with pytest.raises(roving.FiberCancelled):
            method()


def test_cancelled_while_it_yields() -> None:
    """A loop that only yields can be stopped."""

    def spin() -> None:
        while True:
            roving.yield_now()

    fiber = roving.spawn(spin)
    fiber.cancel()
    assert fiber.wait(10)
    assert fiber.cancelled()


def test_a_joiner_that_is_cancelled() -> None:
    """Hears of it, and what it joined goes on."""
    inner = roving.spawn(roving.sleep, 60)
    outer = roving.spawn(inner.join)
    outer.cancel()
    assert outer.wait(10)
    assert outer.cancelled()
    assert not inner.done()
    inner.cancel()
    inner.wait()


def test_fibers_join_fibers() -> None:
    """Deeply."""

    def tree(depth: int) -> int:
        if depth == 0:
            return 1
        return sum(fiber.join() for fiber in [roving.spawn(tree, depth - 1) for _ in range(3)])

    assert roving.spawn(tree, 6).join() == 3**6


def test_many_join_one() -> None:
    """Fibers and threads, and all get the same."""
    thing = object()

    def late() -> object:
        roving.sleep(0.02)
        return thing

    fiber = roving.spawn(late)
    results: list[object] = []
    threads = [threading.Thread(target=lambda: results.append(fiber.join())) for _ in range(4)]
    for thread in threads:
        thread.start()
    assert all(other.join() is thing for other in [roving.spawn(fiber.join) for _ in range(20)])
    for thread in threads:
        thread.join()
    assert len(results) == 4
    assert all(result is thing for result in results)


def test_sleep() -> None:
    """Sleepers do not wait for one another."""
    start = time.monotonic()
    for fiber in [roving.spawn(roving.sleep, 0.05) for _ in range(100)]:
        fiber.join()
    assert 0.05 <= time.monotonic() - start < 2
    start = time.monotonic()
    roving.sleep(0.01)
    assert time.monotonic() - start >= 0.01


def test_yield_in_a_thread() -> None:
    """Is allowed, and does nothing of note."""
    roving.yield_now()


def test_references_end() -> None:
    """An ended fiber keeps its result, and nothing of its call; a dropped one nothing."""

    class Thing:
        pass

    argument, result = Thing(), Thing()
    gone = weakref.ref(argument), weakref.ref(result)

    def swap(_: Thing, result: Thing) -> Thing:
        return result

    fiber = roving.spawn(swap, argument, result)
    fiber.wait()
    del argument, result
    gc.collect()
    assert gone[0]() is None
    assert fiber.join() is gone[1]()
    del fiber
    gc.collect()
    assert gone[1]() is None


def test_a_cycle_through_a_result_is_collected() -> None:
    """The collector looks into ended fibers."""

    class Thing:
        fiber: object = None

    def make() -> weakref.ref[Thing]:
        thing = Thing()
        thing.fiber = roving.spawn(lambda: thing)
        thing.fiber.wait()
        return weakref.ref(thing)

    gone = make()
    gc.collect()
    assert gone() is None


def test_a_failure_nobody_took_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    """Once its object goes."""
    told: list[roving.UnjoinedFailure] = []
    monkeypatch.setattr(roving, "excepthook", told.append)
    fiber = roving.spawn(boom, "lost")
    number = fiber.id
    assert fiber.wait()
    assert not told
    del fiber
    gc.collect()
    assert [(failure.id, failure.name, str(failure.exception)) for failure in told] == [
        (number, None, "lost")
    ]
    assert "lost" in repr(told[0])


@pytest.mark.parametrize("method", ["join", "result", "exception"])
def test_a_failure_somebody_took_is_not_told(method: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Joined or asked for, it is known."""
    told: list[roving.UnjoinedFailure] = []
    monkeypatch.setattr(roving, "excepthook", told.append)
    fiber = roving.spawn(boom)
    with contextlib.suppress(ValueError):
        getattr(fiber, method)()
    del fiber
    gc.collect()
    assert not told


def test_the_default_hook_prints(capsys: pytest.CaptureFixture[str]) -> None:
    """The traceback, to stderr."""
    fiber = roving.spawn(boom, "printed")
    fiber.wait()
    number = fiber.id
    del fiber
    gc.collect()
    printed = capsys.readouterr().err
    assert f"Exception in fiber {number}, which nobody joined:" in printed
    assert "ValueError: printed" in printed
    assert "in boom" in printed


def test_stats() -> None:
    """Counts what happened."""
    before = roving.stats()
    for fiber in [roving.spawn(int) for _ in range(10)]:
        fiber.join()
    after = roving.stats()
    assert after["started"] >= before.get("started", 0) + 10
    assert after["workers"] == len(after["live"])


def test_classes_are_frozen() -> None:
    """Nobody makes a fiber by hand, nor sticks things on one."""
    with pytest.raises(TypeError):
        roving.Fiber()
    with pytest.raises(AttributeError):
        roving.spawn(int).thing = 1  # type: ignore[attr-defined]
