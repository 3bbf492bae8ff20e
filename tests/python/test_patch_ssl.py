"""TLS in fibers: every call that waits, with and without timeouts, cancelled, closed and cut short."""

import contextlib
import itertools
import os
import select
import ssl
import threading
from collections.abc import Callable, Iterator
from typing import Any

import child
import patched
import pytest
import roving
import tls
from patched import in_fiber, tcp_pair, until_parked
from tls import handshake, lasts, wrapped

TIMEOUTS = pytest.mark.parametrize("timeout", [None, 30])


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    tls.authority()
    with patched.everything():
        yield


RECEIVERS: dict[str, Callable[[ssl.SSLSocket], Any]] = {
    "recv": lambda s: s.recv(10),
    "recv_into": lambda s: s.recv_into(bytearray(10)),
    "recv_into a part": lambda s: s.recv_into(bytearray(10), 5),
    "read": lambda s: s.read(10),
    "read into": lambda s: s.read(10, bytearray(20)),
    "makefile": lambda s: s.makefile("rb", buffering=0).read(10),
}


@TIMEOUTS
@pytest.mark.parametrize("name", RECEIVERS)
def test_receiving_parks(name: str, timeout: float | None) -> None:
    """And gives what it gives on a thread; timeouts stay what they are."""
    results = []
    for where in (lambda f, s: f(s), in_fiber):
        with tls.pair(timeout) as (a, b):
            if where is in_fiber:
                for _ in range(3):
                    fiber = roving.spawn(RECEIVERS[name], a)
                    until_parked(fiber)
                    b.sendall(b"data")
                    results.append(fiber.join())
            b.sendall(b"data")
            results.append(where(RECEIVERS[name], a))
            assert a.gettimeout() == timeout
    assert len(results) == 5
    assert all(result == results[0] for result in results)


@TIMEOUTS
def test_reading_nothing_waits_for_nothing(timeout: float | None) -> None:
    """After a record that was taken whole, too."""
    with tls.pair(timeout) as (a, b):

        def nothing() -> list[object]:
            found: list[object] = [a.recv(0), a.read(0), a.recv_into(bytearray())]
            with pytest.raises(ValueError, match="size should not be negative"):
                a.read(-1)
            return found

        for _ in range(3):
            with roving.timeout(20):
                assert in_fiber(lambda _: nothing(), a) == [b"", b"", 0]
            b.sendall(b"data")
            assert in_fiber(lambda s: s.recv(10), a) == b"data"


@TIMEOUTS
def test_a_handshake_parks(timeout: float | None) -> None:
    """As a client and as a server."""
    with tcp_pair() as (a, b):
        a.settimeout(timeout)
        b.settimeout(timeout)
        client = roving.spawn(handshake, a)
        until_parked(client)
        one = in_fiber(lambda: tls.authority().server().wrap_socket(b, server_side=True))
        with client.join() as two, one:
            assert two.version() == "TLSv1.3"
            assert two.gettimeout() == timeout
            in_fiber(two.sendall, b"hello")
            assert in_fiber(one.recv, 10) == b"hello"
    with tcp_pair() as (a, b):
        server = roving.spawn(lambda: tls.authority().server().wrap_socket(b, server_side=True))
        until_parked(server)
        with in_fiber(handshake, a), server.join():
            pass


def test_a_handshake_upon_the_first_byte() -> None:
    """Sent or read without one before."""
    with tcp_pair() as (a, b), wrapped(a) as one:
        fiber = roving.spawn(one.sendall, b"hello")
        until_parked(fiber)
        with in_fiber(lambda: tls.authority().server().wrap_socket(b, server_side=True)) as two:
            fiber.join()
            assert in_fiber(two.recv, 10) == b"hello"


@TIMEOUTS
def test_sending_parks(timeout: float | None) -> None:
    """Until the peer has taken enough."""
    data = os.urandom(8 << 20)
    # The server, which has nothing to read.
    with tls.pair(timeout) as (b, a):
        fiber = roving.spawn(a.sendall, data)
        until_parked(fiber)
        received = bytearray()
        while len(received) < len(data):
            received += b.recv(1 << 20)
        fiber.join()
        assert received == data


def test_sendfile(tmp_path: Any) -> None:
    """A file, through TLS."""
    data = os.urandom(16 << 20)
    (tmp_path / "file").write_bytes(data)
    with tls.pair() as (a, b), open(tmp_path / "file", "rb") as file:
        fiber = roving.spawn(a.sendfile, file)
        until_parked(fiber)
        received = bytearray()
        while len(received) < len(data):
            received += in_fiber(b.recv, 1 << 20)
        assert fiber.join() == len(data)
        assert received == data


@TIMEOUTS
def test_both_ways_at_once(timeout: float | None) -> None:
    """One fiber reads and one writes, at each end, more than any buffer takes."""
    data = [os.urandom(6 << 20), os.urandom(6 << 20)]

    def receive(s: ssl.SSLSocket, size: int) -> bytes:
        received = bytearray()
        while len(received) < size:
            received += s.recv(100_000)
        return bytes(received)

    with tls.pair(timeout) as (a, b):
        senders = [roving.spawn(a.sendall, data[0]), roving.spawn(b.sendall, data[1])]
        until_parked(*senders)
        receivers = [roving.spawn(receive, b, len(data[0])), roving.spawn(receive, a, len(data[1]))]
        for fiber in senders:
            fiber.join()
        assert [fiber.join() for fiber in receivers] == data


def test_writers_take_turns() -> None:
    """OpenSSL would have refused another write amid a record that was not taken as a whole."""
    size = 4 << 20
    kinds = [bytes([number]) * size for number in range(4)]
    with tls.pair() as (a, b):
        writers = [roving.spawn(a.send, kinds[0])]
        until_parked(writers[0])
        writers += [roving.spawn(a.send, kind) for kind in kinds[1:]]
        received = bytearray()
        while len(received) < sum(map(len, kinds)):
            received += b.recv(1 << 20)
        assert [writer.join() for writer in writers] == [size] * 4
        assert all(received[at : at + size] in kinds for at in range(0, 4 * size, size))


def test_a_buffer_stays_as_large_as_it_is() -> None:
    """While it is waited for."""
    buffer = bytearray(10)
    with tls.pair() as (a, b):
        fiber = roving.spawn(a.recv_into, buffer)
        until_parked(fiber)
        with pytest.raises(BufferError):
            buffer.clear()
        b.send(b"data")
        assert fiber.join() == 4
        assert buffer.startswith(b"data")


# ---- timeouts ----


@pytest.mark.parametrize("name", RECEIVERS)
def test_a_timeout_of_a_read(name: str) -> None:
    """Raises what it raises on a thread, in time."""
    with tls.pair(0.05) as (a, b):
        read = RECEIVERS[name]
        assert 0.05 <= in_fiber(lasts, lambda: read(a), "^The read operation timed out$") < 5
        if name != "makefile":
            b.send(b"data")
            assert in_fiber(a.recv, 10) == b"data"
            assert 0.05 <= in_fiber(lasts, lambda: a.recv(10), "^The read operation timed out$") < 5


def test_a_timeout_of_a_handshake() -> None:
    """The peer says nothing."""
    with tcp_pair() as (a, _):
        a.settimeout(0.05)
        assert 0.05 <= in_fiber(lasts, lambda: handshake(a), "The handshake operation timed out") < 5


def test_a_timeout_of_a_write() -> None:
    """The peer takes nothing."""
    with tls.pair(0.05) as (a, _):
        assert (
            0.05 <= in_fiber(lasts, lambda: a.sendall(bytes(64 << 20)), "^The write operation timed out$") < 5
        )


def test_a_timeout_while_others_write() -> None:
    """It counts from the call, not from one's turn."""
    with tls.pair(None) as (a, _):
        first = roving.spawn(a.sendall, bytes(64 << 20))
        until_parked(first)
        a.settimeout(0.05)
        assert 0.05 <= in_fiber(lasts, lambda: a.send(b"data"), "^The write operation timed out$") < 5
        first.cancel()
        with pytest.raises(roving.FiberCancelled):
            first.join()


def test_a_timeout_of_a_shutdown() -> None:
    """The peer does not answer."""
    with tls.pair(0.05) as (a, _):
        assert 0.05 <= in_fiber(lasts, a.unwrap, "^The read operation timed out$") < 5


def test_a_timeout_amid_a_record() -> None:
    """What came stays, and is of use when the rest comes."""
    with tls.puppet(0.05) as (a, puppet):
        record = puppet.record(b"some data")
        puppet.raw.sendall(record[:12])
        assert 0.05 <= in_fiber(lasts, lambda: a.recv(100), "^The read operation timed out$") < 5
        puppet.raw.sendall(record[12:])
        assert in_fiber(a.recv, 100) == b"some data"


def test_a_timeout_is_of_the_whole() -> None:
    """However many bytes trickle in."""
    over = threading.Event()

    def trickle(puppet: tls.Puppet) -> None:
        for byte in puppet.record(bytes(1000)):
            puppet.raw.sendall(bytes([byte]))
            if over.wait(0.02):
                return

    with tls.puppet(0.1) as (a, puppet):
        thread = threading.Thread(target=trickle, args=(puppet,))
        thread.start()
        assert 0.1 <= in_fiber(lasts, lambda: a.recv(100), "^The read operation timed out$") < 5
        over.set()
        thread.join()


def test_records_byte_by_byte() -> None:
    """Each byte ends a wait; none is lost."""
    with tls.puppet() as (a, puppet):
        fiber = roving.spawn(a.recv, 100)
        until_parked(fiber)
        for byte in puppet.record(b"some data"):
            puppet.raw.sendall(bytes([byte]))
        assert fiber.join() == b"some data"


def test_several_records_at_once() -> None:
    """In one segment, read in parts, with waits in between: nothing is waited for that is there already."""
    with tls.puppet(30) as (a, puppet):

        def receive() -> list[bytes]:
            return [a.recv(size) for size in (4, 100, 2, 2, 100, 100)]

        fiber = roving.spawn(receive)
        until_parked(fiber)
        puppet.raw.sendall(puppet.record(b"one two") + puppet.record(b"three") + puppet.record(b"four"))
        until_parked(fiber)
        puppet.raw.sendall(puppet.record(b"five"))
        assert fiber.join() == [b"one ", b"two", b"th", b"re", b"e", b"four"]
        assert in_fiber(a.recv, 100) == b"five"


@TIMEOUTS
def test_a_record_in_parts(timeout: float | None) -> None:
    """What is left of it is OpenSSL's, and not the descriptor's: it is not waited for."""
    with tls.puppet(timeout) as (a, puppet):
        puppet.raw.sendall(puppet.record(b"some data"))
        for size, part in ((5, b"some "), (2, b"da"), (2, b"ta")):
            assert in_fiber(a.recv, size) == part
        puppet.raw.sendall(puppet.record(b"some data"))
        assert in_fiber(lambda: [a.recv_into(bytearray(size), size) for size in (3, 3, 3)]) == [3, 3, 3]


def test_sockets_that_do_not_wait() -> None:
    """Raise what they raise on a thread."""
    with tls.pair(0.0) as (a, _):
        for _ in range(2):
            with pytest.raises(ssl.SSLWantReadError):
                in_fiber(a.recv, 10)
            with pytest.raises(ssl.SSLWantWriteError):
                in_fiber(lambda: [a.send(bytes(1 << 20)) for _ in range(100)])
            a.settimeout(0.01)
            with pytest.raises(TimeoutError):
                in_fiber(a.recv, 10)
            a.settimeout(0)


# ---- what TLS has ----


def test_memory_bios() -> None:
    """Nothing waits there."""
    with tcp_pair() as (a, _):
        puppet = tls.Puppet(a)
        with pytest.raises(ssl.SSLWantReadError):
            in_fiber(puppet.ssl.do_handshake)


def test_a_wrong_host_name() -> None:
    """Is an error at both ends."""
    with tcp_pair() as (a, b):
        client = roving.spawn(tls.authority().client().wrap_socket, a, server_hostname="example.org")
        server = roving.spawn(tls.authority().server().wrap_socket, b, server_side=True)
        with pytest.raises(ssl.SSLCertVerificationError, match=r"Hostname mismatch.*example\.org"):
            client.join()
        with contextlib.suppress(OSError), server.join() as s:
            in_fiber(s.recv, 10)


def test_a_client_with_a_certificate() -> None:
    """Asked for in the handshake."""
    server, client = tls.authority().server(), tls.authority().client()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(tls.authority().folder / "ca.pem")
    client.load_cert_chain(tls.authority().folder / "client.pem", tls.authority().folder / "client.key")
    with tcp_pair() as (a, b):
        one = roving.spawn(client.wrap_socket, a, server_hostname="localhost")
        with in_fiber(lambda: server.wrap_socket(b, server_side=True)) as two, one.join():
            certificate: Any = two.getpeercert()
            assert (("commonName", "client"),) in certificate["subject"]


def test_a_certificate_asked_for_later() -> None:
    """The next read sends the question, though there is nothing to read."""
    server, client = tls.authority().server(), tls.authority().client()
    server.verify_mode = ssl.CERT_REQUIRED
    server.load_verify_locations(tls.authority().folder / "ca.pem")
    client.load_cert_chain(tls.authority().folder / "client.pem", tls.authority().folder / "client.key")
    server.post_handshake_auth = client.post_handshake_auth = True
    with tls.pair(server=server, client=client) as (a, b):
        a.send(b"before")
        assert in_fiber(b.recv, 100) == b"before"
        assert not b.getpeercert()
        # With that the client has read all that belongs to the handshake.
        b.send(b"before")
        assert in_fiber(a.recv, 100) == b"before"
        in_fiber(b.verify_client_post_handshake)

        def until_known() -> int:
            for count in itertools.count(1):
                assert b.recv(1) == b"."
                # There is none amid the exchange.
                with contextlib.suppress(ValueError):
                    if b.getpeercert():
                        return count
            raise AssertionError

        asking = roving.spawn(until_known)
        assert select.select([a], [], [], 20)[0], "the question was not sent"
        answering = roving.spawn(a.recv, 100)
        until_parked(asking, answering)
        sent = 0
        while not asking.wait(0.001):
            in_fiber(a.send, b".")
            sent += 1
            assert sent < 10_000
        assert asking.join() <= sent
        in_fiber(b.send, b"after")
        assert answering.join() == b"after"


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_used_again(version: ssl.TLSVersion) -> None:
    """Of a connection that a fiber made."""
    server, client = tls.authority().server(), tls.authority().client()
    client.maximum_version = client.minimum_version = version
    with tls.pair(server=server, client=client) as (a, b):
        in_fiber(b.send, b"data")
        assert in_fiber(a.recv, 10) == b"data"
        session = a.session
    with tcp_pair() as (c, d):
        one = roving.spawn(client.wrap_socket, c, server_hostname="localhost", session=session)
        with in_fiber(lambda: server.wrap_socket(d, server_side=True)) as two, one.join() as three:
            assert three.session_reused
            assert two.version() == {771: "TLSv1.2", 772: "TLSv1.3"}[version]


def test_protocols_and_names() -> None:
    """ALPN; the server's name picks the certificate, in a callback."""
    server, client, other = (
        tls.authority().server(),
        tls.authority().client(),
        tls.authority().server("other"),
    )
    server.set_alpn_protocols(["h2", "http/1.1"])
    other.set_alpn_protocols(["h2", "http/1.1"])
    client.set_alpn_protocols(["http/1.1"])
    asked = []

    def choose(s: ssl.SSLObject, name: str, _: ssl.SSLContext) -> None:
        asked.append(name)
        s.context = other

    server.sni_callback = choose
    with tcp_pair() as (a, b):
        one = roving.spawn(client.wrap_socket, a, server_hostname="other")
        with in_fiber(lambda: server.wrap_socket(b, server_side=True)) as two, one.join() as three:
            certificate: Any = three.getpeercert()
            assert (("commonName", "other"),) in certificate["subject"]
            assert two.selected_alpn_protocol() == three.selected_alpn_protocol() == "http/1.1"
    assert asked == ["other"]


@pytest.mark.parametrize("where", ["thread", "fiber"])
def test_callbacks_that_fail(where: str) -> None:
    """What one has raised is raised by the call, though that had to wait after it."""
    client = tls.authority().client()
    calls = []

    def fail(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 1:
            raise LookupError("mine")

    client._msg_callback = fail  # type: ignore[attr-defined]
    with tcp_pair() as (a, b):
        server = roving.spawn(tls.authority().server().wrap_socket, b, server_side=True)
        run: Any = in_fiber if where == "fiber" else lambda f: f()
        context = client.wrap_socket(a, server_hostname="localhost", do_handshake_on_connect=False)
        with context as s, pytest.raises(LookupError, match="mine"):
            run(s.do_handshake)
        with contextlib.suppress(OSError):
            server.join().close()
    assert len(calls) > 5


def test_it_comes_too_late_for_nothing() -> None:
    """Sockets, bound methods and connections from before the patch."""
    child.check(
        f"""
        import sys
        sys.path.insert(0, {str(child.ROOT / "tests/python")!r})
        import ssl
        import tls
        with tls.pair() as (a, b):
            read, write = a.recv, b._sslobj.write
            roving.patch.all()
            ticks = []
            fiber = roving.spawn(read, 10)
            other = roving.spawn(lambda: [ticks.append(roving.sleep(0.001)) for _ in range(20)])
            other.join()
            write(b"data")
            assert fiber.join() == b"data"
            print("ok")
        """,
        workers=1,
    )
