"""The names of a task's options and of a call's, and Celery's for the same things.

A name of Celery's is taken where it means the same here. Where it does not, the error says what there is
instead: an option that is taken and then means something else would be found out in production.
"""

import difflib
from collections.abc import Callable, Mapping
from typing import Any

# Of `@tasks.task(...)`.
TASK_OPTIONS = frozenset(
    {
        "name",
        "queue",
        "priority",
        "retries",
        "backoff",
        "backoff_max",
        "jitter",
        "retry_for",
        "no_retry_for",
        "timeout",
        "soft_timeout",
        "unique",
        "rate_limit",
        "expires",
        "keep_result",
        "bind",
    }
)
# Of `apply_async(args, kwargs, ...)`.
CALL_OPTIONS = frozenset(
    {"countdown", "eta", "expires", "priority", "queue", "id", "timeout", "soft_timeout"}
)

# What Celery does where a task asks for retries and leaves the rest open.
CELERY_RETRIES = 3
CELERY_DELAY = 180
# As often as a store can count: one a second for 68 years.
FOREVER = (1 << 31) - 1

_SAME = {
    "retry_backoff_max": "backoff_max",
    "retry_jitter": "jitter",
    "autoretry_for": "retry_for",
    "dont_autoretry_for": "no_retry_for",
    "time_limit": "timeout",
    "soft_time_limit": "soft_timeout",
    "task_id": "id",
}
# Always so: the value that says it, and what is said to whoever wants it otherwise.
_ALWAYS: dict[str, tuple[Any, str]] = {
    "acks_late": (
        True,
        "a job is always acknowledged after it ran. What must not happen twice can ask job.once()",
    ),
    "acks_on_failure_or_timeout": (True, "a job that failed is kept as failed, and can be retried by hand"),
    "reject_on_worker_lost": (
        True,
        "a job whose process died is always run again, and quarantined where processes keep dying under it",
    ),
    "store_errors_even_if_ignored": (True, "errors are always kept"),
    "track_started": (True, "that a job runs can always be seen"),
    "serializer": ("json", "nothing is unpickled. Another format is a codec: Tasks(codec=)"),
    "add_to_parent": (True, "a job that is enqueued by another one always names it as its parent"),
    "send_events": (True, "events are told to whoever listens, and cost nothing where nobody does"),
    "shared": (True, "a task belongs to the Tasks that it was made with"),
    "typing": (True, "arguments are always checked against the function's parameters"),
    "trail": (True, "a job that is enqueued by another one always names it as its parent"),
}
_ABSENT = {
    "base": "there is no class of tasks: use a decorator of your own, or the hooks of Tasks",
    "chord": "use roving.tasks.chord",
    "compression": "payloads are not compressed; another codec may do so: Tasks(codec=)",
    "connection": "there is no broker to connect to: the store is given to Tasks",
    "delivery_mode": "jobs are always on disk before delay returns",
    "exchange": "there is no broker: queue= says where a job goes",
    "group_id": "use roving.tasks.group",
    "headers": "there are none: pass an argument",
    "link": "use roving.tasks.chain",
    "link_error": "use the hook on_failure of Tasks",
    "producer": "there is no broker to connect to: the store is given to Tasks",
    "pydantic": "annotate the task with dataclasses, or register a type with the codec",
    "reply_to": "results are in the store",
    "retry": "there is no broker to be out of reach: delay returns once the job is on disk, or raises",
    "retry_policy": "there is no broker to be out of reach: delay returns once the job is on disk, or raises",
    "routing_key": "there is no broker: queue= says where a job goes",
    "shadow": "jobs go by their task's name",
    "throws": "there are no expected errors: all are kept with their traceback",
}


def task_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Put a task's options into our names.

    Args:
        given: What the decorator was called with, by our names or by Celery's.

    Returns:
        Options by our names, those that were given alone.

    Raises:
        TypeError: There is no such option; or one was given twice, by both names.
        ValueError: A value of Celery's that means nothing here, with what there is instead.

    >>> task_options({"max_retries": 5, "time_limit": 30})
    {'retries': 5, 'timeout': 30, 'retry_for': ()}
    """
    return _translate(given, TASK_OPTIONS, "task")


def call_options(given: Mapping[str, Any]) -> dict[str, Any]:
    """Put the options of `apply_async` into our names; raises as `task_options` does."""
    return _translate(given, CALL_OPTIONS, "apply_async")


def _translate(given: Mapping[str, Any], known: frozenset[str], what: str) -> dict[str, Any]:
    options: dict[str, Any] = {}
    for name, value in given.items():
        if name in known:
            _put(options, name, name, value)
        elif name in _ALWAYS:
            always, why = _ALWAYS[name]
            if value != always:
                raise ValueError(f"{what}: {name}={value!r}: {why}")
        elif _SAME.get(name) in known:
            _put(options, _SAME[name], name, value)
        elif name in _CONVERTED and _CONVERTED[name][0] in known:
            ours, convert = _CONVERTED[name]
            if (value := convert(value)) is not None:
                _put(options, ours, name, value)
        elif name in _ABSENT:
            raise ValueError(f"{what}: {name}= is not there: {_ABSENT[name]}")
        else:
            _unknown(name, known, what)
    if what == "task":
        _celery_retries(options, given)
    return options


def _put(options: dict[str, Any], ours: str, name: str, value: Any) -> None:
    if ours in options:
        raise TypeError(f"{name}= and another name of it are both given: it is {ours}= here")
    options[ours] = value


def _celery_retries(options: dict[str, Any], given: Mapping[str, Any]) -> None:
    """Retry as Celery would, where a task asks for retries by its names: their defaults are not ours."""
    if "max_retries" in given or ("autoretry_for" in given and "retries" not in given):
        options.setdefault("retries", CELERY_RETRIES)
        # There a task is tried again for the errors it names, or when it says so itself.
        options.setdefault("retry_for", ())
        options.setdefault("backoff", [CELERY_DELAY])
    if "backoff" not in given and isinstance(options.get("backoff"), list):
        # Its jitter is that of its backoff alone.
        options["jitter"] = False


def _retry_backoff(value: Any) -> Any:
    # True is a factor of one second; False leaves it to default_retry_delay.
    return 1.0 if value is True else value or None


_CONVERTED: dict[str, tuple[str, Callable[[Any], Any]]] = {
    "default_retry_delay": ("backoff", lambda value: [value]),
    "retry_backoff": ("backoff", _retry_backoff),
    "max_retries": ("retries", lambda value: FOREVER if value is None else value),
    "ignore_result": ("keep_result", lambda value: not value),
}


def _unknown(name: str, known: frozenset[str], what: str) -> None:
    close = difflib.get_close_matches(name, [*known, *_SAME, *_CONVERTED], 1)
    hint = f"; did you mean {close[0]}=?" if close else f"; there are {', '.join(sorted(known))}"
    raise TypeError(f"{what} takes no {name}={hint}")
