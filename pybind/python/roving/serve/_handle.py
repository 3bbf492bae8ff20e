"""A server that runs in this process."""

from __future__ import annotations

import time
from types import TracebackType
from typing import Any

from roving._roving import _Server
from roving.serve import _log
from roving.serve._admin import AdminListener
from roving.serve._bind import Listening, listen, place
from roving.serve._options import settings

__all__ = ["ServerHandle", "start"]


class ServerHandle:
    """A server that runs: what roving.serve returns. A context manager, which closes it."""

    def __init__(
        self,
        server: _Server,
        listening: list[Listening],
        admin: AdminListener | None,
        scheme: str = "http",
    ) -> None:
        """Made by roving.serve."""
        self._server = server
        self._admin = admin
        self.listening = listening
        self._addresses = server.addresses()
        self._scheme = scheme

    @property
    def addresses(self) -> list[str]:
        """Where it listens, each as `bind` has it."""
        return [place(host, port) for host, port in self._addresses]

    @property
    def admin_addresses(self) -> list[str]:
        """Where it answers /healthz, /readyz and /metrics, each as `admin_bind` has it."""
        return [] if self._admin is None else self._admin.addresses

    @property
    def url(self) -> str:
        """The first TCP address, as a URL. Raises ValueError when it listens on Unix sockets alone."""
        for host, port in self._addresses:
            if port:
                host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
                return f"{self._scheme}://{place(host, port)}"
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
        for listening in self.listening:
            listening.end()
        self._server.stop()

    def hand_over(self) -> None:
        """Leave what it listens on to another process, which accepts there already. At once.

        What is here is finished: requests are answered, and their clients told to connect anew. The admin
        listener is the other's as well.
        """
        if self._admin is not None:
            self._admin.leave()
        self._server.hand_over()

    def wait(self, timeout: float | None = None) -> bool:
        """Wait until it has stopped and all is finished; return whether it has in `timeout` seconds."""
        return self._server.wait(timeout)

    def close(self, timeout: float | None = 5.0) -> bool:
        """Stop, finish what is in flight within `timeout` seconds, and break off the rest.

        Returns whether all was finished. Fibers of requests that are broken off are cancelled.
        """
        self.stop()
        finished = self._server.wait(timeout)
        if not finished:
            self._server.cut()
            self._server.wait(1.0)
        self._server.drop_locals()
        self._finish_log()
        if self._admin is not None:
            # Last: while the server drains it says so.
            self._admin.close()
        return finished

    def reopen_log(self) -> None:
        """Go on with a new file of the access log's name; for when the old one was moved away.

        Raises OSError when it cannot be opened: the old one is gone on with then.
        """
        self._server.reopen_log()

    def _finish_log(self) -> None:
        """Give the thread that writes the access log a while for what is left."""
        until = time.monotonic() + 1.0
        while not self._server.log_status()[0] and time.monotonic() < until:
            time.sleep(0.001)
        if lost := self._server.log_status()[1]:
            _log.logger.warning("%d lines of the access log were lost: nobody took them in time", lost)

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


def start(
    application: Any,
    bind: list[str | Listening],
    options: dict[str, Any],
    admin: AdminListener | None = None,
    *,
    shared: bool = False,
) -> ServerHandle:
    """Serve an application; see roving.serve.

    `admin`: a listener that is there already. `shared`: another process may be given what it listens on.
    """
    if not bind:
        raise ValueError("a server needs something to bind to")
    options = dict(options)
    admin_bind = options.pop("admin_bind", None)
    if admin is None and admin_bind:
        admin = AdminListener([admin_bind] if isinstance(admin_bind, str) else admin_bind)
    try:
        backlog, native = settings(options)
        native["meter"] = admin is not None
        server, listening = _start(application, bind, backlog, native, shared)
    except BaseException:
        if admin is not None:
            admin.close()
        raise
    if admin is not None:
        try:
            admin.watch(server)
        except BaseException:
            ServerHandle(server, listening, None).close(0.0)
            raise
    return ServerHandle(server, listening, admin, "https" if "tls" in native else "http")


def _start(
    application: Any, bind: list[str | Listening], backlog: int, native: dict[str, Any], shared: bool
) -> tuple[_Server, list[Listening]]:
    listening: list[Listening] = []
    try:
        for where in bind:
            listening.append(listen(where, backlog) if isinstance(where, str) else where)
            if shared:
                listening[-1].share()
        descriptors = [(each.socket.detach(), is_unix) for each in listening for is_unix in [each.is_unix]]
        native["malformed"] = _log.malformed
        native["ignored"] = _log.ignored
        server = _Server(application, descriptors, _log.report, _log.ErrorStream, native)
    except BaseException:
        for each in listening:
            each.socket.close()
            each.end()
        raise
    return server, listening
