"""Echo servers in Python, TCP and TLS, one a peer: what comes is sent back, until the standard input ends."""

import argparse
import contextlib
import json
import os
import socket
import ssl
import sys
import threading
from collections.abc import Callable
from typing import Any

SIZE = 64 << 10
# With --tls: for the server's side of it.
CONTEXTS: list[ssl.SSLContext] = []


def listener() -> socket.socket:
    """Listen on a port of the system's choice."""
    return socket.create_server(("127.0.0.1", 0), backlog=1024)


def ready(server: socket.socket) -> None:
    """Say where it listens."""
    print(json.dumps({"port": server.getsockname()[1]}), flush=True)


def echo(connection: socket.socket) -> None:
    """Serve one connection: plain blocking code, for fibers and threads alike."""
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for context in CONTEXTS:
        connection = context.wrap_socket(connection, server_side=True)
    with connection, contextlib.suppress(ConnectionResetError):
        while data := connection.recv(SIZE):
            connection.sendall(data)


def serve(start: Callable[[Callable[[socket.socket], None], socket.socket], object]) -> None:
    """Accept for ever."""
    with listener() as server:
        ready(server)
        while True:
            connection, _ = server.accept()
            start(echo, connection)


def on_roving() -> None:
    """A fiber a connection."""
    import roving

    roving.patch.all()
    roving.run(serve, roving.spawn)


def on_threads() -> None:
    """A thread a connection."""
    serve(
        lambda function, connection: threading.Thread(
            target=function, args=(connection,), daemon=True
        ).start()
    )


def on_loop(factory: Callable[[], Any] | None) -> None:
    """asyncio's protocols: less work than its streams, and no task a connection."""
    import asyncio

    class Echo(asyncio.Protocol):
        transport: asyncio.Transport

        def connection_made(self, transport: asyncio.BaseTransport) -> None:
            self.transport = transport  # type: ignore[assignment]

        def data_received(self, data: bytes) -> None:
            self.transport.write(data)

    async def main() -> None:
        server = listener()
        tls = CONTEXTS[0] if CONTEXTS else None
        await asyncio.get_running_loop().create_server(Echo, sock=server, ssl=tls)
        ready(server)
        await asyncio.Event().wait()

    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())


def on_uvloop() -> None:
    """The same on uvloop."""
    import uvloop

    on_loop(uvloop.new_event_loop)


def on_gevent() -> None:
    """A greenlet a connection, with the standard library patched. Only on a build with the GIL."""
    import gevent.monkey

    gevent.monkey.patch_all()
    serve(gevent.spawn)


PEERS: dict[str, Callable[[], None]] = {
    "roving": on_roving,
    "threads": on_threads,
    "asyncio": lambda: on_loop(None),
    "uvloop": on_uvloop,
    "gevent": on_gevent,
}


def end() -> None:
    """End with the standard input."""
    sys.stdin.read()
    os._exit(0)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("peer", choices=PEERS)
    parser.add_argument("--workers", type=int, default=len(os.sched_getaffinity(0)))
    parser.add_argument(
        "--tls", metavar="FILE", help="speak TLS, with the certificate and the key that are there"
    )
    options = parser.parse_args()
    if options.tls:
        CONTEXTS.append(ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER))
        CONTEXTS[0].load_cert_chain(options.tls)
    os.environ["ROVING_WORKERS"] = str(options.workers)
    threading.Thread(target=end, daemon=True).start()
    PEERS[options.peer]()
