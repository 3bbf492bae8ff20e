"""Scopes, timeouts, shields: who is cancelled, when, and what comes of it."""

import contextlib
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import roving
from parked import until_parked
from roving import testing


def in_fiber(function: Callable[[], Any]) -> Any:
    """Run in a fiber."""
    return roving.spawn(function).join(20)


def in_thread(function: Callable[[], Any]) -> Any:
    """Run here, in a plain thread."""
    return function()


def in_timed_fiber(function: Callable[[], Any]) -> Any:
    """Run in a fiber, by a clock that moves when nothing else does: what never comes is late at once."""
    with testing.clock():
        return roving.spawn(function).join(1000)


def in_timed_thread(function: Callable[[], Any]) -> Any:
    """Run here, in a plain thread, by such a clock."""
    with testing.clock():
        return function()


@pytest.fixture
def clock() -> Iterator[testing.clock]:
    """Give the test such a clock."""
    with testing.clock() as clock:
        yield clock


places = pytest.mark.parametrize("place", [in_fiber, in_thread])
timed_places = pytest.mark.parametrize("place", [in_timed_fiber, in_timed_thread])
type Place = Callable[[Callable[[], Any]], Any]


def boom() -> None:
    """Wait a little, and raise."""
    roving.sleep(5)
    raise ValueError("boom")


@timed_places
def test_a_scope_waits_for_its_fibers(place: Place) -> None:
    """All have ended when it has, also those that they spawned."""

    def body() -> None:
        ended = []

        def child(scope: roving.Scope, depth: int) -> None:
            if depth:
                scope.spawn(child, scope, depth - 1)
            roving.sleep(1)
            ended.append(depth)

        with roving.scope() as scope:
            scope.spawn(child, scope, 9)
        assert sorted(ended) == list(range(10))
        assert not scope.cancelled

    place(body)


@timed_places
def test_the_first_error_cancels_the_rest_and_the_block(place: Place) -> None:
    """And is raised in a group."""

    def body() -> None:
        with pytest.raises(ExceptionGroup) as raised, roving.scope() as scope:
            other = scope.spawn(roving.sleep, 60)
            scope.spawn(boom)
            roving.sleep(60)
        assert [type(error) for error in raised.value.exceptions] == [ValueError]
        assert other.cancelled()
        assert scope.cancelled

    place(body)


@timed_places
def test_a_block_that_fails_cancels_its_fibers(place: Place) -> None:
    """What it raised is in the group."""

    def body() -> None:
        with pytest.raises(ExceptionGroup) as raised, roving.scope() as scope:
            other = scope.spawn(roving.sleep, 60)
            raise KeyError(1)
        assert [type(error) for error in raised.value.exceptions] == [KeyError]
        assert other.cancelled()

    place(body)


@timed_places
def test_base_exceptions_make_a_base_exception_group(place: Place) -> None:
    """As the standard library's groups want it."""

    def body() -> None:
        with pytest.raises(BaseExceptionGroup) as raised, roving.scope() as scope:
            scope.spawn(exit, 3)
        assert not isinstance(raised.value, ExceptionGroup)

    place(body)


@timed_places
def test_an_error_joined_in_the_block_is_there_once(place: Place) -> None:
    """Though it came by two ways."""

    def body() -> None:
        with pytest.raises(ExceptionGroup) as raised, roving.scope() as scope:
            scope.spawn(boom).join()
        assert len(raised.value.exceptions) == 1

    place(body)


@timed_places
def test_cancelling_a_scope_is_no_error(place: Place) -> None:
    """Its fibers and its block just end."""

    def body() -> None:
        with roving.scope() as scope:
            child = scope.spawn(roving.sleep, 60)
            scope.cancel()
            late = scope.spawn(roving.sleep, 60)
            roving.sleep(60)
        assert child.cancelled()
        assert late.cancelled()

    place(body)


def test_a_child_that_is_cancelled_alone() -> None:
    """Is no failure of the scope."""
    with roving.scope() as scope:
        scope.spawn(roving.sleep, 60).cancel()


@pytest.mark.usefixtures("clock")
def test_a_scope_in_a_scope() -> None:
    """An error inside goes out through both, a group in a group; cancelling outside reaches inside."""
    with pytest.raises(ExceptionGroup) as raised, roving.scope() as outer:

        def inner() -> None:
            with roving.scope() as scope:
                scope.spawn(boom)

        outer.spawn(inner)
    assert raised.group_contains(ValueError, depth=2)

    ended = []

    def sleeper() -> None:
        try:
            roving.sleep(60)
        finally:
            ended.append(1)

    def nest(depth: int) -> None:
        with roving.scope() as scope:
            scope.spawn(sleeper)
            if depth:
                scope.spawn(nest, depth - 1)
            roving.sleep(60)

    fiber = roving.spawn(nest, 5)
    testing.wait_all_parked(20)
    fiber.cancel()
    with pytest.raises(roving.FiberCancelled):
        fiber.join(10)
    assert len(ended) == 6


def test_spawning_where_no_scope_is_open() -> None:
    """Is an error, before and after."""
    scope = roving.scope()
    with pytest.raises(RuntimeError, match="not open"):
        scope.spawn(int)
    with scope:
        pass
    with pytest.raises(RuntimeError, match="not open"):
        scope.spawn(int)
    with pytest.raises(RuntimeError, match="entered before"), scope:
        pass
    with roving.scope() as scope, pytest.raises(TypeError, match="not callable"):
        scope.spawn(3)  # type: ignore[arg-type]


def test_leaving_in_another_fiber() -> None:
    """Is an error, and the scope can still be left where it was entered."""
    scope = roving.scope()
    scope.__enter__()
    fiber = roving.spawn(scope.__exit__, None, None, None)
    with pytest.raises(RuntimeError, match="another fiber"):
        fiber.join()
    scope.__exit__(None, None, None)


def test_a_generator_that_is_closed_in_a_scope() -> None:
    """Is closed, and nothing else."""

    def generator() -> Any:
        with roving.scope():
            yield 1

    it = generator()
    next(it)
    it.close()


def test_many_children_of_a_long_scope_are_let_go() -> None:
    """Those that have ended are not kept."""
    with roving.scope() as scope:
        for _ in range(1000):
            scope.spawn(int).wait()
        kept = int(repr(scope).split(", ")[2].split()[0])
        assert kept < 100


@timed_places
def test_a_timeout(place: Place) -> None:
    """Ends what the block waits for."""

    def body() -> None:
        with (
            testing.clock() as clock,
            pytest.raises(TimeoutError, match=r"0\.01") as raised,
            roving.timeout(0.01) as limit,
        ):
            roving.sleep(60)
        assert limit.expired
        assert clock.time() == 0.01
        assert isinstance(raised.value.__cause__, roving.Cancelled)
        with roving.timeout(60) as limit:
            roving.sleep(0)
        assert not limit.expired
        with roving.timeout(None):
            roving.sleep(0)

    place(body)


@timed_places
def test_each_wait_ends_in_time(place: Place) -> None:
    """Whatever is waited for."""

    def body() -> None:
        lock = roving.Lock()
        lock.acquire()
        fiber = roving.spawn(roving.sleep, 60)
        condition = roving.Condition()

        def wait_condition() -> None:
            with condition:
                condition.wait()

        channel: roving.Channel[int] = roving.Channel()
        waits: list[Callable[[], Any]] = [
            lock.acquire,
            fiber.join,
            roving.Event().wait,
            roving.Semaphore(0).acquire,
            wait_condition,
            channel.recv,
            lambda: channel.send(1),
            lambda: roving.select(channel.recv_op()),
            roving.Queue().get,
        ]
        for wait in waits:
            with testing.clock() as clock, roving.move_on_after(5) as limit:
                wait()
            assert limit.expired
            assert clock.time() == 5
        fiber.cancel()
        fiber.wait()

    place(body)


@timed_places
def test_the_outer_timeout_is_first(place: Place) -> None:
    """Each raises its own."""

    def body() -> None:
        with pytest.raises(TimeoutError), roving.timeout(0.01) as outer, roving.timeout(60) as inner:
            roving.sleep(60)
        assert outer.expired
        assert not inner.expired
        with roving.timeout(60) as outer:
            with pytest.raises(TimeoutError), roving.timeout(0.01):
                roving.sleep(60)
            roving.sleep(0)
        assert not outer.expired

    place(body)


@timed_places
def test_no_time_at_all(place: Place) -> None:
    """The first wait ends the block; what waits for nothing is done."""

    def body() -> None:
        done = []
        with roving.move_on_after(0) as limit:
            done.append(1)
            roving.checkpoint()
            done.append(2)
        assert done == [1]
        assert limit.expired

    place(body)


def test_a_timeout_error_of_the_block_is_its_own() -> None:
    """It is not taken for the timeout's."""
    with pytest.raises(TimeoutError, match="mine"), roving.move_on_after(60):
        raise TimeoutError("mine")


@pytest.mark.parametrize("seconds", [-1, float("nan")])
def test_limits_that_are_none(seconds: float) -> None:
    """Are refused."""
    with pytest.raises(ValueError, match="seconds"):
        roving.timeout(seconds)
    with pytest.raises(ValueError, match="seconds"):
        roving.move_on_after(seconds)


@timed_places
def test_swallowed_it_comes_back(place: Place) -> None:
    """At each wait, until the block is left."""

    def body() -> None:
        times = 0
        with testing.clock() as clock, roving.move_on_after(5):
            while times < 10:
                try:
                    roving.sleep(60)
                except roving.Cancelled:
                    times += 1
        assert times == 10
        assert clock.time() == 5

    place(body)


def test_swallowing_in_a_loop_does_not_stop_the_worker() -> None:
    """Others have their turns, and the loop can be left."""
    ended = roving.Event()

    def stubborn() -> None:
        while not ended.is_set():
            with contextlib.suppress(roving.Cancelled):
                roving.sleep(60)

    fibers = [roving.spawn(stubborn) for _ in range(8)]
    until_parked(*fibers)
    for fiber in fibers:
        fiber.cancel()
    roving.spawn(roving.sleep, 0.01).join(10)
    ended.set()
    for fiber in fibers:
        assert fiber.wait(10)


@pytest.mark.usefixtures("clock")
def test_clean_up_may_wait() -> None:
    """While the cancellation is being handled, in whatever way, and may have its own timeouts."""
    log: list[object] = []

    def fiber() -> None:
        try:
            try:
                roving.sleep(60)
            finally:
                roving.sleep(1)
                log.append("finally")
                with roving.move_on_after(2) as limit:
                    roving.sleep(60)
                log.append(limit.expired)
                try:
                    raise KeyError
                except KeyError:
                    roving.sleep(1)
                    log.append("nested")
        except roving.Cancelled:
            roving.sleep(0.9)
            log.append("except")
            raise

    one = roving.spawn(fiber)
    testing.wait_all_parked(20)
    one.cancel()
    assert one.wait(10)
    assert one.cancelled()
    assert log == ["finally", True, "nested", "except"]


def test_what_comes_up_in_clean_up_is_clean_up() -> None:
    """Waits succeed while the Cancelled is being handled, whatever else is raised and handled meanwhile."""
    log: list[str] = []

    def convert() -> int:
        try:
            return int("x")
        finally:
            roving.sleep(0.001)
            log.append("in a finally of an error's own")

    def clean_up() -> None:
        try:
            roving.sleep(60)
        except roving.Cancelled:
            try:
                convert()
            except ValueError:
                roving.sleep(0.001)
                log.append("in an except of an error's own")
            roving.sleep(0.001)
            log.append("after it")
            raise

    fiber = roving.spawn(clean_up)
    roving.sleep(0.001)
    while not fiber.done():
        fiber.cancel()
        roving.sleep(0.001)
    assert fiber.cancelled()
    assert log in ([], ["in a finally of an error's own", "in an except of an error's own", "after it"])
    assert log, "cancelled before it began"


def test_clean_up_may_not_wait_for_ever(clock: testing.clock) -> None:
    """After the grace the next Cancelled is raised in it."""
    log = []

    def fiber() -> None:
        try:
            roving.sleep(60)
        except roving.Cancelled:
            try:
                roving.sleep(60)
            except roving.Cancelled:
                log.append(clock.time())
                raise

    one = roving.spawn(fiber)
    testing.wait_all_parked(20)
    one.cancel()
    assert one.wait(10)
    assert log == [5]


def test_a_shield_holds_back(clock: testing.clock) -> None:
    """What is outside; and what is inside works."""
    log: list[object] = []

    def fiber() -> None:
        with roving.timeout(1), roving.shield():
            roving.sleep(20)
            log.append("shielded")
            with roving.move_on_after(2) as limit:
                roving.sleep(60)
            log.append(limit.expired)
        log.append("unreachable")

    one = roving.spawn(fiber)
    testing.wait_all_parked(20)
    one.cancel()
    assert one.wait(60)
    assert log[:2] == ["shielded", True]
    assert clock.time() == 22


def test_a_cancellation_in_a_group() -> None:
    """Is taken out of it by the block it is for."""

    def body() -> None:
        with roving.move_on_after(2) as limit:
            try:
                roving.sleep(60)
            except roving.Cancelled as error:
                raise BaseExceptionGroup("both", [error]) from None
        assert limit.expired
        with pytest.raises(ExceptionGroup) as raised, roving.move_on_after(2):
            try:
                roving.sleep(60)
            except roving.Cancelled as error:
                raise BaseExceptionGroup("both", [error, ValueError()]) from None
        assert raised.group_contains(ValueError)

    in_timed_fiber(body)


def test_a_thread_that_cancels_a_fiber_at_any_moment() -> None:
    """It ends, cancelled or done, and locks are let go of."""
    lock = roving.Lock()

    def fiber() -> None:
        for _ in range(200):
            with lock:
                roving.yield_now()

    for _ in range(50):
        fibers = [roving.spawn(fiber) for _ in range(4)]
        thread = threading.Thread(target=lambda fibers=fibers: [fiber.cancel() for fiber in fibers])
        thread.start()
        for one in fibers:
            assert one.wait(10)
        thread.join()
        assert not lock.locked()
