"""Finding the Tasks that a command is about."""

from __future__ import annotations

import importlib
import os
import sys
from typing import Any

from roving.tasks._app import Tasks

__all__ = ["CannotLoad", "load"]

_USUAL = "tasks"
_STORES = ("sqlite:", "memory:", "postgresql:", "postgres:")


class CannotLoad(Exception):
    """Raised when there is no such Tasks; what its module raises is raised as it is."""


def load(target: str, *, folder: str = "") -> Tasks:
    """Import a Tasks: `module:attribute`, or a module that has one called `tasks`, or just one.

    A store's URL will do where no task is called.

    Raises CannotLoad when there is none; what the module raises is raised as it is.
    """
    if target.startswith(_STORES):
        path = target.removeprefix("sqlite:").removeprefix("///")
        # A store that is named here is there: a mistyped name would make one.
        if target.startswith("sqlite:") and not os.path.exists(path):
            raise CannotLoad(f"there is no job store {path}")
        return Tasks(target)
    sys.path.insert(0, folder or ".")
    name, _, attribute = target.partition(":")
    if not name:
        raise CannotLoad(f"{target!r} names no module: MODULE:TASKS is wanted")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Of a module that is there, and misses another, the traceback is worth seeing.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise CannotLoad(f"there is no module {error.name!r} here, nor on sys.path") from None
    found = _attribute(module, name, attribute) if attribute else _only(module, name)
    if not isinstance(found, Tasks):
        raise CannotLoad(f"{target} is a {type(found).__name__}, and a roving.tasks.Tasks is wanted")
    return found


def _attribute(module: Any, name: str, attribute: str) -> Any:
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(f"module {name!r} has no {attribute!r}") from None
    return found


def _only(module: Any, name: str) -> Any:
    if isinstance(getattr(module, _USUAL, None), Tasks):
        return getattr(module, _USUAL)
    all = [value for value in vars(module).values() if isinstance(value, Tasks)]
    if len(all) != 1:
        said = "none" if not all else f"{len(all)} of them"
        raise CannotLoad(f"module {name!r} has no Tasks called {_USUAL!r}, and {said} else: say {name}:NAME")
    return all[0]
