"""One end of many TLS connections: `tls_load.py server FOLDER`, `tls_load.py client FOLDER PORT COUNT`.

A server prints its port. A client prints a line when all are connected, another when all have exchanged their
messages; before each step but the first it waits for a line.
"""

import resource
import socket
import ssl
import sys
from pathlib import Path

import roving
import roving.patch

MESSAGES = 5
SIZE = 3_000


def echo(connection: socket.socket, context: ssl.SSLContext) -> None:
    """Send back what comes."""
    with context.wrap_socket(connection, server_side=True) as s:
        while data := s.recv(SIZE):
            s.sendall(data)


def serve(context: ssl.SSLContext) -> None:
    """Accept for ever."""
    with socket.create_server(("127.0.0.1", 0), backlog=4096) as server:
        print(server.getsockname()[1], flush=True)
        while True:
            connection, _ = server.accept()
            roving.options(daemon=True).spawn(echo, connection, context)


class Client:
    """So many connections, all open at once."""

    def __init__(self, context: ssl.SSLContext, port: int, count: int) -> None:
        """Connect to that port of this machine."""
        self.context = context
        self.address = ("127.0.0.1", port)
        self.count = count
        self.connected = 0
        self.lock = roving.Lock()
        self.all_connected = roving.Event()
        self.go = roving.Event()

    def talk(self, number: int) -> int:
        """Connect, wait for all others, and exchange messages."""
        done = 0
        with (
            socket.create_connection(self.address) as raw,
            self.context.wrap_socket(raw, server_hostname="localhost") as s,
        ):
            with self.lock:
                self.connected += 1
                if self.connected == self.count:
                    self.all_connected.set()
            self.go.wait()
            for turn in range(MESSAGES):
                message = (b"%d %d " % (number, turn)).ljust(SIZE, b"x")
                s.sendall(message)
                received = b""
                while len(received) < SIZE:
                    data = s.recv(SIZE)
                    assert data, "closed"
                    received += data
                done += received == message
        return done

    def run(self) -> None:
        """All of it."""
        fibers = [roving.spawn(self.talk, number) for number in range(self.count)]
        self.all_connected.wait()
        print("connected", flush=True)
        sys.stdin.readline()
        self.go.set()
        print(sum(fiber.join() for fiber in fibers), flush=True)


def main() -> None:
    """Be one or the other."""
    roving.patch.all()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    kind, folder = sys.argv[1], Path(sys.argv[2])
    if kind == "server":
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(folder / "localhost.pem", folder / "localhost.key")
        roving.run(serve, context)
    else:
        context = ssl.create_default_context(cafile=str(folder / "ca.pem"))
        Client(context, int(sys.argv[3]), int(sys.argv[4])).run()


if __name__ == "__main__":
    main()
