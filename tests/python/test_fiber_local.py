"""What CPython keeps per thread is kept per fiber."""

import asyncio
import contextvars
import decimal
import sys
import threading
import traceback
import warnings
from collections.abc import Callable, Iterator

import pytest
import roving


def interleave(body: Callable[[int], object], count: int = 20) -> list[object]:
    """Run fibers that all have started before any goes on past its first yield; give back their results."""

    def drive() -> list[object]:
        fibers = [roving.spawn(body, number) for number in range(count)]
        return [fiber.join() for fiber in fibers]

    result = roving.spawn(drive).join()
    assert isinstance(result, list)
    return result


def test_threading_local() -> None:
    """A fiber has its own values, and they end with it."""
    local = threading.local()
    ended = []

    class Value:
        def __init__(self, number: int) -> None:
            self.number = number

        def __del__(self) -> None:
            ended.append(self.number)

    def body(number: int) -> object:
        assert not hasattr(local, "value")
        local.value = Value(number)
        roving.yield_now()
        return local.value.number

    assert interleave(body) == list(range(20))
    assert sorted(ended) == list(range(20))
    assert not hasattr(local, "value")


VARIABLE: contextvars.ContextVar[int] = contextvars.ContextVar("variable", default=-1)


def test_contextvars() -> None:
    """A fiber runs in a copy of its spawner's context."""

    def body(number: int) -> object:
        assert VARIABLE.get() == 5
        VARIABLE.set(number)
        roving.yield_now()
        inner = roving.spawn(VARIABLE.get).join()
        return VARIABLE.get(), inner

    def outer() -> object:
        token = VARIABLE.set(5)
        result = interleave(body)
        VARIABLE.reset(token)
        return result

    assert contextvars.copy_context().run(outer) == [(number, number) for number in range(20)]
    assert roving.spawn(VARIABLE.get).join() == -1


def test_context_run_across_a_yield() -> None:
    """A context that is entered stays the fiber's."""

    def inner(number: int) -> int:
        VARIABLE.set(number)
        roving.yield_now()
        return VARIABLE.get()

    def body(number: int) -> object:
        context = contextvars.copy_context()
        assert context.run(inner, number) == number
        assert context[VARIABLE] == number
        return VARIABLE.get()

    assert interleave(body) == [-1] * 20


def test_the_exception_being_handled() -> None:
    """Is the fiber's own, also through generators."""

    def generate(number: int) -> Iterator[object]:
        try:
            raise KeyError(number)
        except KeyError:
            roving.yield_now()
            yield sys.exception()
            roving.yield_now()
            yield sys.exception()

    def body(number: int) -> object:
        assert sys.exception() is None
        try:
            raise ValueError(number)
        except ValueError as error:
            roving.yield_now()
            before = sys.exception() is error
            seen = list(generate(number))
            after = sys.exception() is error
        found = all(isinstance(one, KeyError) and one.args == (number,) for one in seen)
        return before, found, after, sys.exception()

    assert interleave(body) == [(True, True, True, None)] * 20


def test_raise_from_and_context() -> None:
    """An exception's context is what its own fiber handled."""

    def body(number: int) -> object:
        try:
            try:
                raise KeyError(number)
            finally:
                roving.yield_now()
        except KeyError:
            roving.yield_now()
            try:
                raise ValueError(number)
            except ValueError as error:
                return type(error.__context__), error.__context__ and error.__context__.args

    assert interleave(body) == [(KeyError, (number,)) for number in range(20)]


def test_recursion_depth() -> None:
    """Each fiber may recurse as deep as the limit says, however deep the others are."""

    def down(depth: int) -> int:
        if depth == 0:
            roving.yield_now()
            return 0
        return 1 + down(depth - 1)

    def endless(depth: int) -> int:
        return endless(depth + 1)

    def body(number: int) -> object:
        assert down(600) == 600
        with pytest.raises(RecursionError):
            endless(0)
        return down(600)

    assert interleave(body) == [600] * 20


def test_setrecursionlimit_reaches_parked_fibers() -> None:
    """The limit is the interpreter's, the depth the fiber's."""
    limit = sys.getrecursionlimit()

    def down(depth: int) -> int:
        return 0 if depth == 0 else 1 + down(depth - 1)

    def deep() -> int:
        while sys.getrecursionlimit() == limit:
            roving.yield_now()
        return down(limit + 500)

    fiber = roving.spawn(deep)
    try:
        sys.setrecursionlimit(limit + 1000)
        assert fiber.join() == limit + 500
    finally:
        sys.setrecursionlimit(limit)
    with pytest.raises(RecursionError):
        roving.spawn(down, limit + 500).join()


def test_asyncio() -> None:
    """Each fiber may run a loop; it has to poll by itself, and only blocks its own worker."""

    async def tick(number: int) -> int:
        running = asyncio.get_running_loop()
        for _ in range(3):
            roving.yield_now()
            await asyncio.sleep(0)
            assert asyncio.get_running_loop() is running
        return number

    def body(number: int) -> object:
        return asyncio.run(tick(number))

    assert interleave(body) == list(range(20))


def test_async_generators() -> None:
    """The hooks a loop sets are seen by its own fiber only."""
    begun = []

    async def generate() -> object:
        yield 1

    def body(number: int) -> object:
        assert sys.get_asyncgen_hooks() == (None, None)
        sys.set_asyncgen_hooks(firstiter=lambda _: begun.append(number))
        roving.yield_now()
        generate().__aiter__().__anext__().close()  # type: ignore[attr-defined]
        sys.set_coroutine_origin_tracking_depth(number)
        roving.yield_now()
        return sys.get_coroutine_origin_tracking_depth()

    assert interleave(body) == list(range(20))
    assert sorted(begun) == list(range(20))
    assert sys.get_asyncgen_hooks() == (None, None)


def test_decimal() -> None:
    """decimal keeps its context in a contextvar."""

    def body(number: int) -> object:
        with decimal.localcontext(prec=number + 1):
            roving.yield_now()
            return len(str(decimal.Decimal(1) / 3)) - 2

    assert interleave(body) == [number + 1 for number in range(20)]


def test_repr_of_what_contains_itself() -> None:
    """Py_ReprEnter's list is the fiber's: another may print the same object."""
    nest: list[object] = []

    class Slow:
        def __repr__(self) -> str:
            roving.yield_now()
            return "slow"

    nest += [Slow(), nest]

    assert interleave(lambda _: repr(nest)) == ["[slow, [...]]"] * 20


def test_stack_walks() -> None:
    """From inside they end at one frame of the fiber's; from outside, too."""
    names: list[list[str]] = []

    def inner() -> None:
        names.append([summary.name for summary in traceback.extract_stack()])
        roving.yield_now()
        frame = sys._getframe()
        found = []
        while frame is not None:
            found.append(frame.f_code.co_name)
            frame = frame.f_back  # type: ignore[assignment]
        names.append(found[::-1])

    def body(_: int) -> object:
        inner()
        return None

    interleave(body)
    assert len(names) == 40
    assert all(found == ["<fiber>", "body", "inner"] for found in names)


def test_tracing_and_profiling() -> None:
    """The functions are the thread's; what they are in the middle of is the fiber's."""

    def body(_: int) -> object:
        events = []

        def watch(frame: object, event: str, _: object) -> None:
            if frame.f_code is traced.__code__:  # type: ignore[attr-defined]
                events.append(event)

        def traced() -> None:
            pass

        sys.setprofile(watch)
        traced()
        sys.setprofile(None)
        roving.yield_now()
        return events

    assert interleave(body, 5) == [["call", "return"]] * 5


def test_generators_and_context_managers() -> None:
    """Suspended by yield and by a switch at once."""

    def count(number: int) -> Iterator[int]:
        for i in range(5):
            roving.yield_now()
            yield number * i

    class Manager:
        def __enter__(self) -> int:
            roving.yield_now()
            return 1

        def __exit__(self, *_: object) -> None:
            roving.yield_now()

    def body(number: int) -> object:
        with Manager() as one:
            return sum(count(number)) + one

    assert interleave(body) == [10 * number + 1 for number in range(20)]


def test_warnings() -> None:
    """A fiber's warning is attributed to the code that caused it."""

    def body(_: int) -> object:
        with pytest.warns(UserWarning, match="careful") as caught:
            warnings.warn("careful", UserWarning, stacklevel=1)
        return caught[0].filename

    assert roving.spawn(body, 0).join() == __file__
