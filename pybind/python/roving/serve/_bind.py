"""Listening: what the option `bind` says, and the sockets it stands for."""

import contextlib
import os
import socket
import stat

__all__ = ["Listening", "listen", "parse"]


class Listening:
    """A socket that listens; its descriptor is given away, to be closed by whoever accepts there."""

    def __init__(self, listener: socket.socket, path: str | None) -> None:
        """Take over a socket; `path` is that of a Unix socket made here."""
        self.socket = listener
        self.path = path

    @property
    def is_unix(self) -> bool:
        """Whether it is a Unix socket."""
        return self.socket.family == socket.AF_UNIX

    def unlink(self) -> None:
        """Remove the file of a Unix socket made here."""
        if self.path is not None:
            # Somebody else may have.
            with contextlib.suppress(OSError):
                os.unlink(self.path)


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


def listen(text: str, backlog: int) -> Listening:
    """Listen where `text` says. Raises ValueError and OSError, which names the place."""
    kind, place = parse(text)
    try:
        if kind == "tcp":
            assert isinstance(place, tuple)
            return Listening(_tcp(*place, backlog), None)
        if kind == "unix":
            assert isinstance(place, str)
            return Listening(_unix(place, backlog), os.path.abspath(place))
        assert isinstance(place, int)
        return Listening(_inherited(place), None)
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
