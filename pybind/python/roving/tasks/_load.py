"""Finding the Tasks that a command is about."""

from __future__ import annotations

import os
from typing import Any

from roving._target import CannotLoad, attribute, imported
from roving.tasks._app import Tasks

__all__ = ["CannotLoad", "load"]

_USUAL = "tasks"
_STORES = ("sqlite:", "memory:", "postgresql:", "postgres:")


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
    module, name, rest = imported(target, folder, "MODULE:TASKS")
    found = attribute(module, name, rest) if rest else _only(module, name)
    if not isinstance(found, Tasks):
        raise CannotLoad(f"{target} is a {type(found).__name__}, and a roving.tasks.Tasks is wanted")
    return found


def _only(module: Any, name: str) -> Any:
    if isinstance(getattr(module, _USUAL, None), Tasks):
        return getattr(module, _USUAL)
    all = [value for value in vars(module).values() if isinstance(value, Tasks)]
    if len(all) != 1:
        said = "none" if not all else f"{len(all)} of them"
        raise CannotLoad(f"module {name!r} has no Tasks called {_USUAL!r}, and {said} else: say {name}:NAME")
    return all[0]
