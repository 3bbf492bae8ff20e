"""Finding what a command is given as MODULE:NAME."""

import importlib
import sys
from typing import Any

__all__ = ["CannotLoad", "attribute", "imported"]


class CannotLoad(Exception):
    """Raised when there is no such thing; what its module raises is raised as it is."""


def imported(target: str, folder: str, wanted: str) -> tuple[Any, str, str]:
    """Import a target's module, looked for in `folder` first; give it, its name and the rest of the target.

    Raises CannotLoad when there is no such module; `wanted` says what the target is to look like.
    """
    sys.path.insert(0, folder or ".")
    name, _, rest = target.partition(":")
    if not name:
        raise CannotLoad(f"{target!r} names no module: {wanted} is wanted")
    try:
        return importlib.import_module(name), name, rest
    except ModuleNotFoundError as error:
        # Of a module that is there, and misses another, the traceback is worth seeing.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise CannotLoad(f"there is no module {error.name!r} here, nor on sys.path") from None


def attribute(module: Any, name: str, path: str) -> Any:
    """Give what a module of this name has at `path`, dots and all. Raises CannotLoad where it has nothing."""
    found = module
    for part in path.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(f"module {name!r} has no {path!r}") from None
    return found
