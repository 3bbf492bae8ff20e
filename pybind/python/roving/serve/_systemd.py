"""What systemd is told of a service of the types notify and notify-reload: sd_notify(3)."""

import contextlib
import socket
import time
from collections.abc import Mapping

__all__ = ["Notifier"]


class Notifier:
    """Tells whoever started the process, if that is to be told."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        """Tell the socket that NOTIFY_SOCKET names, or nobody."""
        self._path = environment.get("NOTIFY_SOCKET", "")

    def _send(self, **fields: str | int) -> None:
        if not self._path:
            return
        address = "\0" + self._path[1:] if self._path.startswith("@") else self._path
        text = "\n".join(f"{name}={value}" for name, value in fields.items())
        # That nobody listens is nothing to end for.
        with (
            contextlib.suppress(OSError),
            socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_CLOEXEC) as notify,
        ):
            notify.sendto(text.encode(), address)

    def ready(self) -> None:
        """It serves; a reload, if there was one, is over."""
        self._send(READY=1)

    def reloading(self) -> None:
        """A reload begins."""
        # CLOCK_MONOTONIC, by which systemd knows which notification belongs to which reload.
        self._send(RELOADING=1, MONOTONIC_USEC=time.monotonic_ns() // 1000)

    def successor(self, number: int) -> None:
        """Another process is the service's main process now, and it serves."""
        self._send(MAINPID=number, READY=1)

    def stopping(self) -> None:
        """It stops."""
        self._send(STOPPING=1)
