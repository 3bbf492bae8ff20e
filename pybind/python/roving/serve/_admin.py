"""The admin listener: health, readiness and metrics, apart from the application."""

import sys
from collections.abc import Iterable

from roving._roving import _Admin, _Server
from roving.serve._bind import Listening, listen, place

__all__ = ["AdminListener"]

_BACKLOG = 64


class AdminListener:
    """Answers /healthz, /readyz and /metrics, on a thread that runs no Python."""

    def __init__(self, bind: Iterable[str | Listening], *, shared: bool = False) -> None:
        """Listen there; nobody is answered before it begins. Raises ValueError and OSError, as bind does.

        `shared`: another process may be given what it listens on.
        """
        self._admin: _Admin | None = None
        self.listening: list[Listening] = []
        try:
            for where in bind:
                self.listening.append(listen(where, _BACKLOG) if isinstance(where, str) else where)
                if shared:
                    self.listening[-1].share()
        except BaseException:
            self._abandon()
            raise

    def begin(self, server: _Server | None = None) -> None:
        """Answer from now on: of this server, or that there is none yet."""
        try:
            kinds = [each.is_unix for each in self.listening]
            descriptors = [
                (each.socket.detach(), is_unix) for each, is_unix in zip(self.listening, kinds, strict=True)
            ]
            self._admin = _Admin(descriptors, ".".join(map(str, sys.version_info[:3])), server)
        except BaseException:
            self._abandon()
            raise

    def _abandon(self) -> None:
        for each in self.listening:
            each.socket.close()
            each.end()

    @property
    def addresses(self) -> list[str]:
        """Where it listens, each as `bind` has it."""
        return [] if self._admin is None else [place(host, port) for host, port in self._admin.addresses()]

    def watch(self, server: _Server) -> None:
        """Be ready when this server is, and tell its metrics."""
        if self._admin is None:
            self.begin(server)
        else:
            self._admin.watch(server)

    def leave(self) -> None:
        """Answer no more: another process does, on the same sockets."""
        if self._admin is not None:
            self._admin.stop()

    def close(self) -> None:
        """Answer no more."""
        for each in self.listening:
            each.end()
        if self._admin is None:
            self._abandon()
        else:
            self._admin.stop()
