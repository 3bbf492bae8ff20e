"""What the tests of roving.serve share: clients that speak raw bytes, and applications that are watched."""

import contextlib
import logging
import socket
import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import pytest
import roving

Environ = dict[str, Any]
StartResponse = Callable[..., Callable[[bytes], object]]
Application = Callable[[Environ, StartResponse], Iterable[bytes]]

WAIT = 20.0


@dataclass
class Response:
    """A response as it stood on the wire."""

    status: int
    reason: str
    headers: list[tuple[str, str]]
    body: bytes
    chunks: list[bytes] = field(default_factory=list)
    whole: bool = True

    def __getitem__(self, name: str) -> str:
        """Give the one value of a field."""
        (value,) = self.all(name)
        return value

    def all(self, name: str) -> list[str]:
        """Give the values of a field."""
        return [value for key, value in self.headers if key == name.lower()]


class Client:
    """A connection whose bytes are written by hand."""

    def __init__(self, address: str | tuple[str, int]) -> None:
        """Connect to a port, or a Unix socket."""
        if isinstance(address, str):
            self.socket = socket.socket(socket.AF_UNIX)
            self.socket.settimeout(WAIT)
            try:
                self.socket.connect(address)
            except OSError:
                self.socket.close()
                raise
        else:
            self.socket = socket.create_connection(address, timeout=WAIT)
        self.file = self.socket.makefile("rb")

    def send(self, data: bytes) -> None:
        """Send bytes."""
        self.socket.sendall(data)

    def head(self) -> Response:
        """Read the head of a response."""
        line = self.file.readline()
        if not line:
            raise EOFError("the server has closed the connection")
        version, status, reason = line.decode("latin-1").rstrip("\r\n").split(" ", 2)
        assert version in ("HTTP/1.1", "HTTP/1.0"), line
        headers = []
        while (line := self.file.readline()) not in (b"\r\n", b""):
            name, _, value = line.decode("latin-1").rstrip("\r\n").partition(": ")
            assert name == name.lower(), line
            headers.append((name, value))
        return Response(int(status), reason, headers, b"")

    def response(self, *, head_only: bool = False) -> Response:
        """Read a response."""
        found = self.head()
        if head_only or found.status in (204, 304) or found.status < 200:
            return found
        if found.all("transfer-encoding"):
            assert found["transfer-encoding"] == "chunked"
            assert not found.all("content-length")
            while True:
                line = self.file.readline()
                if not line:
                    found.whole = False
                    break
                size = int(line, 16)
                chunk = self.file.read(size)
                if len(chunk) < size or self.file.read(2) != b"\r\n":
                    found.whole = False
                    break
                if not size:
                    break
                found.chunks.append(chunk)
            found.body = b"".join(found.chunks)
        elif found.all("content-length"):
            size = int(found["content-length"])
            found.body = self.file.read(size)
            found.whole = len(found.body) == size
        else:
            found.body = self.file.read()
        return found

    def get(self, path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> Response:
        """Send a request, and read its response."""
        self.send(request(path, *headers, method=method, body=body))
        return self.response(head_only=method == "HEAD")

    def is_closed(self) -> bool:
        """Wait for the server to close the connection: False if it sends something instead."""
        try:
            return self.file.read(1) == b""
        except ConnectionResetError:
            return True

    def close(self) -> None:
        """Close it."""
        self.file.close()
        self.socket.close()

    def reset(self) -> None:
        """Close it so that the server sees a reset."""
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.close()


def request(path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> bytes:
    """Write a request down."""
    lines = [f"{method} {path} HTTP/1.1", "Host: example.org", *headers]
    if body:
        lines.append(f"Content-Length: {len(body)}")
    return "\r\n".join([*lines, "", ""]).encode("latin-1") + body


class Serving:
    """A server in this process, and its log."""

    def __init__(self, application: Application, **options: Any) -> None:
        """Serve on a port that the system chooses."""
        self.handle = roving.serve(application, bind="127.0.0.1:0", **options)
        self.log: list[logging.LogRecord] = []
        self._logged = threading.Condition()
        self._handler = logging.Handler()
        self._handler.emit = self._emit  # type: ignore[method-assign]
        logging.getLogger("roving.serve").addHandler(self._handler)

    def _emit(self, record: logging.LogRecord) -> None:
        with self._logged:
            self.log.append(record)
            self._logged.notify_all()

    def client(self) -> Client:
        """Connect."""
        return Client(("127.0.0.1", self.handle.port))

    def get(self, path: str = "/", *headers: str, method: str = "GET", body: bytes = b"") -> Response:
        """Make one request on a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return client.get(path, *headers, method=method, body=body)

    def logged(self, count: int = 1) -> list[str]:
        """Wait until so many lines have been logged, and give the texts of all: message and exception."""
        with self._logged:
            assert self._logged.wait_for(lambda: len(self.log) >= count, WAIT), self.log
        formatter = logging.Formatter("%(message)s")
        return [formatter.format(record) for record in self.log]

    def __enter__(self) -> "Serving":
        """Return the server."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close it, and with it all that is left."""
        logging.getLogger("roving.serve").removeHandler(self._handler)
        self.handle.close(0.0)


@pytest.fixture
def quiet_log() -> Iterator[None]:
    """Keep what is logged out of the output of the tests."""
    logger = logging.getLogger("roving.serve")
    before = logger.propagate
    logger.propagate = False
    yield
    logger.propagate = before


def plain(body: bytes = b"hello") -> Application:
    """Make an application that says this, whatever it is asked."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [("Content-Type", "text/plain")])
        return [body]

    return application


def chunked(*chunks: bytes) -> bytes:
    """Encode a chunked body."""
    return b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in (*chunks, b""))
