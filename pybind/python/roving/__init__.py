"""Green threads that use every core.

>>> import roving
>>> fiber = roving.spawn(pow, 2, 10)
>>> fiber.join()
1024

A *fiber* is a function call that runs beside its caller, on any core, with a stack of its own. Code in it is
ordinary code: it blocks where it waits, and other fibers run meanwhile. Thousands are cheap. All of this
works in plain threads too.

Fibers
    spawn, options, run            start one; with a name, a stack size...; a whole program
    Fiber                          join, result, wait, exception, cancel, done, cancelled, id, name
    sleep, yield_now, checkpoint   wait; let others run; look whether one is to stop
    current, fibers, dump          who runs here; who there is; what they all do, as a text
Blocks
    scope                          own the fibers spawned in it: none outlives it
    timeout, move_on_after         limit it to so many seconds
    shield                         hold back cancellation, for clean-up
    no_preempt                     keep others of the worker out, between two waits
Waiting for one another
    Channel, select                values from fiber to fiber
    Lock, RLock, Condition, Semaphore, BoundedSemaphore, Event, Barrier
    Queue, LifoQueue, PriorityQueue
Many calls, and calls that block
    map                            lazy, in order, so many at once
    blocking                       on a thread made for it
    wait_readable, wait_writable   until a descriptor is ready
    futures.FiberExecutor          for what takes a concurrent.futures.Executor
Code that knows nothing of fibers
    patch                          its blocking calls park the fiber; so do those of `roving run program.py`
Servers and background jobs
    serve                          a WSGI application over HTTP; so does `roving serve module:app`
    tasks                          durable background jobs: import roving.tasks, `roving tasks worker module`
The runtime
    configure, stats               how it works; how it does
    excepthook                     is told of failures that nobody took

Fibers share objects as threads do, and need locks where threads need them. Cancellation and timeouts arrive
where a fiber waits, as Cancelled, which is no Exception. FiberCancelled is what joining a cancelled fiber
raises; Closed and WouldBlock come from channels; Deadlock when nobody can ever wake anybody;
RovingInternalError is a bug of roving's.
"""

# No `__getattr__` here: with one the interpreter specialises no `roving.name`, which adds 30 ns to each.
from roving import futures, patch
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
from roving.serve import serve

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
    "futures",
    "map",
    "move_on_after",
    "no_preempt",
    "options",
    "patch",
    "run",
    "scope",
    "select",
    "serve",
    "shield",
    "sleep",
    "spawn",
    "stats",
    "timeout",
    "wait_readable",
    "wait_writable",
    "yield_now",
]
