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

from typing import Literal

from roving._roving import _patch, _patches, _seams, current
from roving.patch import _queue, _threading
from roving.patch._threading import NativeThread, native_threads

__all__ = ["NativeThread", "all", "native_threads", "report", "undo"]


def all(
    *,
    time: bool = True,
    socket: bool = True,
    dns: bool = True,
    select: bool = True,
    os: bool = True,
    thread: bool | Literal["fiber", "native"] = True,
    queue: bool = True,
    pipe: bool = True,
    subprocess: bool = True,
    signal: bool = True,
    ssl: bool = True,
    sqlite: bool = True,
) -> None:
    """Patch the standard library, but for what is switched off; what is patched already stays so.

    `time`: time.sleep. `socket`: the methods of sockets, and with them http, socketserver, urllib and
    whatever else uses them. `dns`: getaddrinfo, gethostbyname, gethostbyname_ex, gethostbyaddr,
    getnameinfo, on threads of the pool. `select`: select, poll and epoll, and with them selectors and
    asyncio. `os`: read, write and their like on pipes, terminals and sockets, and close. `thread`: threads
    that are started from now on are fibers, or, with "native", threads of the system's, for which fibers
    wait parked. `queue`: SimpleQueue. `pipe`: files over pipes, terminals and sockets, as those of
    subprocess. `subprocess`: waits for processes, and system. `signal`: waits for signals, on threads of the
    pool. `ssl`: TLS over sockets, and with it https. `sqlite`: waits of sqlite3 for the locks of a database.
    Parts may be added by later calls, at any time.

    Raises RuntimeError if this interpreter's functions are not as roving knows them; then nothing of that
    part is changed.
    """
    parts = {"time": time, "socket": socket, "dns": dns, "select": select, "os": os, "ssl": ssl}
    parts["sqlite"] = sqlite
    for name, wanted in parts.items():
        if wanted:
            _patch(name, True)
    if thread not in (True, False, "fiber", "native"):
        raise ValueError(f"thread is True, False, 'fiber' or 'native', not {thread!r}")
    if thread:
        _threading.install(native=thread == "native")
    if queue:
        _queue.install()
    processes = {"pipe": pipe, "subprocess": subprocess, "signal": signal}
    if any(processes.values()):
        # Not before: it imports subprocess, which takes longer than all of roving.
        from roving.patch import _subprocess

        for name, wanted in processes.items():
            if wanted:
                _subprocess.install(name)


def undo() -> None:
    """Take everything that `all` has put in place out again.

    Calls that fibers are in the middle of end as they would have; later ones hold up their worker. Raises
    RuntimeError in a fiber. Threads that are fibers stay so to their end.
    """
    if current() is not None:
        raise RuntimeError("roving.patch.undo is for plain threads")
    from roving.patch import _subprocess

    for name in {part for part, _, _, _ in _patches()}:
        _patch(name, False)
    for name, names in report().items():
        if name == "thread":
            _threading.uninstall()
        elif name == "queue":
            _queue.uninstall()
        elif names:
            _subprocess.uninstall(name)


def report() -> dict[str, tuple[str, ...]]:
    """Say what is patched: for each part the names of the functions and methods that are.

    >>> roving.patch.report()["time"]
    ('time.sleep',)
    """
    from roving.patch import _subprocess

    found: dict[str, list[str]] = {}
    for part, place, name, on in _patches():
        names = found.setdefault(part, [])
        if on:
            names.append(f"{place}.{name}")
    for part, module, kind, name, on in _seams():
        names = found.setdefault(part, [])
        if on:
            names.append(".".join(filter(None, (module, kind, name))))
    if _subprocess.is_on():
        found["subprocess"].append("subprocess.Popen._wait")
    return {part: tuple(names) for part, names in found.items()}
