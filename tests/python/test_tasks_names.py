"""The names of options, and Celery's for the same."""

from typing import Any

import pytest
from roving.tasks._names import CALL_OPTIONS, FOREVER, TASK_OPTIONS, call_options, task_options

# What Celery's users write, and what it means here.
TAKEN: list[tuple[dict[str, Any], dict[str, Any] | None]] = [
    ({}, {}),
    ({"time_limit": 30, "soft_time_limit": 20}, {"timeout": 30, "soft_timeout": 20}),
    ({"ignore_result": True}, {"keep_result": False}),
    ({"ignore_result": False}, {"keep_result": True}),
    ({"acks_late": True, "track_started": True, "serializer": "json", "trail": True}, {}),
    ({"bind": True, "name": "a.b", "queue": "mail", "priority": 3}, None),
    ({"rate_limit": "10/m", "expires": 60}, None),
    ({"retries": 5, "backoff": [1, 2], "jitter": 0.5}, None),
    ({"retries": 5, "autoretry_for": (OSError,)}, {"retries": 5, "retry_for": (OSError,)}),
    # Retries by Celery's names come with its defaults.
    (
        {"max_retries": 7},
        {"retries": 7, "retry_for": (), "backoff": [180], "jitter": False},
    ),
    (
        {"max_retries": None, "default_retry_delay": 60},
        {"retries": FOREVER, "retry_for": (), "backoff": [60], "jitter": False},
    ),
    (
        {"autoretry_for": (OSError,), "dont_autoretry_for": (PermissionError,)},
        {
            "retry_for": (OSError,),
            "no_retry_for": (PermissionError,),
            "retries": 3,
            "backoff": [180],
            "jitter": False,
        },
    ),
    (
        {"autoretry_for": (OSError,), "retry_backoff": True, "retry_backoff_max": 700},
        {"retry_for": (OSError,), "retries": 3, "backoff": 1.0, "backoff_max": 700},
    ),
    (
        {"autoretry_for": (OSError,), "retry_backoff": 5, "retry_jitter": False},
        {"retry_for": (OSError,), "retries": 3, "backoff": 5, "jitter": False},
    ),
    (
        {"autoretry_for": (OSError,), "retry_backoff": False, "default_retry_delay": 9, "retry_jitter": True},
        {"retry_for": (OSError,), "retries": 3, "backoff": [9], "jitter": False},
    ),
]


@pytest.mark.parametrize(("given", "expected"), TAKEN, ids=lambda part: ",".join(part or ()))
def test_taken(given: dict[str, Any], expected: dict[str, Any] | None) -> None:
    """As what it means; our names as they are."""
    before = dict(given)
    assert task_options(given) == (given if expected is None else expected)
    assert given == before
    assert task_options(given).keys() <= TASK_OPTIONS


REFUSED: list[tuple[dict[str, Any], type[Exception], str]] = [
    ({"acks_late": False}, ValueError, r"task: acks_late=False: a job is always acknowledged after it ran"),
    ({"reject_on_worker_lost": False}, ValueError, "always run again, and quarantined"),
    ({"serializer": "pickle"}, ValueError, r"serializer='pickle': nothing is unpickled.*codec="),
    ({"base": object}, ValueError, "task: base= is not there: there is no class of tasks"),
    ({"exchange": "x"}, ValueError, "queue= says where a job goes"),
    ({"retry": 3}, ValueError, "no broker to be out of reach"),
    ({"timeout": 1, "time_limit": 2}, TypeError, "time_limit= and another name of it .* it is timeout= here"),
    ({"retry_backoff": 2, "default_retry_delay": 3}, TypeError, "it is backoff= here"),
    ({"time_limt": 1}, TypeError, r"task takes no time_limt=; did you mean time_limit=\?"),
    ({"retrys": 1}, TypeError, r"did you mean retries=\?"),
    ({"zzz": 1}, TypeError, "task takes no zzz=; there are backoff, "),
    ({"countdown": 1}, TypeError, "task takes no countdown="),
]


@pytest.mark.parametrize(("given", "kind", "told"), REFUSED)
def test_refused(given: dict[str, Any], kind: type[Exception], told: str) -> None:
    """With what there is instead."""
    with pytest.raises(kind, match=told):
        task_options(given)


def test_calls_have_options_of_their_own() -> None:
    """Some of them a task has too."""
    given = {"countdown": 3, "queue": "q", "task_id": "x", "time_limit": 5, "serializer": "json"}
    assert call_options(given) == {"countdown": 3, "queue": "q", "id": "x", "timeout": 5}
    assert call_options(given).keys() <= CALL_OPTIONS
    with pytest.raises(ValueError, match=r"apply_async: link= is not there: use roving\.tasks\.chain"):
        call_options({"link": None})
    with pytest.raises(TypeError, match="apply_async takes no max_retries="):
        call_options({"max_retries": 3})
