"""How long to wait before a job is tried again."""

import math
import random as _random
from collections.abc import Callable, Sequence

# As Celery has it: ten minutes.
MAXIMUM = 600.0

# Seconds before the first retry, doubled for each later one; or those before each, the last for all others.
type Backoff = float | Sequence[float]
# How much of the delay is left to chance, 0 to 1; True is all of it.
type Jitter = bool | float


def delay(
    attempt: int,
    backoff: Backoff,
    jitter: Jitter = True,
    maximum: float = MAXIMUM,
    random: Callable[[], float] = _random.random,
) -> float:
    """Say how many seconds to wait after a failed attempt.

    With all of it left to chance (full jitter) jobs that failed together do not come back together: see
    "Exponential Backoff And Jitter" (AWS, 2015). Celery's `retry_jitter` is the same.

    Args:
        attempt: Which one failed; 1 is the first.
        backoff: Seconds after the first, doubled for each later one; or a sequence of the seconds after each,
            whose last goes on.
        jitter: How much of the delay is left to chance: True is all, 0.1 a tenth, False nothing.
        maximum: Never more seconds than these.
        random: Gives a number from 0 up to 1.

    Raises:
        ValueError: The settings make no delay; see `check`.

    >>> delay(4, 2.0, jitter=False)
    16.0
    >>> delay(4, [1, 60], jitter=False)
    60
    """
    if attempt < 1:
        raise ValueError(f"attempts begin at 1, and this is {attempt}")
    if isinstance(backoff, Sequence):
        longest = backoff[min(attempt, len(backoff)) - 1]
    else:
        # Beyond 2**1000 a float ends; any maximum comes long before.
        longest = min(backoff * 2.0 ** min(attempt - 1, 900), maximum)
    longest = min(longest, maximum)
    share = float(jitter)
    return longest * (1 - share + share * random()) if share else longest


def check(backoff: Backoff, jitter: Jitter = True, maximum: float = MAXIMUM) -> None:
    """Check what a task was given.

    Raises:
        TypeError: A setting is no number, nor, for `backoff`, a sequence of them.
        ValueError: One is negative, infinite or NaN; jitter is not from 0 to 1; the sequence is empty.
    """
    delays: Sequence[float]
    if isinstance(backoff, Sequence) and not isinstance(backoff, str | bytes):
        delays = backoff
        if not delays:
            raise ValueError("backoff is an empty sequence: it has to say at least one delay")
    else:
        delays = [backoff]  # type: ignore[list-item]  # a text is refused below
    for name, seconds in [*(("backoff", seconds) for seconds in delays), ("backoff_max", maximum)]:
        _check_number(name, seconds)
        if not (math.isfinite(seconds) and seconds >= 0):
            raise ValueError(f"{name} is in seconds, not negative and finite, and is {seconds}")
    if not isinstance(jitter, bool):
        _check_number("jitter", jitter)
        if not 0 <= jitter <= 1:
            raise ValueError(f"jitter is a share from 0 to 1, True or False, and is {jitter}")


def _check_number(name: str, value: object) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"{name} is a number, and {value!r} is none")
