"""Finding the application."""

import importlib
import sys
from typing import Any

__all__ = ["CannotLoad", "load"]

_USUAL = ("application", "app")


class CannotLoad(Exception):
    """Raised when there is no such application; what its module raises is raised as it is."""


def load(target: str, *, folder: str = "", factory: bool = False) -> Any:
    """Import an application: `module:attribute`, or a module that has one called `application` or `app`.

    With `factory` it is called, and gives the application. Raises CannotLoad when the module, or the
    attribute, is not there, or is no callable; what the module, or the factory, raises is raised as it is.

    >>> load("shop.wsgi:application")
    <function application>
    """
    sys.path.insert(0, folder or ".")
    name, _, attribute = target.partition(":")
    if not name:
        raise CannotLoad(f"{target!r} names no module: MODULE:APPLICATION is wanted")
    try:
        module = importlib.import_module(name)
    except ModuleNotFoundError as error:
        # Of a module that is there, and misses another, the traceback is worth seeing.
        if error.name is None or not (name == error.name or name.startswith(error.name + ".")):
            raise
        raise CannotLoad(f"there is no module {error.name!r} here, nor on sys.path") from None
    application = _attribute(module, name, attribute)
    if factory:
        if not callable(application):
            raise CannotLoad(f"{target} is no factory: {type(application).__name__} is not callable")
        application = application()
    if not callable(application):
        raise CannotLoad(f"{target} is no WSGI application: {type(application).__name__} is not callable")
    return application


def _attribute(module: Any, name: str, attribute: str) -> Any:
    if not attribute:
        for usual in _USUAL:
            if hasattr(module, usual):
                return getattr(module, usual)
        raise CannotLoad(f"module {name!r} has neither {' nor '.join(_USUAL)}: say {name}:NAME")
    found = module
    for part in attribute.split("."):
        try:
            found = getattr(found, part)
        except AttributeError:
            raise CannotLoad(f"module {name!r} has no {attribute!r}") from None
    return found
