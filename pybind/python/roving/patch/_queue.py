"""queue.SimpleQueue, changed in place (`shim/simplequeue.c`): the other queues stand on locks, which need no patch."""

from roving._roving import _switch

__all__ = ["install", "uninstall"]


def install() -> None:
    """Have fibers that wait for an item park."""
    _switch("queues", True)


def uninstall() -> None:
    """Have them hold up their worker again. Those that are parked still are woken."""
    _switch("queues", False)
