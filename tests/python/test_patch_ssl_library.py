"""What the standard library builds on TLS, in fibers: https, asyncio, mail."""

import asyncio
import contextlib
import ftplib
import http.client
import imaplib
import smtplib
import socket
import ssl
import urllib.error
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import patched
import pytest
import roving
import tls
from patched import in_fiber
from test_patch_servers import Hello, HTTPServer, serving


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    tls.authority()
    with patched.everything():
        yield


class HTTPSServer(HTTPServer):
    """A web server whose handshakes are part of its requests."""

    def get_request(self) -> Any:
        """Accept, and leave the handshake to the request's fiber."""
        connection, address = super().get_request()
        context = tls.authority().server()
        return context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False), address

    def handle_error(self, *_: Any) -> None:
        """Clients that do not like the certificate."""


@contextlib.contextmanager
def https() -> Iterator[int]:
    """A web server in fibers; its port."""
    with HTTPSServer(("127.0.0.1", 0), Hello) as server:
        fiber = serving(server)
        try:
            yield server.server_port
        finally:
            in_fiber(server.shutdown)
            fiber.join()


def test_https() -> None:
    """http.client and urllib, 100 at once, with certificates checked."""
    context = tls.authority().client()

    def ask(port: int, number: int) -> None:
        connection = http.client.HTTPSConnection("localhost", port, timeout=30, context=context)
        for turn in range(3):
            body = b"%d %d" % (number, turn) * 100
            connection.request("POST", "/", body)
            assert connection.getresponse().read() == body
        connection.close()
        url = f"https://127.0.0.1:{port}/path/{number}"
        with urllib.request.urlopen(url, timeout=30, context=context) as answer:
            assert answer.read() == b"/path/%d" % number

    with https() as port:
        clients = [roving.spawn(ask, port, number) for number in range(100)]
        for client in clients:
            client.join()


def test_a_certificate_nobody_knows() -> None:
    """Is refused."""

    def ask(port: int) -> None:
        with pytest.raises(urllib.error.URLError, match="CERTIFICATE_VERIFY_FAILED"):
            urllib.request.urlopen(f"https://localhost:{port}/", timeout=30)

    with https() as port:
        in_fiber(ask, port)


def test_threads_and_fibers_on_one_server() -> None:
    """Threads ask while fibers do."""
    context = tls.authority().client()

    def ask(port: int) -> int:
        done = 0
        for _ in range(5):
            with urllib.request.urlopen(f"https://localhost:{port}/", timeout=30, context=context) as answer:
                done += answer.read() == b"/"
        return done

    with https() as port, patched.threads(8, ask, port) as threads:
        fibers = [roving.spawn(ask, port) for _ in range(8)]
        assert [fiber.join() for fiber in fibers] == [5] * 8
    assert threads == [5] * 8


def test_asyncio() -> None:
    """Loops in fibers, two at once, server and client; they use a MemoryBIO."""

    async def talk() -> bytes:
        async def echo(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            while data := await reader.read(65536):
                writer.write(data)
                await writer.drain()
            writer.close()

        server = await asyncio.start_server(echo, "127.0.0.1", 0, ssl=tls.authority().server())
        port = server.sockets[0].getsockname()[1]
        context = tls.authority().client()
        reader, writer = await asyncio.open_connection("localhost", port, ssl=context)
        writer.write(b"hello" * 100_000)
        received = await reader.readexactly(500_000)
        writer.close()
        with contextlib.suppress(ssl.SSLError):
            await writer.wait_closed()
        server.close()
        return received

    fibers = [roving.spawn(asyncio.run, talk()) for _ in range(2)]
    assert [fiber.join() for fiber in fibers] == [b"hello" * 100_000] * 2


Script = Callable[[socket.socket, Any], None]


@contextlib.contextmanager
def scripted(script: Script) -> Iterator[int]:
    """Run a server for one connection in a fiber; its port."""

    def serve(server: socket.socket) -> None:
        connection, _ = server.accept()
        connection.settimeout(30)
        with connection, connection.makefile("rwb", buffering=0) as file:
            script(connection, file)

    with socket.create_server(("127.0.0.1", 0)) as server:
        fiber = roving.spawn(serve, server)
        yield server.getsockname()[1]
        fiber.join()


def expect(file: Any, answers: dict[bytes, bytes]) -> None:
    """Answer lines, by how they begin, until they are used up."""
    for begin, answer in answers.items():
        line = file.readline()
        assert begin.lower() in line.lower(), line
        file.write(answer.replace(b"TAG", line.split()[0]) + b"\r\n")


@contextlib.contextmanager
def secured(connection: socket.socket) -> Iterator[Any]:
    """The rest in TLS."""
    with (
        tls.authority().server().wrap_socket(connection, server_side=True) as s,
        s.makefile("rwb", buffering=0) as file,
    ):
        yield file


def test_smtp() -> None:
    """STARTTLS amid a conversation in the clear."""

    def serve(connection: socket.socket, file: Any) -> None:
        file.write(b"220 here\r\n")
        expect(file, {b"ehlo": b"250-here\r\n250 STARTTLS", b"STARTTLS": b"220 go on"})
        with secured(connection) as file:
            expect(file, {b"noop": b"250 nothing done", b"quit": b"221 bye"})

    def ask(port: int) -> None:
        with smtplib.SMTP("localhost", port, timeout=30) as smtp:
            smtp.starttls(context=tls.authority().client())
            assert smtp.noop() == (250, b"nothing done")

    with scripted(serve) as port:
        in_fiber(ask, port)


def test_imap() -> None:
    """The same for IMAP."""

    def serve(connection: socket.socket, file: Any) -> None:
        file.write(b"* OK here\r\n")
        capable = b"* CAPABILITY IMAP4REV1 STARTTLS\r\nTAG OK done"
        expect(file, {b"CAPABILITY": capable, b"STARTTLS": b"TAG OK go on"})
        with secured(connection) as file:
            expect(
                file, {b"CAPABILITY": capable, b"NOOP": b"TAG OK done", b"LOGOUT": b"* BYE\r\nTAG OK done"}
            )

    def ask(port: int) -> None:
        with imaplib.IMAP4("localhost", port, timeout=30) as imap:
            imap.starttls(tls.authority().client())
            assert imap.noop()[0] == "OK"

    with scripted(serve) as port:
        in_fiber(ask, port)


def test_ftp() -> None:
    """And for FTP."""

    def serve(connection: socket.socket, file: Any) -> None:
        file.write(b"220 here\r\n")
        expect(file, {b"AUTH TLS": b"234 go on"})
        with secured(connection) as file:
            expect(
                file,
                {b"USER": b"230 come in", b"PBSZ": b"200 yes", b"PROT": b"200 yes", b"PWD": b'257 "/here"'},
            )
            expect(file, {b"QUIT": b"221 bye"})

    def ask(port: int) -> None:
        ftp = ftplib.FTP_TLS(context=tls.authority().client())
        ftp.connect("localhost", port, timeout=30)
        ftp.login("me", "secret")
        ftp.prot_p()
        assert ftp.pwd() == "/here"
        ftp.quit()

    with scripted(serve) as port:
        in_fiber(ask, port)
