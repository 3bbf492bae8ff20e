"""A web server that takes its time: each request is answered, with its path, after so many milliseconds.

Paths: `/...` (after --delay), `/after/MS/...`, `/cut/...` (half of the body, then the end of the connection),
`/reset` (nothing but a reset). asyncio's protocols, on uvloop where there is one: one core answers some
20,000 requests a second, and waiting costs nothing.
"""

import argparse
import asyncio
import contextlib
import os
import socket
import ssl
import struct
import sys
import threading

# SO_LINGER: on, with no time, so that close() sends a reset.
ABRUPT = struct.pack("ii", 1, 0)


class Origin(asyncio.Protocol):
    """One connection, kept alive; requests one after another."""

    delay = 0.05

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self.transport: asyncio.Transport = transport  # type: ignore[assignment]
        self.loop = asyncio.get_running_loop()
        self.seen = b""

    def data_received(self, data: bytes) -> None:
        """Answer each request that is whole, later."""
        self.seen += data
        while True:
            head, found, rest = self.seen.partition(b"\r\n\r\n")
            if not found:
                return
            size = 0
            at = head.lower().find(b"\r\ncontent-length:")
            if at >= 0:
                size = int(head[at + 17 :].split(b"\r\n", 1)[0])
            if len(rest) < size:
                return
            body, self.seen = rest[:size], rest[size:]
            method, path, _ = head.split(b" ", 2)
            delay = self.delay
            if path.startswith(b"/after/"):
                delay = int(path.split(b"/")[2]) / 1000
            said = {b"GET": path, b"HEAD": path, b"POST": body}.get(method, b"")
            self.loop.call_later(delay, self.answer, method, path, said)

    def answer(self, method: bytes, path: bytes, body: bytes) -> None:
        """Send the path, or what came with the request, back."""
        if self.transport.is_closing():
            return
        if path == b"/reset":
            self.transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, ABRUPT)
            self.transport.abort()
            return
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % len(body)
        if path.startswith(b"/cut"):
            self.transport.write(head + body[: len(body) // 2])
            self.transport.close()
            return
        self.transport.write(head if method == b"HEAD" else head + body)


async def serve(port: int, tls: ssl.SSLContext | None) -> None:
    """Listen, and say where."""
    server = socket.create_server(("127.0.0.1", port), backlog=4096)
    await asyncio.get_running_loop().create_server(Origin, sock=server, backlog=4096, ssl=tls)
    print(f'{{"port": {server.getsockname()[1]}}}', flush=True)
    await asyncio.Event().wait()


def end() -> None:
    """End with the standard input."""
    sys.stdin.read()
    os._exit(0)


def main() -> None:
    """Read the command line and serve."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--delay", type=float, default=50, help="milliseconds (%(default)s)")
    parser.add_argument("--until-eof", action="store_true", help="end with the standard input")
    parser.add_argument("--tls", metavar="FILE", help="speak TLS, with the certificate and the key there")
    options = parser.parse_args()
    tls = None
    if options.tls:
        tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        tls.load_cert_chain(options.tls)
    Origin.delay = options.delay / 1000
    if options.until_eof:
        threading.Thread(target=end, daemon=True).start()
    factory = None
    with contextlib.suppress(ImportError):
        import uvloop

        factory = uvloop.new_event_loop
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(serve(options.port, tls))


if __name__ == "__main__":
    main()
