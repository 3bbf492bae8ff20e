"""Green threads that use every core.

>>> import roving
>>> fiber = roving.spawn(pow, 2, 10)
>>> fiber.join()
1024

A *fiber* is a function call that runs beside its caller, on any core, with a stack of its own. Code in it is
ordinary code: it blocks where it waits, and other fibers run meanwhile. Thousands are cheap.
"""

from roving._roving import (
    Cancelled,
    Fiber,
    FiberCancelled,
    UnjoinedFailure,
    configure,
    current,
    excepthook,
    no_preempt,
    run,
    sleep,
    spawn,
    stats,
    yield_now,
)

__all__ = [
    "Cancelled",
    "Fiber",
    "FiberCancelled",
    "UnjoinedFailure",
    "configure",
    "current",
    "excepthook",
    "no_preempt",
    "run",
    "sleep",
    "spawn",
    "stats",
    "yield_now",
]
