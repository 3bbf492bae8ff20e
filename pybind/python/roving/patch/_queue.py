"""queue.SimpleQueue, changed in place (`shim/simplequeue.c`).

The other queues stand on locks, which need no patch.
"""

from roving._roving import _switch

__all__ = ["install", "uninstall"]


def install() -> None:
    """Have fibers that wait for an item park."""
    _switch("queue", True)


def uninstall() -> None:
    """Have them hold up their worker again; those that are parked already are woken all the same."""
    _switch("queue", False)
