"""Have blocking calls of the standard library park the fiber that makes them.

>>> import roving
>>> roving.patch.all()
>>> import time
>>> fibers = [roving.spawn(time.sleep, 0.1) for _ in range(1000)]
>>> for fiber in fibers:
...     fiber.join()

That takes a tenth of a second. `roving run prog.py` patches before the program is imported.

CPython's own functions and methods are changed in place. So it does not matter what was imported before,
under which name, or which sockets exist already. On a plain thread they are what they were; in a fiber they
wait without holding up other fibers. `docs/PATCHING.md` says what is patched, how, and what is not.
"""

from roving._roving import _patch, _patches

__all__ = ["all", "report", "undo"]


def all(
    *,
    time: bool = True,
    socket: bool = True,
    dns: bool = True,
    select: bool = True,
    os: bool = True,
    ssl: bool = True,
) -> None:
    """Patch the standard library, but for what is switched off; what is patched already stays so.

    `time`: time.sleep. `socket`: the methods of sockets, and with them http, socketserver, urllib and
    whatever else uses them. `dns`: getaddrinfo, gethostbyname, gethostbyname_ex, gethostbyaddr,
    getnameinfo, on threads of the pool. `select`: select, poll and epoll, and with them selectors and
    asyncio. `os`: read, write and their like on pipes, terminals and sockets, and close. `ssl`: TLS over
    sockets, and with it https. Parts may be added by later calls, at any time.

    Raises RuntimeError if this interpreter's functions are not as roving knows them; then nothing of that
    part is changed.
    """
    parts = {"time": time, "socket": socket, "dns": dns, "select": select, "os": os, "ssl": ssl}
    for name, wanted in parts.items():
        if wanted:
            _patch(name, True)


def undo() -> None:
    """Take everything that `all` has put in place out again.

    Calls that fibers are in the middle of end as they would have; later ones hold up their worker. Raises
    RuntimeError in a fiber.
    """
    for name in report():
        _patch(name, False)


def report() -> dict[str, tuple[str, ...]]:
    """Say what is patched: for each part the names of the functions and methods that are.

    >>> roving.patch.report()["time"]
    ('time.sleep',)
    """
    found: dict[str, list[str]] = {}
    for part, place, name, on in _patches():
        names = found.setdefault(part, [])
        if on:
            names.append(f"{place}.{name}")
    return {part: tuple(names) for part, names in found.items()}
