"""Certificates, contexts and connections for tests of TLS."""

import contextlib
import functools
import shutil
import socket
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import patched
import pytest

CURVE = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
EXTENSIONS = "subjectAltName=DNS:localhost,DNS:{name},IP:127.0.0.1\n"


class Authority:
    """A certificate authority, and what it has signed: `localhost`, `other` and `client`."""

    def __init__(self, folder: Path) -> None:
        """Make all certificates there."""
        self.folder = folder
        self._openssl(
            "req", "-x509", *CURVE, "-keyout", "ca.key", "-out", "ca.pem", "-days", "30",
            "-subj", "/CN=roving tests", "-addext", "basicConstraints=critical,CA:TRUE",
            "-addext", "keyUsage=critical,keyCertSign,cRLSign",
        )  # fmt: skip
        for name in ("localhost", "other", "client"):
            self._sign(name)

    def _openssl(self, *arguments: str) -> None:
        done = subprocess.run(["openssl", *arguments], cwd=self.folder, capture_output=True, text=True)
        assert done.returncode == 0, done.stderr

    def _sign(self, name: str) -> None:
        (self.folder / "extensions").write_text(EXTENSIONS.format(name=name))
        request = ("-keyout", f"{name}.key", "-out", f"{name}.csr", "-subj", f"/CN={name}")
        self._openssl("req", *CURVE, *request)
        by = ("-CA", "ca.pem", "-CAkey", "ca.key", "-CAcreateserial", "-extfile", "extensions")
        self._openssl("x509", "-req", "-in", f"{name}.csr", "-out", f"{name}.pem", "-days", "30", *by)

    def server(self, name: str = "localhost") -> ssl.SSLContext:
        """Make a context for servers called so."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.folder / f"{name}.pem", self.folder / f"{name}.key")
        return context

    def client(self) -> ssl.SSLContext:
        """Make a context for clients, who check certificates and names."""
        return ssl.create_default_context(cafile=str(self.folder / "ca.pem"))


@functools.cache
def authority() -> Authority:
    """Make the certificates, once a process, or skip the test; call it first in one thread."""
    if shutil.which("openssl") is None:
        pytest.skip("the command openssl is missing: Debian's package openssl has it")
    folder = Path(tempfile.mkdtemp(prefix="roving-tls-"))
    return Authority(folder)


@contextlib.contextmanager
def pair(
    timeout: float | None = None,
    *,
    server: ssl.SSLContext | None = None,
    client: ssl.SSLContext | None = None,
    session: ssl.SSLSession | None = None,
) -> Iterator[tuple[ssl.SSLSocket, ssl.SSLSocket]]:
    """Connect a client and a server, both of which have shaken hands, on plain threads."""
    authority()
    with patched.tcp_pair() as (a, b):
        for s in (a, b):
            s.settimeout(30)
            s.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        accepted: list[ssl.SSLSocket] = []

        def accept() -> None:
            accepted.append((server or authority().server()).wrap_socket(b, server_side=True))

        thread = threading.Thread(target=accept)
        thread.start()
        one = (client or authority().client()).wrap_socket(a, server_hostname="localhost", session=session)
        thread.join()
        assert accepted, "the server did not shake hands"
        with one, accepted[0] as other:
            one.settimeout(timeout)
            other.settimeout(timeout)
            yield one, other


def handshake(raw: socket.socket) -> ssl.SSLSocket:
    """Shake hands as a client."""
    return authority().client().wrap_socket(raw, server_hostname="localhost")


def wrapped(raw: socket.socket) -> ssl.SSLSocket:
    """Do not shake hands yet."""
    context = authority().client()
    return context.wrap_socket(raw, server_hostname="localhost", do_handshake_on_connect=False)


def lasts(call: Callable[[], Any], text: str) -> float:
    """Time a call that times out."""
    start = time.monotonic()
    with pytest.raises(TimeoutError, match=text):
        call()
    return time.monotonic() - start


class Puppet:
    """A server over a socket whose bytes the test sends as it likes."""

    def __init__(self, raw: socket.socket, context: ssl.SSLContext | None = None) -> None:
        """Speak TLS over `raw`, by hand."""
        self.raw = raw
        self.incoming, self.outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.ssl = (context or authority().server()).wrap_bio(self.incoming, self.outgoing, server_side=True)

    def pump(self) -> None:
        """Read something."""
        self.raw.sendall(self.outgoing.read())
        self.incoming.write(self.raw.recv(65536))

    def shake_hands(self) -> None:
        """All of it."""
        while True:
            try:
                self.ssl.do_handshake()
            except ssl.SSLWantReadError:
                self.pump()
            else:
                self.raw.sendall(self.outgoing.read())
                return

    def record(self, data: bytes) -> bytes:
        """Give the bytes of a record."""
        self.ssl.write(data)
        return self.outgoing.read()


@contextlib.contextmanager
def puppet(timeout: float | None = None) -> Iterator[tuple[ssl.SSLSocket, Puppet]]:
    """Connect a client to a puppet; both have shaken hands."""
    with patched.tcp_pair() as (a, b):
        a.settimeout(30)
        b.settimeout(30)
        other = Puppet(b)
        thread = threading.Thread(target=other.shake_hands)
        thread.start()
        one = authority().client().wrap_socket(a, server_hostname="localhost")
        thread.join()
        with one:
            one.settimeout(timeout)
            yield one, other
