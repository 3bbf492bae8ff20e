"""Executors of concurrent.futures whose calls run in fibers.

>>> with roving.futures.FiberExecutor() as executor:
...     future = executor.submit(pow, 2, 3)
>>> future.result()
8

FiberExecutor: a ThreadPoolExecutor whose calls run in fibers. FiberFuture: what its submit returns.
"""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from roving._executor import FiberExecutor, FiberFuture

__all__ = ["FiberExecutor", "FiberFuture"]


# concurrent.futures takes longer to import than all the rest of roving: it is imported by whoever asks for a
# name of this module. The package itself must do without a `__getattr__`: see there.
def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from roving import _executor

    # Both at once, and never taken back: whoever asks at the same time finds them.
    globals().update({known: getattr(_executor, known) for known in __all__})
    return getattr(_executor, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
