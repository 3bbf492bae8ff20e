"""The admin listener: health, readiness and metrics, apart from the application."""

import sys
from collections.abc import Iterable

from roving._roving import _Admin, _Server
from roving.serve._bind import Listening, listen, place

__all__ = ["AdminListener"]

_BACKLOG = 64


class AdminListener:
    """Answers /healthz, /readyz and /metrics from the moment it is made, on a thread that runs no Python."""

    def __init__(self, bind: Iterable[str | Listening]) -> None:
        """Listen there. Raises ValueError and OSError, as bind does."""
        listening: list[Listening] = []
        try:
            for where in bind:
                listening.append(listen(where, _BACKLOG) if isinstance(where, str) else where)
            kinds = [each.is_unix for each in listening]
            descriptors = [
                (each.socket.detach(), is_unix) for each, is_unix in zip(listening, kinds, strict=True)
            ]
            self._admin = _Admin(descriptors, ".".join(map(str, sys.version_info[:3])))
        except BaseException:
            for each in listening:
                each.socket.close()
                each.unlink()
            raise
        self._listening = listening

    @property
    def addresses(self) -> list[str]:
        """Where it listens, each as `bind` has it."""
        return [place(host, port) for host, port in self._admin.addresses()]

    def watch(self, server: _Server) -> None:
        """Be ready when this server is, and tell its metrics."""
        self._admin.watch(server)

    def close(self) -> None:
        """Answer no more."""
        for each in self._listening:
            each.unlink()
        self._admin.stop()
