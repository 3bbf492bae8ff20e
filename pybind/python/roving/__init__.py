"""Green threads that use every core.

>>> import roving
>>> fiber = roving.spawn(pow, 2, 10)
>>> fiber.join()
1024

A *fiber* is a function call that runs beside its caller, on any core, with a stack of its own. Code in it is
ordinary code: it blocks where it waits, and other fibers run meanwhile. Thousands are cheap.
"""

from roving import patch

# No `__getattr__` here: with one the interpreter specialises no `roving.name`, which adds 30 ns to each.
from roving._dump import dump
from roving._map import map
from roving._roving import (
    BoundedSemaphore,
    Cancelled,
    Channel,
    Closed,
    Condition,
    Deadlock,
    Event,
    Fiber,
    FiberCancelled,
    Lock,
    Options,
    RecvOp,
    RLock,
    RovingInternalError,
    Scope,
    Semaphore,
    SendOp,
    Shield,
    Timeout,
    UnjoinedFailure,
    WouldBlock,
    blocking,
    checkpoint,
    configure,
    current,
    excepthook,
    fibers,
    move_on_after,
    no_preempt,
    options,
    run,
    scope,
    select,
    shield,
    sleep,
    spawn,
    stats,
    timeout,
    wait_readable,
    wait_writable,
    yield_now,
)
from roving._sync import Barrier, LifoQueue, PriorityQueue, Queue

__all__ = [
    "Barrier",
    "BoundedSemaphore",
    "Cancelled",
    "Channel",
    "Closed",
    "Condition",
    "Deadlock",
    "Event",
    "Fiber",
    "FiberCancelled",
    "LifoQueue",
    "Lock",
    "Options",
    "PriorityQueue",
    "Queue",
    "RLock",
    "RecvOp",
    "RovingInternalError",
    "Scope",
    "Semaphore",
    "SendOp",
    "Shield",
    "Timeout",
    "UnjoinedFailure",
    "WouldBlock",
    "blocking",
    "checkpoint",
    "configure",
    "current",
    "dump",
    "excepthook",
    "fibers",
    "map",
    "move_on_after",
    "no_preempt",
    "options",
    "patch",
    "run",
    "scope",
    "select",
    "shield",
    "sleep",
    "spawn",
    "stats",
    "timeout",
    "wait_readable",
    "wait_writable",
    "yield_now",
]
