"""Plain blocking servers and clients of the standard library, in fibers, many at once."""

import http.client
import http.server
import socket
import socketserver
import urllib.request
import xmlrpc.client
import xmlrpc.server
from collections.abc import Iterator
from typing import Any

import child
import patched
import pytest
import roving
from patched import in_fiber


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    with patched.everything():
        yield


class Hello(http.server.BaseHTTPRequestHandler):
    """Says what it was asked."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True

    def do_GET(self) -> None:
        """Answer."""
        self._answer(self.path.encode())

    def do_POST(self) -> None:
        """Answer with the body."""
        self._answer(self.rfile.read(int(self.headers["Content-Length"])))

    def _answer(self, body: bytes) -> None:
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *args: Any) -> None:
        """Keep quiet."""


class Fibers:
    """As ThreadingMixIn, with a fiber a request."""

    def process_request(self, request: Any, address: Any) -> None:
        """Start a fiber."""
        roving.options(daemon=True).spawn(self._process, request, address)

    def _process(self: Any, request: Any, address: Any) -> None:
        try:
            self.finish_request(request, address)
        finally:
            self.shutdown_request(request)


class HTTPServer(Fibers, http.server.HTTPServer):
    """A web server whose requests are fibers."""

    request_queue_size = 1024


class EchoHandler(socketserver.StreamRequestHandler):
    """Sends lines back."""

    def handle(self) -> None:
        """Until there are no more."""
        for line in self.rfile:
            self.wfile.write(line)


class EchoServer(Fibers, socketserver.TCPServer):
    """Lines in, lines out."""

    request_queue_size = 1024
    allow_reuse_address = True


def serving(server: socketserver.BaseServer) -> roving.Fiber[None]:
    """Serve in a fiber."""
    return roving.spawn(server.serve_forever, 0.01)


def test_http() -> None:
    """http.server, http.client and urllib, 100 at once."""

    def ask(port: int, number: int) -> None:
        connection = http.client.HTTPConnection("localhost", port, timeout=30)
        for turn in range(3):
            body = b"%d %d" % (number, turn) * 100
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body
        connection.close()
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/path/{number}", timeout=30) as answer:
            assert answer.read() == b"/path/%d" % number

    with HTTPServer(("127.0.0.1", 0), Hello) as server:
        fiber = serving(server)
        clients = [roving.spawn(ask, server.server_port, number) for number in range(100)]
        for client in clients:
            client.join()
        in_fiber(server.shutdown)
        fiber.join()


def test_socketserver() -> None:
    """With buffered files over sockets at both ends."""

    def ask(address: Any, number: int) -> None:
        with socket.create_connection(address) as s, s.makefile("rwb") as file:
            for turn in range(20):
                line = b"%d %d\n" % (number, turn)
                file.write(line)
                file.flush()
                assert file.readline() == line

    with EchoServer(("127.0.0.1", 0), EchoHandler) as server:
        fiber = serving(server)
        clients = [roving.spawn(ask, server.server_address, number) for number in range(100)]
        for client in clients:
            client.join()
        in_fiber(server.shutdown)
        fiber.join()


def test_xmlrpc() -> None:
    """A server of one request at a time, a client in another fiber."""
    with xmlrpc.server.SimpleXMLRPCServer(("127.0.0.1", 0), logRequests=False) as server:
        server.register_function(lambda a, b: a**b, "pow")
        fiber = serving(server)

        def ask() -> Any:
            with xmlrpc.client.ServerProxy(f"http://127.0.0.1:{server.server_address[1]}") as proxy:
                return proxy.pow(2, 10)

        assert in_fiber(ask) == 1024
        in_fiber(server.shutdown)
        fiber.join()


@pytest.mark.parametrize("workers", [1, 2])
def test_a_thousand_connections(workers: int) -> None:
    """All open at once, all served; idle, they use no time of the processor."""
    child.check(
        """
        import resource, socket, roving.patch
        resource.setrlimit(resource.RLIMIT_NOFILE, (4096, resource.getrlimit(resource.RLIMIT_NOFILE)[1]))
        roving.patch.all()
        COUNT = 1000
        open_now = roving.Semaphore(0)
        go = roving.Event()
        def serve(s):
            with s:
                while data := s.recv(1000):
                    s.sendall(data)
        def accept(server):
            for _ in range(COUNT):
                roving.spawn(serve, server.accept()[0])
        def client(address, number):
            with socket.create_connection(address) as s:
                open_now.release()
                go.wait()
                for turn in range(5):
                    message = b"%d %d" % (number, turn)
                    s.sendall(message)
                    got = b""
                    while len(got) < len(message):
                        got += s.recv(100)
                    assert got == message
        with socket.create_server(("127.0.0.1", 0), backlog=1024) as server:
            acceptor = roving.spawn(accept, server)
            clients = [roving.spawn(client, server.getsockname(), number) for number in range(COUNT)]
            for _ in range(COUNT):
                open_now.acquire()
            acceptor.join()
            time.sleep(0.1)
            before = time.process_time()
            time.sleep(0.3)
            assert time.process_time() - before < 0.02
            go.set()
            for one in clients:
                one.join()
        print("ok")
        """,
        workers=workers,
    )
