"""The options of tasks and of calls, checked."""

from __future__ import annotations

import datetime
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from roving.tasks import _backoff
from roving.tasks._names import call_options, task_options

__all__ = ["TaskOptions", "call", "of_task", "rate", "seconds", "timestamp"]

# For which finished jobs are kept, if nothing else is said.
KEEP = 24 * 3600.0

_UNITS = {"s": 1000, "m": 60_000, "h": 3600_000, "d": 86_400_000}
_RATE = re.compile(r"(\d+)\s*/\s*(\d*)\s*([smhd])", re.ASCII)


@dataclass(frozen=True)
class TaskOptions:
    """What a task was declared with. Times are in seconds."""

    queue: str = "default"
    priority: int = 0
    retries: int = 0
    backoff: _backoff.Backoff = 1.0
    backoff_max: float = _backoff.MAXIMUM
    jitter: _backoff.Jitter = True
    retry_for: tuple[type[BaseException], ...] = (Exception,)
    no_retry_for: tuple[type[BaseException], ...] = ()
    timeout: float | None = None
    soft_timeout: float | None = None
    unique: bool | str | Callable[..., str] = False
    rate_limit: tuple[int, int, int] | None = None
    """Count, period in milliseconds, burst."""
    expires: float | None = None
    keep_result: float | bool = True
    bind: bool = False

    @property
    def keeps(self) -> bool:
        """Whether results are kept."""
        return self.keep_result is not False

    @property
    def keep(self) -> int:
        """For how many milliseconds finished jobs are kept."""
        if isinstance(self.keep_result, bool):
            return int(KEEP * 1000) if self.keep_result else 0
        return int(self.keep_result * 1000)


def of_task(given: Mapping[str, Any]) -> TaskOptions:
    """Check what a task was declared with, by our names or Celery's.

    Raises TypeError and ValueError, which say which option is wrong.
    """
    options = task_options(given)
    options.pop("name", None)
    for name in ("timeout", "soft_timeout", "expires"):
        if options.get(name) is not None:
            options[name] = seconds(name, options[name])
    for name in ("retry_for", "no_retry_for"):
        if name in options:
            options[name] = _exceptions(name, options[name])
    if not isinstance(options.get("keep_result", True), bool):
        options["keep_result"] = seconds("keep_result", options["keep_result"])
    if options.get("rate_limit") is not None:
        options["rate_limit"] = rate(options["rate_limit"])
    if "queue" in options:
        _name("queue", options["queue"])
    _number("retries", options.get("retries", 0), 0)
    _number("priority", options.get("priority", 0), -(1 << 31))
    unique = options.get("unique", False)
    if not (isinstance(unique, (bool, str)) or callable(unique)):
        raise TypeError(
            f"unique is True, a key, or a function of the arguments that gives one, not {unique!r}"
        )
    if unique == "":
        raise ValueError("unique is an empty key")
    checked = TaskOptions(**options)
    _backoff.check(checked.backoff, checked.jitter, checked.backoff_max)
    if checked.timeout and checked.soft_timeout and checked.soft_timeout >= checked.timeout:
        raise ValueError(
            f"soft_timeout ({checked.soft_timeout} s) is not before timeout ({checked.timeout} s): "
            "the task would never see it"
        )
    return checked


def call(given: Mapping[str, Any], now: int) -> dict[str, Any]:
    """Check what a call was given, and put it as the store takes it.

    `now` is in milliseconds since 1970. Raises TypeError and ValueError, which say which option is wrong.
    """
    options = call_options(given)
    for name in ("timeout", "soft_timeout"):
        if options.pop(name, None) is not None:
            raise TypeError(f"apply_async: {name} is an option of the task, not of a call")
    job: dict[str, Any] = {}
    if options.get("countdown") is not None:
        if options.get("eta") is not None:
            raise TypeError("apply_async: countdown and eta are both given")
        options["eta"] = now + int(seconds("countdown", options["countdown"]) * 1000)
    if options.get("eta") is not None:
        job["eta"] = timestamp("eta", options["eta"])
    if options.get("expires") is not None:
        job["expires"] = expiry(options["expires"], now)
    if options.get("priority") is not None:
        job["priority"] = _number("priority", options["priority"], -(1 << 31))
    if options.get("queue") is not None:
        job["queue"] = _name("queue", options["queue"])
    if options.get("id") is not None:
        job["id"] = _name("id", options["id"])
    return job


def expiry(value: Any, now: int) -> int:
    """Say when something expires that was given as seconds from now, a timedelta or a moment."""
    if isinstance(value, datetime.datetime):
        return timestamp("expires", value)
    return now + int(seconds("expires", value) * 1000)


def seconds(name: str, value: Any) -> float:
    """Read a time that is a number of seconds or a timedelta."""
    if isinstance(value, datetime.timedelta):
        value = value.total_seconds()
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name} is in seconds, or a timedelta, not {value!r}")
    # More is a mistake in the unit, and the store counts in milliseconds.
    if not 0 <= value <= 100 * 366 * 86_400:
        raise ValueError(f"{name} is a time from 0 s to a hundred years, and is {value}")
    return float(value)


def timestamp(name: str, value: Any) -> int:
    """Read a moment, as milliseconds since 1970: a datetime with a time zone, or those milliseconds."""
    if isinstance(value, int) and not isinstance(value, bool):
        return value
    if not isinstance(value, datetime.datetime):
        raise TypeError(f"{name} is a datetime, not {value!r}")
    if value.utcoffset() is None:
        raise ValueError(
            f"{name} has no time zone: datetime.now(timezone.utc) does, datetime.now() and utcnow() do not"
        )
    return int(value.timestamp() * 1000)


def rate(value: Any) -> tuple[int, int, int]:
    """Read a rate limit: 10, "10/s", "100/m", "5/10m"; count, period in milliseconds, burst.

    Up to as many as the count may start at once after a pause, never more than in a second.
    """
    text = f"{value}/s" if isinstance(value, int) and not isinstance(value, bool) else value
    found = _RATE.fullmatch(text.strip()) if isinstance(text, str) else None
    if found is None:
        raise ValueError(f"rate_limit is as in '10/s', '100/m', '5/10m' or '1000/h', and is {value!r}")
    count, period = int(found[1]), int(found[2] or 1) * _UNITS[found[3]]
    if not 1 <= count < 1 << 32 or not 1 <= period <= 366 * 86_400_000:
        raise ValueError(f"rate_limit is at least one in up to a year, and is {value!r}")
    return count, period, max(1, count * 1000 // period)


def _number(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} is a whole number, not {value!r}")
    if not least <= value < 1 << 31:
        raise ValueError(f"{name} is from {least} on, and is {value}")
    return value


def _name(name: str, value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError(f"{name} is a text, not {value!r}")
    if not value or len(value) > 200 or "\0" in value:
        raise ValueError(f"{name} has 1 to 200 characters, and is {value[:40]!r}")
    return value


def _exceptions(name: str, value: Any) -> tuple[type[BaseException], ...]:
    kinds = tuple(value) if isinstance(value, (list, tuple, set, frozenset)) else (value,)
    for kind in kinds:
        if not (isinstance(kind, type) and issubclass(kind, BaseException)):
            raise TypeError(f"{name} has exception classes, and {kind!r} is none")
    return kinds
