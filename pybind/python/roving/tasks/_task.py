"""A task: a function that jobs call."""

from __future__ import annotations

import functools
import hashlib
import inspect
import sys
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from roving.tasks import _options
from roving.tasks._canvas import Call
from roving.tasks._hints import Signature
from roving.tasks._job import Job

if TYPE_CHECKING:
    from roving.tasks._app import Tasks

__all__ = ["Task", "name_of"]


def name_of(function: Callable[..., Any]) -> str:
    """Name a task by its function, the same in every process that imports it.

    A program's own functions are in `__main__` there, and elsewhere in the module that its file is.
    """
    module = function.__module__
    if module == "__main__":
        main = sys.modules["__main__"]
        spec = getattr(main, "__spec__", None)
        file = getattr(main, "__file__", None)
        if spec is not None:
            module = spec.name.removesuffix(".__main__")
        elif file is not None:
            module = file.rpartition("/")[2].removesuffix(".py")
    return f"{module}.{function.__qualname__}"


class Task[**P, T]:
    """A function that jobs call: made by `Tasks.task`. Called, it is the function, there and then.

    >>> @tasks.task(retries=5)
    ... def send(to: str) -> None: ...
    >>> send.delay("a@b.c")
    <roving.tasks.Job 0193...>
    """

    def __init__(
        self, tasks: Tasks, function: Callable[P, T], name: str, options: _options.TaskOptions
    ) -> None:
        """Made by `Tasks.task`."""
        functools.update_wrapper(self, function)
        self._tasks = tasks
        self.function = function
        """What jobs call."""
        self.name = name
        """What jobs know it by."""
        self.options = options
        """What it was declared with."""
        self.signature = Signature(function, skip=1 if options.bind else 0)
        self._parameters = inspect.signature(function)
        if options.bind:
            all = list(self._parameters.parameters.values())
            if not all or all[0].kind not in (all[0].POSITIONAL_ONLY, all[0].POSITIONAL_OR_KEYWORD):
                raise TypeError(f"{name} has bind=True, and no first parameter for its attempt")
            self._parameters = self._parameters.replace(parameters=all[1:])
        self.limit = None if options.rate_limit is None else f"task:{name}"

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> T:
        """Call the function here and now: no job is made. A bound task cannot be called so."""
        return self.function(*args, **kwargs)

    def delay(self, *args: Any, **kwargs: Any) -> Job:
        """Enqueue a job that calls the function with these arguments; return once it is on disk.

        Raises TypeError for arguments that the function does not take, EncodeError, which names the argument,
        for those that cannot be written down, and StoreError when the store fails: nothing was enqueued then.
        """
        return self.apply_async(args, kwargs)

    def apply_async(
        self, args: Iterable[Any] = (), kwargs: dict[str, Any] | None = None, **options: Any
    ) -> Job:
        """Enqueue a job, with options of its own; return once it is on disk.

        Options: `countdown` (seconds from now), or `eta` (a datetime with a time zone): not before; `expires`
        (seconds from now, or a datetime): not begun from then on; `priority`: higher ones go first; `queue`;
        `id`: enqueued again with the same id it is one job. Raises as `delay` does, and for options that make
        no sense.
        """
        return self._tasks._enqueue([self._new(tuple(args), kwargs or {}, options)], self)[0]

    def delay_many(self, calls: Iterable[Iterable[Any] | dict[str, Any]], **options: Any) -> list[Job]:
        """Enqueue many jobs, in one commit: a tuple of arguments for each, or a dict of those by name.

        The options are those of `apply_async`, for all of them. Raises as `delay` does; when it does nothing
        was enqueued.

        >>> send.delay_many([("a@b.c",), ("d@e.f",)])
        [<roving.tasks.Job 0193...>, <roving.tasks.Job 0193...>]
        """
        jobs = [
            self._new((), call, options) if isinstance(call, dict) else self._new(tuple(call), {}, options)
            for call in calls
        ]
        return self._tasks._enqueue(jobs, self) if jobs else []

    def s(self, *args: Any, **kwargs: Any) -> Call:
        """Give a call for a chain, a group or a chord; what goes before it gives its first argument.

        >>> chain(add.s(1, 2), add.s(3)).delay().get()
        6
        """
        return Call(self, args, kwargs)

    def si(self, *args: Any, **kwargs: Any) -> Call:
        """Give a call that takes nothing from what goes before it: its arguments are these."""
        return Call(self, args, kwargs, immutable=True)

    def delay_on_commit(self, *args: Any, **kwargs: Any) -> None:
        """Enqueue a job once Django's current transaction commits; at once where there is none.

        If it is rolled back nothing is enqueued. The arguments are written down now. Raises RuntimeError
        where Django is not there, or not set up, and as `delay` does.
        """
        job = self._new(args, kwargs, {})
        on_commit = _django_on_commit()
        on_commit(lambda: self._tasks._enqueue([job], self))

    def _new(self, args: tuple[Any, ...], kwargs: dict[str, Any], options: dict[str, Any]) -> dict[str, Any]:
        """Make a job as the store takes it."""
        try:
            self._parameters.bind(*args, **kwargs)
        except TypeError as error:
            raise TypeError(f"{self.name}: {error}") from None
        codec, declared = self._tasks.codec, self.options
        payload = codec.encode_call(args, kwargs, f"{self.name}()", self.signature)
        job: dict[str, Any] = {
            "task": self.name,
            "queue": declared.queue,
            "priority": declared.priority,
            "payload": payload,
            "codec": codec.name,
            "max_attempts": declared.retries + 1,
            "keep": declared.keep,
            "limit": self.limit,
            "parent": self._tasks._parent(),
        }
        now = self._tasks._store.now()
        if declared.expires is not None:
            job["expires"] = now + int(declared.expires * 1000)
        if declared.unique:
            job["unique"] = (self._unique_key(args, kwargs, payload), False)
        if options:
            job.update(_options.call(options, now))
        return job

    def _unique_key(self, args: tuple[Any, ...], kwargs: dict[str, Any], payload: bytes) -> str:
        unique = self.options.unique
        if unique is True:
            return f"{self.name}:{hashlib.blake2b(payload, digest_size=16).hexdigest()}"
        if isinstance(unique, str):
            return f"{self.name}:{unique}"
        assert callable(unique)
        key = unique(*args, **kwargs)
        if not isinstance(key, str) or not key:
            raise TypeError(f"{self.name}: unique gave {key!r}, and has to give a text that is not empty")
        return f"{self.name}:{key}"

    def __repr__(self) -> str:
        """Say which."""
        return f"<roving.tasks.Task {self.name}>"


def _django_on_commit() -> Callable[[Callable[[], Any]], Any]:
    try:
        from django.db import transaction
    except ImportError:
        raise RuntimeError(
            "delay_on_commit waits for Django's transaction, and Django is not installed"
        ) from None
    from django.conf import settings

    if not settings.configured:
        raise RuntimeError(
            "delay_on_commit waits for Django's transaction, and Django is not set up: "
            "DJANGO_SETTINGS_MODULE, django.setup()"
        )
    return transaction.on_commit  # type: ignore[no-any-return]
