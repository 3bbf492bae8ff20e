"""Listening: what the option `bind` says, and the sockets it stands for."""

import contextlib
import os
import socket
import stat
from collections.abc import MutableMapping

__all__ = ["Listening", "activated", "listen", "parse", "place"]


class Listening:
    """A socket that listens; its descriptor is given away, to be closed by whoever accepts there."""

    def __init__(self, listener: socket.socket, path: str | None, where: str) -> None:
        """Take over a socket; `path` is that of a Unix socket made here, `where` what it was asked for by."""
        self.socket = listener
        self.path = path
        self.where = where
        self.owned = True
        """Whether the file of a Unix socket is ours to remove, not that of another process that listens."""
        self.descriptor: int | None = None
        """Another one for the same socket, ours to keep, to be given to another process; see share."""
        self.is_unix = listener.family == socket.AF_UNIX

    def share(self) -> None:
        """Keep a descriptor, so that another process can be given the socket."""
        if self.descriptor is None:
            self.descriptor = os.dup(self.socket.fileno())

    def release(self) -> None:
        """Keep it no longer: while we did, clients could connect, whoever has stopped to accept."""
        if self.descriptor is not None:
            os.close(self.descriptor)
            self.descriptor = None

    def end(self) -> None:
        """Listen no more, as far as this is concerned, and remove the file of a Unix socket."""
        self.release()
        if self.path is not None and self.owned:
            # Somebody else may have.
            with contextlib.suppress(OSError):
                os.unlink(self.path)
            self.owned = False


def parse(text: str) -> tuple[str, str | tuple[str, int] | int]:
    """Say what a `bind` stands for: ("tcp", (host, port)), ("unix", path) or ("fd", number).

    Raises ValueError for what is none of them.

    >>> parse("[::1]:8000")
    ('tcp', ('::1', 8000))
    """
    if text.startswith("unix:"):
        path = text.removeprefix("unix:").removeprefix("//")
        if not path:
            raise ValueError(f"{text!r} names no path")
        return "unix", path
    if text.startswith("fd://"):
        number = text.removeprefix("fd://")
        if not number.isdecimal():
            raise ValueError(f"{text!r} names no descriptor: fd:// and a number")
        return "fd", int(number)
    host, colon, port = text.removeprefix("tcp://").rpartition(":")
    if not colon:
        host, port = port, "8000"
    if host.startswith("[") and host.endswith("]"):
        host = host[1:-1]
    elif ":" in host:
        raise ValueError(f"{text!r} is no HOST:PORT: an IPv6 address stands in brackets")
    if not port.isdecimal() or int(port) > 65535:
        raise ValueError(f"{text!r} is no HOST:PORT: {port!r} is no port")
    return "tcp", (host, int(port))


def place(host: str, port: str) -> str:
    """Write an address down as `bind` has it; without a port it is a path."""
    if not port:
        return f"unix:{host}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def listen(text: str, backlog: int) -> Listening:
    """Listen where `text` says. Raises ValueError and OSError, which names the place."""
    kind, place = parse(text)
    try:
        if kind == "tcp":
            assert isinstance(place, tuple)
            return Listening(_tcp(*place, backlog), None, text)
        if kind == "unix":
            assert isinstance(place, str)
            return Listening(_unix(place, backlog), os.path.abspath(place), text)
        assert isinstance(place, int)
        return Listening(_inherited(place), None, text)
    except OSError as error:
        raise OSError(error.errno, f"cannot listen on {text}: {error.strerror or error}") from None


def _tcp(host: str, port: int, backlog: int) -> socket.socket:
    found = socket.getaddrinfo(host or "0.0.0.0", port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, kind, protocol, _, address = found[0]
    listener = socket.socket(family, kind, protocol)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind(address)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _unix(path: str, backlog: int) -> socket.socket:
    _remove_stale(path)
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        listener.bind(path)
        listener.listen(backlog)
    except BaseException:
        listener.close()
        raise
    return listener


def _remove_stale(path: str) -> None:
    """Remove a socket that nobody listens on any more; any other file is left, and makes the bind fail."""
    try:
        if not stat.S_ISSOCK(os.stat(path).st_mode):
            return
    except OSError:
        return
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
        except OSError:
            return


def _inherited(number: int) -> socket.socket:
    listener = socket.socket(fileno=os.dup(number))
    try:
        listening = listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
        if not listening:
            raise OSError(0, "it does not listen")
    except BaseException:
        listener.close()
        raise
    return listener


# The first of the descriptors that systemd passes: sd_listen_fds(3).
_FIRST = 3


def activated(environment: MutableMapping[str, str]) -> list[tuple[str, Listening]]:
    """Take over the sockets that systemd passed to this process, each with its name, which may be nothing.

    What says so is taken out of the environment: it is not meant for children. Raises OSError when one of
    them is no socket that listens, ValueError when their number makes no sense.
    """
    number, count, names = (
        environment.pop(name, "") for name in ("LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
    )
    if not count or number != str(os.getpid()):
        return []
    if not count.isdecimal():
        raise ValueError(f"LISTEN_FDS: {count!r} is not a number")
    called = names.split(":") if names else []
    found = []
    for index in range(int(count)):
        try:
            listener = socket.socket(fileno=_FIRST + index)
            if not listener.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN):
                listener.detach()
                raise OSError(0, "it does not listen")
        except OSError as error:
            raise OSError(
                error.errno, f"LISTEN_FDS: descriptor {_FIRST + index}: {error.strerror or error}"
            ) from None
        listener.set_inheritable(False)
        name = called[index] if index < len(called) else ""
        found.append((name, Listening(listener, None, "")))
    return found
