"""One attempt of a job: from what the store has of it to how it ended."""

from __future__ import annotations

import traceback
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING, Any

from roving._roving import StoreError, _call_interruptible
from roving.tasks import _attempt, _backoff, _canvas
from roving.tasks._attempt import Attempt
from roving.tasks._errors import DecodeError, EncodeError
from roving.tasks._failures import Retry, TaskTimeout, UnknownTask

if TYPE_CHECKING:
    from roving.tasks._app import Tasks
    from roving.tasks._task import Task

__all__ = ["Ended", "describe", "run"]

# Of a traceback: what is longer is a recursion's, and its ends say all.
_LONGEST = 50_000


@dataclass(frozen=True)
class Ended:
    """How an attempt ended."""

    outcome: tuple[Any, ...]
    """As the store takes it."""
    event: str | None = None
    """The hook to be called."""
    value: Any = None
    """The result, or the exception."""


def run(tasks: Tasks, record: dict[str, Any], reason: Callable[[], str | None]) -> Ended:
    """Run a job's function; never raises.

    `reason` says why the fiber was asked to stop: timeout, cancel or stop; None if it was not.
    """
    attempt = Attempt(tasks, record)
    # The fiber's context is its own.
    _attempt._current.set(attempt)
    task = tasks._by_name.get(record["task"])
    try:
        if task is None:
            raise UnknownTask(_unknown(tasks, record["task"]))
        args, kwargs = _arguments(tasks, task, record)
    except (UnknownTask, DecodeError) as error:
        return _failed(error)
    except StoreError:
        # What it waited for cannot be read now.
        return Ended(("hand_back",))
    except Exception as error:
        # A codec of somebody's.
        return _failed(error)
    tasks.hooks._call("before", attempt)
    if task.options.bind:
        args = (attempt, *args)
    try:
        value = _call_interruptible(task.function, args, kwargs)
    except BaseException as error:
        return _raised(tasks, task, attempt, error, reason())
    # What is of a group may be waited for.
    if not task.options.keeps and record["group"] is None:
        return Ended(("succeeded", None), "succeeded", value)
    try:
        return Ended(("succeeded", tasks.codec.encode_result(value, task.signature)), "succeeded", value)
    except EncodeError as error:
        return _failed(error)
    except Exception as error:
        return _failed(error)


def _arguments(tasks: Tasks, task: Task[..., Any], record: dict[str, Any]) -> tuple[Any, dict[str, Any]]:
    if record["codec"] != tasks.codec.name:
        raise DecodeError(
            f"the job was written by the codec {record['codec']!r}, and this worker has {tasks.codec.name!r}"
        )
    args, kwargs = tasks.codec.decode_call(record["payload"], task.signature)
    return args if record["waits_for"] is None else _canvas.resolve(tasks, args), kwargs


def _unknown(tasks: Tasks, name: str) -> str:
    known = ", ".join(sorted(tasks._by_name)) or "none"
    return (
        f"there is no task {name!r} here: it was renamed, or its module is not imported by this worker "
        f"(known are: {known}). The job is kept: retry it once the task is there"
    )


def _raised(
    tasks: Tasks, task: Task[..., Any], attempt: Attempt, error: BaseException, reason: str | None
) -> Ended:
    if reason == "cancel":
        return Ended(("cancelled",))
    if reason == "stop" and not isinstance(error, Exception):
        return Ended(("hand_back",))
    if reason == "timeout":
        late = TaskTimeout(f"{task.name} took longer than {task.options.timeout} s")
        late.__cause__ = error
        late.__traceback__ = error.__traceback__
        error = late
    if isinstance(error, Retry):
        return _again(tasks, task, attempt, error)
    options = task.options
    if not isinstance(error, options.retry_for) or isinstance(error, options.no_retry_for):
        return _failed(error)
    return _retry(tasks, task, attempt, error, None)


def _again(tasks: Tasks, task: Task[..., Any], attempt: Attempt, retry: Retry) -> Ended:
    """The task asked for it."""
    cause = retry.cause or retry.__context__
    if cause is None:
        cause = retry
    return _retry(tasks, task, attempt, cause, retry.at)


def _retry(
    tasks: Tasks, task: Task[..., Any], attempt: Attempt, error: BaseException, at: int | None
) -> Ended:
    if attempt.retries_left <= 0:
        return _failed(error)
    options = task.options
    if at is None:
        wait = _backoff.delay(attempt.number, options.backoff, options.jitter, options.backoff_max)
        at = tasks._store.now() + int(wait * 1000)
    return Ended(("retry", *describe(error), at), "retried", error)


def _failed(error: BaseException) -> Ended:
    return Ended(("failed", *describe(error)), "failed", error)


def describe(error: BaseException) -> tuple[str, str]:
    """Put an exception into a line, and into a traceback without frames of ours. It never raises."""
    try:
        error.__traceback__ = _theirs(error.__traceback__)
        line = " ".join("".join(traceback.format_exception_only(type(error), error)).split())
        text = "".join(traceback.format_exception(error))
    except Exception as failure:
        line = f"{type(error).__name__} (and its text cannot be had: {type(failure).__name__})"
        text = line
    if len(text) > _LONGEST:
        half = _LONGEST // 2
        text = f"{text[:half]}\n  ... {len(text) - _LONGEST} characters are left out ...\n{text[-half:]}"
    # The store's text is UTF-8, and an exception's may have half a pair of surrogates.
    return _clean(line[:1000]), _clean(text)


def _clean(text: str) -> str:
    return text.encode("utf-8", "backslashreplace").decode().replace("\0", "\\x00")


def _theirs(trace: TracebackType | None) -> TracebackType | None:
    while trace is not None and trace.tb_frame.f_code.co_filename == __file__:
        trace = trace.tb_next
    return trace
