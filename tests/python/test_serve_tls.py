"""`roving.serve` over TLS: certificates, clients' certificates, resumption, files that change."""

import contextlib
import http.client
import logging
import shutil
import signal
import socket
import ssl
import urllib.request
import warnings
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import roving
from serving import WAIT, Environ, Serving, StartResponse, plain
from test_serve_command import Command
from test_serve_command import folder as folder
from tls import authority


def report(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Say what the environ says of TLS."""
    start_response("200 OK", [])
    names = ("wsgi.url_scheme", "HTTPS", "SSL_PROTOCOL", "SSL_CIPHER", "SSL_CLIENT_VERIFY", "SSL_CLIENT_CERT")
    return ["|".join(str(environ.get(name)) for name in names).encode()]


def files(name: str = "localhost") -> dict[str, Any]:
    """Name the files of a server that is called so."""
    folder = authority().folder
    return {"tls_cert": folder / f"{name}.pem", "tls_key": folder / f"{name}.key"}


def get(server: Serving, context: ssl.SSLContext, path: str = "/") -> str:
    """Make a request."""
    connection = http.client.HTTPSConnection("localhost", server.handle.port, context=context, timeout=WAIT)
    with contextlib.closing(connection):
        connection.request("GET", path)
        return connection.getresponse().read().decode()


def until_failed(server: Serving) -> None:
    """Wait until a handshake that failed is counted: its client is told before."""
    with roving.timeout(WAIT):
        while server.handle.stats()["tls_failed"] != 1:
            roving.sleep(0.001)


@pytest.fixture(autouse=True)
def _log() -> Iterator[None]:
    """Log what is refused, too."""
    logging.getLogger("roving.serve").setLevel("INFO")
    yield
    logging.getLogger("roving.serve").setLevel("NOTSET")


@contextlib.contextmanager
def connected(server: Serving, context: ssl.SSLContext, **more: Any) -> Iterator[ssl.SSLSocket]:
    """Connect, and shake hands."""
    with socket.create_connection(("127.0.0.1", server.handle.port), timeout=WAIT) as raw:
        with context.wrap_socket(raw, server_hostname="localhost", **more) as client:
            yield client


def ask(client: ssl.SSLSocket, *, last: bool = False) -> bytes:
    """Make a request on a connection, and read until `hello`."""
    close = b"Connection: close\r\n" if last else b""
    client.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n" + close + b"\r\n")
    got = b""
    while not got.endswith(b"hello"):
        data = client.recv(65536)
        assert data, got
        got += data
    return got


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_the_environ_says_so(version: ssl.TLSVersion) -> None:
    """The scheme, and what mod_ssl says."""
    context = authority().client()
    context.maximum_version = version
    with Serving(report, **files()) as server:
        assert server.handle.url.startswith("https://")
        scheme, https, protocol, cipher, verify, certificate = get(server, context).split("|")
        assert (scheme, https, protocol) == ("https", "on", version.name.replace("_", "."))
        assert cipher.startswith("TLS_")
        assert (verify, certificate) == ("NONE", "None")


def test_old_versions_are_refused() -> None:
    """TLS 1.1 is not spoken."""
    context = authority().client()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        context.minimum_version = ssl.TLSVersion.TLSv1
        context.maximum_version = ssl.TLSVersion.TLSv1_1
    context.set_ciphers("ALL:@SECLEVEL=0")
    with Serving(plain(), **files()) as server:
        with pytest.raises(ssl.SSLError):
            get(server, context)
        assert "handshake failed" in server.logged()[0]
        until_failed(server)


def test_the_certificate_is_that_of_the_file() -> None:
    """Who expects another name, or another authority, does not talk to it."""
    with Serving(plain(), **files("other")) as server, connected(server, _trusting_any_name()) as client:
        assert ("DNS", "other") in client.getpeercert()["subjectAltName"]  # type: ignore[index]
        with pytest.raises(ssl.SSLCertVerificationError):
            get(server, ssl.create_default_context())


def _trusting_any_name() -> ssl.SSLContext:
    context = authority().client()
    context.check_hostname = False
    return context


@pytest.mark.parametrize(("offered", "agreed"), [(["http/1.1"], "http/1.1"), (["h2"], "h2"), ([], None)])
def test_alpn(offered: list[str], agreed: str | None) -> None:
    """The client chooses among what both speak; who asks for nothing gets HTTP/1.1."""
    context = authority().client()
    if offered:
        context.set_alpn_protocols(offered)
    with Serving(plain(), **files()) as server, connected(server, context) as client:
        assert client.selected_alpn_protocol() == agreed
        if agreed != "h2":
            assert ask(client).startswith(b"HTTP/1.1 200 OK")


def test_what_nobody_speaks_is_refused() -> None:
    """RFC 7301, 3.2: with an alert."""
    context = authority().client()
    context.set_alpn_protocols(["spdy/3"])
    with Serving(plain(), **files()) as server, pytest.raises(ssl.SSLError, match=r"ALPN|alert"):
        with connected(server, context):
            pass


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_resumption(version: ssl.TLSVersion) -> None:
    """A client that comes back does not begin anew, until the files have been read again."""
    context = authority().client()
    context.maximum_version = version
    with Serving(plain(), **files()) as server:
        with connected(server, context) as client:
            ask(client)
            session = client.session
            assert not client.session_reused
        with connected(server, context, session=session) as client:
            ask(client)
            assert client.session_reused
        assert server.handle.reload_tls()
        with connected(server, context, session=session) as client:
            ask(client)
            assert not client.session_reused


def as_client(name: str = "client") -> ssl.SSLContext:
    """Make a context for a client that shows a certificate."""
    context = authority().client()
    folder = authority().folder
    context.load_cert_chain(folder / f"{name}.pem", folder / f"{name}.key")
    return context


def test_client_certificates() -> None:
    """Who shows one is known by it."""
    folder = authority().folder
    for more in ({}, {"tls_client_auth": "required"}, {"cert_reqs": ssl.CERT_REQUIRED}):
        with Serving(report, **files(), tls_client_ca=folder / "ca.pem", **more) as server:
            *_, verify, certificate = get(server, as_client()).split("|")
            assert verify == "SUCCESS"
            assert certificate.strip() in (folder / "client.pem").read_text()
            # The refusal is read with the response: in TLS 1.3 the handshake of the client is done by then.
            with pytest.raises((ssl.SSLError, ConnectionError)):
                get(server, authority().client())
            until_failed(server)


def test_client_certificates_may_be_optional(tmp_path: Path) -> None:
    """Who shows none is served; who shows a bad one is not."""
    trusted = authority().folder / "ca.pem"
    with Serving(report, **files(), tls_client_ca=trusted, tls_client_auth="optional") as server:
        assert get(server, as_client()).split("|")[4] == "SUCCESS"
        assert get(server, authority().client()).split("|")[4] == "NONE"
    # An authority that has not signed it.
    stranger = Path(__file__).parents[2] / "http/tests/tls/ec.pem"
    with Serving(report, **files(), tls_client_ca=stranger, tls_client_auth="optional") as server:
        assert get(server, authority().client()).split("|")[4] == "NONE"
        with pytest.raises((ssl.SSLError, ConnectionError)):
            get(server, as_client())


def test_files_are_read_again(tmp_path: Path) -> None:
    """New connections get the new certificate; those there are go on. What is wrong changes nothing."""
    certificate, key = tmp_path / "cert.pem", tmp_path / "key.pem"
    both = authority().folder

    def install(name: str) -> None:
        shutil.copy(both / f"{name}.pem", certificate)
        shutil.copy(both / f"{name}.key", key)

    def shown(server: Serving) -> object:
        with connected(server, _trusting_any_name()) as client:
            found: Any = client.getpeercert()
            return found["subjectAltName"][1][1]

    install("localhost")
    with Serving(plain(), tls_cert=certificate, tls_key=key) as server:
        with connected(server, authority().client()) as before:
            ask(before)
            assert shown(server) == "localhost"
            install("other")
            assert shown(server) == "localhost"
            assert server.handle.reload_tls()
            assert shown(server) == "other"
            shutil.copy(both / "localhost.key", key)
            with pytest.raises(ValueError, match="is not that of the certificate"):
                server.handle.reload_tls()
            assert shown(server) == "other"
            ask(before)
    with Serving(plain()) as server:
        assert not server.handle.reload_tls()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"tls_key": "key.pem"}, "only with tls_cert"),
        ({"tls_cert": "none.pem"}, r"none\.pem: No such file"),
        ({"tls_cert": "CA/extensions"}, "is not PEM"),
        ({"certfile": "CA/localhost.pem"}, "has no private key in it"),
        ({"certfile": "CA/localhost.pem", "keyfile": "CA/other.key"}, "is not that of the certificate"),
        ({"ssl_certfile": "CA/localhost.key", "ssl_keyfile": "CA/localhost.key"}, "has no certificate"),
        ({"tls_cert": "CA/localhost.pem", "tls_client_auth": "required"}, "takes tls_client_ca"),
        ({"tls_cert": "CA/localhost.pem", "tls_client_auth": "maybe"}, "none, optional or required"),
    ],
)
def test_what_is_wrong_is_told(options: dict[str, str], message: str) -> None:
    """Before anything is served, and the port is free again."""
    place = str(authority().folder)
    given: dict[str, Any] = {name: value.replace("CA", place, 1) for name, value in options.items()}
    with pytest.raises(ValueError, match=message):
        roving.serve(plain(), bind="127.0.0.1:0", **given)


def test_an_encrypted_key(tmp_path: Path) -> None:
    """It is told what to do about it."""
    key = tmp_path / "key.pem"
    key.write_text("-----BEGIN ENCRYPTED PRIVATE KEY-----\nAAAA\n-----END ENCRYPTED PRIVATE KEY-----\n")
    with pytest.raises(ValueError, match="encrypted; store it without"):
        roving.serve(plain(), bind="127.0.0.1:0", tls_cert=authority().folder / "localhost.pem", tls_key=key)


def test_a_path_is_a_path() -> None:
    """And no number."""
    with pytest.raises(TypeError, match="tls_cert must be a path, not int"):
        roving.serve(plain(), bind="127.0.0.1:0", tls_cert=5)


def test_plain_text_gets_no_answer() -> None:
    """A client that speaks no TLS is not answered in plain text, and is logged."""
    with Serving(plain(), **files()) as server:
        with socket.create_connection(("127.0.0.1", server.handle.port), timeout=WAIT) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert not client.recv(65536).startswith(b"HTTP")
        assert "handshake failed" in server.logged()[0]


def test_large_bodies_both_ways() -> None:
    """Records upon records."""
    size = 20 << 20

    def application(environ: Environ, start_response: StartResponse) -> Iterable[bytes]:
        # This client reads nothing before it has sent all.
        body = environ["wsgi.input"].read()
        start_response("200 OK", [])
        return (body[at : at + 70_000] for at in range(0, len(body), 70_000))

    body = bytes(range(256)) * (size // 256)
    with Serving(application, **files()) as server:
        wanted = urllib.request.Request(server.handle.url.replace("127.0.0.1", "localhost"), data=body)
        with urllib.request.urlopen(wanted, context=authority().client(), timeout=WAIT) as response:
            assert response.read() == body


def test_a_client_that_takes_nothing() -> None:
    """What is encrypted counts as little as what is not: the write timeout ends it, and little is kept."""
    written: list[int] = []

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        start_response("200 OK", [])
        try:
            while True:
                written.append(1)
                yield b"x" * 65536
        finally:
            ended.set()

    ended = roving.Event()
    with Serving(application, **files(), timeout_write=0.3) as server:
        with connected(server, authority().client()) as client:
            client.sendall(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            assert ended.wait(timeout=WAIT)
            # Some megabytes are the kernel's.
            assert len(written) * 65536 < 32 << 20


def test_the_end_is_told() -> None:
    """A response to its end is followed by close_notify: without it, recv would raise."""
    with Serving(plain(), **files()) as server:
        with connected(server, authority().client(), suppress_ragged_eofs=False) as client:
            ask(client, last=True)
            assert client.recv(1) == b""


def test_the_command(folder: Path) -> None:
    """By gunicorn's names, and the files are read again on SIGUSR1."""
    place = authority().folder
    shutil.copy(place / "localhost.pem", folder / "cert.pem")
    shutil.copy(place / "localhost.key", folder / "key.pem")
    with Command(
        folder, "shop:app", "--bind", "127.0.0.1:0", "--certfile", "cert.pem", "--keyfile", "key.pem"
    ) as command:
        context = _trusting_any_name()
        with socket.create_connection(("127.0.0.1", command.port), timeout=WAIT) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as client:
                ask(client)
                shutil.copy(place / "other.pem", folder / "cert.pem")
                shutil.copy(place / "other.key", folder / "key.pem")
                command.process.send_signal(signal.SIGUSR1)
                command.wait_for("read again")
                ask(client)
        with socket.create_connection(("127.0.0.1", command.port), timeout=WAIT) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as client:
                assert ("DNS", "other") in client.getpeercert()["subjectAltName"]  # type: ignore[index]
        (folder / "cert.pem").write_text("nothing")
        command.process.send_signal(signal.SIGUSR1)
        command.wait_for("stay in use")
