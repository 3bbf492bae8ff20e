"""Finding the application."""

from typing import Any

from roving import _target
from roving._target import CannotLoad, imported

__all__ = ["CannotLoad", "load"]

_USUAL = ("application", "app")


def load(target: str, *, folder: str = "", factory: bool = False) -> Any:
    """Import an application: `module:attribute`, or a module that has one called `application` or `app`.

    With `factory` it is called, and gives the application. Raises CannotLoad when the module, or the
    attribute, is not there, or is no callable; what the module, or the factory, raises is raised as it is.

    >>> load("shop.wsgi:application")
    <function application>
    """
    module, name, attribute = imported(target, folder, "MODULE:APPLICATION")
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
    return _target.attribute(module, name, attribute)
