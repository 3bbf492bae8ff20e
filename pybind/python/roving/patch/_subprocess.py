"""Waits for processes and signals, and the pipes to processes.

The functions of `os` and `signal` are changed in place (`shim/hooks.c`) and call what stands here, in
fibers; so are the methods of `io.FileIO` (`shim/pipes.c`), through which pipes are read. Only the wait with a
timeout of `subprocess.Popen` is changed in Python, in the class: all objects have it.

A fiber that waits for one process parks on its pidfd. What has none (any child, a group, a stop) is waited
for on a thread of the pool, which only looks: it never takes a status away, whatever becomes of the fiber.
"""

import os
import signal
import subprocess
from collections.abc import Callable
from contextlib import suppress
from time import monotonic
from types import ModuleType
from typing import Any, Protocol

from roving._roving import _hook, _switch, blocking, current, wait_readable

__all__ = ["install", "is_on", "uninstall"]

_originals: dict[str, Callable[..., Any]] = {}

# What a pidfd tells nothing of.
_STOPS = os.WUNTRACED | os.WCONTINUED


def _ended(pid: int) -> bool:
    """Wait until a process has ended; False where that cannot be told."""
    try:
        fd = os.pidfd_open(pid)
    except ProcessLookupError:
        return True
    except OSError:
        # No room for descriptors, or a kernel, or a sandbox, without them.
        return False
    try:
        wait_readable(fd)
    finally:
        os.close(fd)
    return True


def _changed(kind: int, number: int, options: int) -> None:
    """Wait until a child has changed as waitid(kind, number, options) says."""
    if kind == os.P_PID and not options & _STOPS and _ended(number):
        return
    if kind == os.P_PIDFD and not options & _STOPS:
        wait_readable(number)
        return
    # Somebody else may have waited for it: the caller will be told.
    with suppress(ChildProcessError):
        blocking(os.waitid, kind, number, options | os.WNOWAIT)


def _wait_for(pid: int, options: int) -> None:
    kinds = {-1: (os.P_ALL, 0), 0: (os.P_PGID, os.getpgrp())}
    kind, number = kinds.get(pid) or ((os.P_PID, pid) if pid > 0 else (os.P_PGID, -pid))
    _changed(kind, number, os.WEXITED | options & _STOPS)


def _waitpid(pid: int, options: int, /) -> tuple[int, int]:
    while True:
        found: tuple[int, int] = _originals["waitpid"](pid, options | os.WNOHANG)
        if found[0] != 0 or options & os.WNOHANG:
            return found
        _wait_for(pid, options)


def _wait() -> tuple[int, int]:
    return _waitpid(-1, 0)


def _wait3(options: int) -> tuple[int, int, Any]:
    while True:
        found: tuple[int, int, Any] = _originals["wait3"](options | os.WNOHANG)
        if found[0] != 0 or options & os.WNOHANG:
            return found
        _wait_for(-1, options)


def _wait4(pid: int, options: int) -> tuple[int, int, Any]:
    while True:
        found: tuple[int, int, Any] = _originals["wait4"](pid, options | os.WNOHANG)
        if found[0] != 0 or options & os.WNOHANG:
            return found
        _wait_for(pid, options)


def _waitid(idtype: int, id: int, options: int, /) -> Any:
    while True:
        found = _originals["waitid"](idtype, id, options | os.WNOHANG)
        if found is not None or options & os.WNOHANG:
            return found
        _changed(idtype, id, options)


def _in_pool(name: str) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        return blocking(_originals[name], *args, **kwargs)

    return call


_PROCESSES: dict[str, Callable[..., Any]] = {
    "waitpid": _waitpid,
    "wait": _wait,
    "wait3": _wait3,
    "wait4": _wait4,
    "waitid": _waitid,
    "system": _in_pool("system"),
}
_SIGNALS = {name: _in_pool(name) for name in ("sigwait", "sigwaitinfo", "sigtimedwait", "pause")}
_HOOKS: dict[str, tuple[ModuleType, dict[str, Callable[..., Any]]]] = {
    "subprocess": (os, _PROCESSES),
    "signal": (signal, _SIGNALS),
}


class _Waits(Protocol):
    pid: int
    args: Any
    returncode: int | None


_popen_wait: Callable[[_Waits, float | None], int] | None = None


def _wait_popen(self: _Waits, timeout: float | None) -> int:
    """Wait as Popen._wait, which with a timeout looks every 50 ms at last, and sleeps in between."""
    assert _popen_wait is not None
    if timeout is None or timeout <= 0 or self.returncode is not None or current() is None:
        return _popen_wait(self, timeout)
    try:
        fd = os.pidfd_open(self.pid)
    except OSError:
        return _popen_wait(self, timeout)
    end = monotonic() + timeout
    try:
        wait_readable(fd, timeout)
    except TimeoutError:
        pass
    finally:
        os.close(fd)
    try:
        # Somebody else may be about to take the status: then there is a little to wait yet.
        return _popen_wait(self, max(end - monotonic(), 0))
    except subprocess.TimeoutExpired:
        raise subprocess.TimeoutExpired(self.args, timeout) from None


def install(part: str) -> None:
    """Have fibers park that wait for processes ("subprocess"), pipes ("pipe") or signals ("signal")."""
    global _popen_wait
    _switch(part, True)
    module, hooks = _HOOKS.get(part, (os, {}))
    for name, hook in hooks.items():
        if hasattr(module, name) and name not in _originals:
            _originals[name] = _hook(name, None)
            _hook(name, hook)
    if part == "subprocess" and _popen_wait is None:
        _popen_wait = subprocess.Popen._wait  # type: ignore[attr-defined]
        subprocess.Popen._wait = _wait_popen  # type: ignore[attr-defined]


def uninstall(part: str) -> None:
    """Have them hold up their workers again."""
    global _popen_wait
    _switch(part, False)
    if part == "subprocess" and _popen_wait is not None:
        subprocess.Popen._wait = _popen_wait  # type: ignore[attr-defined]
        _popen_wait = None


def is_on() -> bool:
    """Whether Popen's wait with a timeout is changed."""
    return _popen_wait is not None
