"""The public interface, name by name: what it says when it is used wrongly, and what help shows."""

import inspect
import os
import pickle
import pydoc
import queue
import subprocess
import sys
import threading
from collections.abc import Callable
from typing import Any

import pytest
import roving
from test_scope import Place, places

TOO_LARGE = 1 << 40

# The call, what it raises, and what the message says.
MISUSES: dict[str, tuple[Callable[[], Any], type[Exception], str]] = {
    "spawn nothing": (lambda: roving.spawn(), TypeError, "takes a callable"),  # type: ignore[call-arg]
    "spawn a number": (lambda: roving.spawn(3), TypeError, "int is not callable"),  # type: ignore[arg-type]
    "run a number": (lambda: roving.run(3), Exception, "int is not callable|plain threads"),  # type: ignore[arg-type]
    "run on -1": (lambda: roving.run(int, workers=-1), Exception, "from 1 to 1024, and is -1|plain threads"),
    "join for -1 s": (
        lambda: roving.spawn(int).join(-1),
        ValueError,
        "timeout must not be negative, and is -1",
    ),
    "join for NaN": (lambda: roving.spawn(int).join(float("nan")), ValueError, "NaN"),
    "join for a text": (lambda: roving.spawn(int).join("1"), TypeError, "real number"),  # type: ignore[arg-type]
    "sleep -1 s": (lambda: roving.sleep(-1), ValueError, "seconds must not be negative"),
    "timeout -1 s": (lambda: roving.timeout(-1), ValueError, "seconds must not be negative"),
    "a fiber by hand": (lambda: roving.Fiber(), TypeError, "cannot create"),
    "a fiber's pickle": (lambda: pickle.dumps(roving.spawn(int)), TypeError, "cannot pickle"),
    "a stack of -1": (lambda: roving.options(stack_size=-1), ValueError, "stack_size must be from 1 byte"),
    "a condition of 3": (lambda: roving.Condition(3), TypeError, "acquire and release, and int"),  # type: ignore[arg-type]
    "a wait without its lock": (lambda: roving.Condition().wait(), RuntimeError, "un-acquired"),
    "a lock released": (lambda: roving.Lock().release(), RuntimeError, "unlocked"),
    "a semaphore of -1": (lambda: roving.Semaphore(-1), ValueError, ">= 0"),
    "a channel of -1": (lambda: roving.Channel(-1), ValueError, "capacity must not be negative"),
    "select nothing": (lambda: roving.select(), ValueError, "nothing to choose"),
    "select a number": (lambda: roving.select(3), TypeError, "recv_op"),  # type: ignore[arg-type]
    "map over a number": (lambda: roving.map(int, 3), TypeError, "not iterable"),  # type: ignore[arg-type]
    "map nothing": (lambda: roving.map(int), TypeError, "at least one iterable"),
    "map, half at a time": (lambda: roving.map(int, [], limit=0.5), TypeError, "integer"),  # type: ignore[arg-type]
    "map, none at a time": (lambda: roving.map(int, [], limit=0), ValueError, "at least 1"),
    "block in a number": (lambda: roving.blocking(3), TypeError, "int is not callable"),  # type: ignore[arg-type]
    "wait for -1": (lambda: roving.wait_readable(-1), ValueError, "not negative"),
    "wait for a closed one": (
        lambda: roving.wait_readable(1000),
        OSError,
        r"\[Errno 9\] Bad file descriptor$",
    ),
    "wait for a large one": (
        lambda: roving.wait_writable(TOO_LARGE),
        ValueError,
        f"{TOO_LARGE} is no descriptor",
    ),
    "wait for a text": (lambda: roving.wait_readable("x"), TypeError, "fileno"),  # type: ignore[arg-type]
    "configure too late": (lambda: roving.configure(max_spares=1), RuntimeError, "before the first spawn"),
    "a quantum of -1": (lambda: roving.configure(preempt=-1), ValueError, "preempt must not be negative"),
    "a scope not entered": (lambda: roving.scope().spawn(int), RuntimeError, "not open"),
}


@pytest.mark.parametrize("what", MISUSES)
@places
def test_misuse_is_told(place: Place, what: str) -> None:
    """In a fiber and in a plain thread."""
    call, kind, text = MISUSES[what]
    roving.spawn(int).join()
    with pytest.raises(kind, match=text):
        place(call)


def test_a_timeout_of_the_wrong_kind_is_named() -> None:
    """The message is the interpreter's; a note says for what."""
    with pytest.raises(TypeError) as told:
        roving.Event().wait("soon")  # type: ignore[arg-type]
    assert "timeout" in "".join(told.value.__notes__)


def test_a_cancelled_fiber_is_named() -> None:
    """By whoever joins it."""
    fiber = roving.options(name="late").spawn(roving.sleep, 60)
    fiber.cancel()
    with pytest.raises(roving.FiberCancelled, match=f'fiber {fiber.id} "late" was cancelled'):
        fiber.join()


def test_representations() -> None:
    """Say what it is, and something of its state."""
    channel: roving.Channel[int] = roving.Channel(2)
    assert repr(roving.options(name="a", daemon=True)) == '<roving.options(name="a", daemon=True)>'
    assert repr(roving.shield()) == "<roving.shield()>"
    assert repr(channel.recv_op()) == "<roving.RecvOp of <roving.Channel, 0 of 2 values>>"
    assert repr(channel.send_op(1)) == "<roving.SendOp of <roving.Channel, 0 of 2 values>>"
    assert repr(roving.map(int, [])) == "<roving.map of <class 'int'>, open, 0 ahead>"
    for kind in (roving.Queue, roving.LifoQueue, roving.PriorityQueue):
        assert repr(kind()).startswith(f"<roving.{kind.__name__} object")
        assert isinstance(kind(), queue.Queue)
    assert repr(roving.Barrier(2)).startswith("<roving.Barrier at")
    assert isinstance(roving.Barrier(2), threading.Barrier)


def public() -> list[str]:
    """Give all names with something to say about: roving's, and its classes' methods."""
    names = []
    for name in roving.__all__:
        thing = getattr(roving, name)
        names.append(name)
        if inspect.isclass(thing):
            methods = (
                key
                for key, value in vars(thing).items()
                if callable(value) or inspect.isdatadescriptor(value)
            )
            names += [f"{name}.{method}" for method in methods if not method.startswith("_")]
    return names


@pytest.mark.parametrize("name", public())
def test_every_name_is_documented(name: str) -> None:
    """With what it does; functions and classes with an example, but for exceptions and what calls make."""
    thing: Any = roving
    for part in name.split("."):
        thing = getattr(thing, part)
    text = inspect.getdoc(thing)
    assert (text or "")[:1].isupper(), f"{name} has no docstring of its own"
    assert text is not None
    is_error = inspect.isclass(thing) and issubclass(thing, BaseException)
    if (
        "." not in name
        and not is_error
        and "made by" not in text
        and name not in ("configure", "UnjoinedFailure")
    ):
        assert ">>>" in text or "with roving" in text, f"{name} has no example"


def test_help_names_everything() -> None:
    """The overview at the top of it; and nothing of how it is made."""
    assert roving.__doc__ is not None
    missing = [name for name in roving.__all__ if name not in roving.__doc__ and name not in HANDED_OUT]
    assert not missing, missing
    text = pydoc.plain(pydoc.render_doc(roving))
    assert "_Locks" not in text
    assert max(map(len, roving.__doc__.splitlines())) <= 110


# Never made by hand: their makers are in the overview.
HANDED_OUT = {"Options", "RecvOp", "SendOp", "Scope", "Shield", "Timeout", "UnjoinedFailure"}


def test_futures_come_with_the_package_and_cost_nothing_until_used() -> None:
    """`roving.futures.FiberExecutor` without an import of its own, and without concurrent.futures before."""
    program = """
import sys, roving
assert not [name for name in sys.modules if name.startswith("concurrent.futures.")], "imported already"
assert "FiberExecutor" in dir(roving.futures)
with roving.futures.FiberExecutor() as executor:
    assert executor.submit(pow, 2, 3).result() == 8
from roving.futures import FiberFuture
assert FiberFuture.__module__ == "roving.futures"
try:
    roving.futures.Nonsense
except AttributeError as error:
    assert str(error) == "module 'roving.futures' has no attribute 'Nonsense'", error
assert not hasattr(roving, "__getattr__"), "it would keep the interpreter from specialising every roving.name"
"""
    subprocess.run([sys.executable, "-c", program], check=True, timeout=60, env={**os.environ})
