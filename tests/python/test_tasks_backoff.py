"""The delay before a retry."""

import math
import random
from typing import Any

import pytest
from roving.tasks._backoff import Backoff, check, delay


@pytest.mark.parametrize(
    ("backoff", "delays"),
    [
        (2.0, [2, 4, 8, 16, 32, 60, 60]),
        (0, [0, 0, 0]),
        (100, [60, 60]),
        ([5], [5, 5, 5]),
        ((1, 10, 100), [1, 10, 60, 60]),
    ],
)
def test_delays(backoff: Backoff, delays: list[float]) -> None:
    """Doubled, or as listed; never beyond the maximum."""
    for attempt, expected in enumerate(delays, start=1):
        assert delay(attempt, backoff, jitter=False, maximum=60) == expected


def test_the_maximum_is_celerys() -> None:
    """Ten minutes, however many attempts there were."""
    assert delay(10**9, 1e300, jitter=False) == 600


@pytest.mark.parametrize(("jitter", "low"), [(True, 0), (1.0, 0), (0.25, 6), (0, 8), (False, 8)])
def test_jitter(jitter: bool | float, low: float) -> None:
    """Leaves that share of the delay to chance, and the rest alone."""
    assert delay(3, 2, jitter, random=lambda: 0.0) == low
    assert delay(3, 2, jitter, random=lambda: 0.5) == (low + 8) / 2
    drawn = random.Random(3).random
    assert all(low <= delay(3, 2, jitter, random=drawn) <= 8 for _ in range(100))


@pytest.mark.parametrize(
    ("settings", "kind", "told"),
    [
        ({"backoff": -1}, ValueError, "backoff is in seconds, not negative and finite, and is -1"),
        ({"backoff": math.inf}, ValueError, "backoff is .* and is inf"),
        ({"backoff": [1, math.nan]}, ValueError, "backoff is .* and is nan"),
        ({"backoff": []}, ValueError, "backoff is an empty sequence"),
        ({"backoff": "2"}, TypeError, "backoff is a number, and '2' is none"),
        ({"backoff": True}, TypeError, "backoff is a number, and True is none"),
        ({"backoff": 1, "maximum": -1}, ValueError, "backoff_max is in seconds"),
        ({"backoff": 1, "jitter": 2}, ValueError, "jitter is a share from 0 to 1"),
        ({"backoff": 1, "jitter": math.nan}, ValueError, "jitter is a share"),
        ({"backoff": 1, "jitter": "full"}, TypeError, "jitter is a number, and 'full' is none"),
    ],
)
def test_settings_are_checked(settings: dict[str, Any], kind: type[Exception], told: str) -> None:
    """When the task is made."""
    with pytest.raises(kind, match=told):
        check(**settings)


def test_settings_that_hold() -> None:
    """Are taken, and attempts are counted from 1."""
    check(2.0)
    check((1, 2), 0.5, 10)
    check(0, False, 0)
    with pytest.raises(ValueError, match="attempts begin at 1"):
        delay(0, 1)
