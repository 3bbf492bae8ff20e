"""A server that runs in this process."""

from __future__ import annotations

from types import TracebackType
from typing import Any

from roving._roving import _Server
from roving.serve import _log
from roving.serve._bind import Listening, listen
from roving.serve._options import settings

__all__ = ["ServerHandle", "start"]


class ServerHandle:
    """A server that runs: what roving.serve returns. A context manager, which closes it."""

    def __init__(self, server: _Server, listening: list[Listening], scheme: str = "http") -> None:
        """Made by roving.serve."""
        self._server = server
        self._listening = listening
        self._addresses = server.addresses()
        self._scheme = scheme

    @property
    def addresses(self) -> list[str]:
        """Where it listens, each as `bind` has it."""
        return [_place(host, port) for host, port in self._addresses]

    @property
    def url(self) -> str:
        """The first TCP address, as a URL. Raises ValueError when it listens on Unix sockets alone."""
        for host, port in self._addresses:
            if port:
                host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
                return f"{self._scheme}://{_place(host, port)}"
        raise ValueError("the server listens on no TCP port")

    @property
    def port(self) -> int:
        """The first TCP port. Raises ValueError when it listens on Unix sockets alone."""
        for _, port in self._addresses:
            if port:
                return int(port)
        raise ValueError("the server listens on no TCP port")

    def stats(self) -> dict[str, int]:
        """How it does: connections, and requests in_flight, queued, refused and malformed."""
        return self._server.stats()

    def reload_tls(self) -> bool:
        """Read the certificate, its key and the authorities of clients again, and use them from now on.

        Connections that are there go on as they are. Returns whether the server speaks TLS at all. Raises
        ValueError when something is wrong with the files: those from before stay in use then.
        """
        return self._server.reload_tls()

    def stop(self) -> None:
        """Accept no more connections; close those there are after the requests they are at. At once."""
        for listening in self._listening:
            listening.unlink()
        self._server.stop()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped and all is finished; return whether it has in `timeout` seconds."""
        return self._server.wait(timeout)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Stop, finish what is in flight within `timeout` seconds, and break off the rest.

        Returns whether all was finished. Fibers of requests that are broken off are cancelled.
        """
        self.stop()
        if self._server.wait(timeout):
            return True
        self._server.cut()
        self._server.wait(1.0)
        return False

    def __enter__(self) -> ServerHandle:
        """Return the handle."""
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None, /
    ) -> None:
        """Close it."""
        self.close()

    def __repr__(self) -> str:
        """Say where it listens."""
        return f"<roving server on {', '.join(self.addresses)}>"


def _place(host: str, port: str) -> str:
    if not port:
        return f"unix:{host}"
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def start(application: Any, bind: list[str], options: dict[str, Any]) -> ServerHandle:
    """Serve an application; see roving.serve."""
    if not bind:
        raise ValueError("a server needs something to bind to")
    backlog, native = settings(options)
    listening: list[Listening] = []
    try:
        for place in bind:
            listening.append(listen(place, backlog))
        descriptors = [(each.socket.detach(), is_unix) for each in listening for is_unix in [each.is_unix]]
        native["malformed"] = _log.malformed
        server = _Server(application, descriptors, _log.report, _log.ErrorStream, native)
    except BaseException:
        for each in listening:
            each.socket.close()
            each.unlink()
        raise
    return ServerHandle(server, listening, "https" if "tls" in native else "http")
