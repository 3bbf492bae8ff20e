"""Reloading `roving serve`: a successor takes the place of the process that serves, or it serves on."""

import contextlib
import os
import shutil
import signal
import socket
import sys

import http2
import pytest
from reloads import GATED, Reloading, Site, is_there, site
from serving import WAIT, Client, request
from tls import authority

__all__ = ["site"]


def test_a_successor_takes_over(site: Site) -> None:
    """A request in flight is answered, one on an idle connection, new ones. The sockets stay."""
    path = f"{site.folder}/socket"
    with Reloading(site, "--bind", f"unix:{path}", "--pid", "pid") as server:
        old = server.number
        assert (site.folder / "pid").read_text() == f"{old}\n"
        with contextlib.closing(server.client()) as idle, contextlib.closing(server.client()) as busy:
            assert idle.get().body == b"one"
            busy.send(request("/wait"))
            assert busy.head().status == 200
            server.reload("two")
            assert server.get() == b"two"
            with contextlib.closing(Client(path)) as client:
                assert client.get().body == b"two"
            assert server.process.poll() is None
            found = idle.get("/go")
            assert (found.body, found["connection"], found["x-process"]) == (b"one", "close", str(old))
            assert idle.is_closed()
            whole = b"8\r\nwaiting \r\n3\r\none\r\n0\r\n\r\n"
            assert busy.file.read(len(whole)) == whole
        assert server.process.wait(WAIT) == 0
        assert server.number != old
        assert (site.folder / "pid").read_text() == f"{server.number}\n"
        with contextlib.closing(Client(path)) as client:
            assert client.get()["x-process"] == str(server.number)
        log = server.stop()
    assert not os.path.exists(path)
    assert not (site.folder / "pid").exists()
    assert "Traceback" not in log
    assert "broken off" not in log


def test_what_does_not_import_changes_nothing(site: Site) -> None:
    """Its traceback is logged, and the old process serves on; once it is repaired it is reloaded."""
    with Reloading(site) as server, contextlib.closing(server.client()) as client:
        assert client.get().body == b"one"
        for before, what in (
            ("import nowhere", "No module named 'nowhere'"),
            ("what(", "SyntaxError"),
            ("raise SystemExit(3)", "exit status 3"),
            ("import os; os.kill(os.getpid(), 9)", "exit status -9"),
        ):
            site.write("two", before)
            server.send(signal.SIGHUP)
            server.wait_for("this one serves on")
            assert what in server.log
            assert client.get().body == b"one"
        server.reload("three")
        assert server.get() == b"three"
        client.close()
        server.stop()


def test_an_import_without_end(site: Site) -> None:
    """It is ended after a time, and the old process serves on."""
    with Reloading(site, "--reload-timeout", "0.5") as server:
        site.write("two", GATED)
        server.send(signal.SIGHUP)
        number = site.begun()
        server.wait_for("(not within 0.5 s): this one serves on")
        assert not is_there(number)
        assert server.get() == b"one"
        server.stop()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_stopping_amid_a_reload(site: Site, number: int) -> None:
    """Both end, and what is in flight is finished."""
    with Reloading(site) as server:
        with contextlib.closing(server.client()) as busy:
            busy.send(request("/fifo"))
            assert busy.head().status == 200
            site.write("two", GATED)
            server.send(signal.SIGHUP)
            successor = site.begun()
            server.send(number)
            server.wait_for("stopping; 1 requests are in flight")
            site.open_gate()
            assert b"one" in busy.file.read()
        # Of all that have the other end of its stderr.
        assert server.end() == 0
        assert not is_there(successor)
    assert "serves now" not in server.log


def test_stopping_the_one_that_has_handed_over(site: Site) -> None:
    """Whoever knows only that one stops both; its requests are finished."""
    with Reloading(site) as server:
        with contextlib.closing(server.client()) as busy:
            busy.send(request("/fifo"))
            assert busy.head().status == 200
            server.reload("two")
            with contextlib.closing(server.client()) as other:
                assert other.get().body == b"two"
                server.process.send_signal(signal.SIGTERM)
                assert other.is_closed()
            server.wait_for("stopped after")
            with pytest.raises(ConnectionRefusedError):
                server.client()
            site.open_gate()
            assert b"one" in busy.file.read()
        assert server.end() == 0


def test_reloads_come_one_after_another(site: Site) -> None:
    """A second SIGHUP amid the first one reloads once more, when that one is done."""
    with Reloading(site) as server:
        site.write("two", GATED)
        server.send(signal.SIGHUP)
        site.begun()
        site.write("three")
        server.send(signal.SIGHUP)
        server.send(signal.SIGHUP)
        site.release()
        second = server.handed_over()
        third = server.handed_over()
        assert second != third
        assert server.get() == b"three"
        log = server.stop()
    assert log.count("serves now") == 2


def test_the_configuration_is_read_anew(site: Site) -> None:
    """Sockets that are still wanted stay; others are opened, and closed, and their files removed."""
    config = site.folder / "roving.toml"
    config.write_text('[serve]\nbind = ["127.0.0.1:0", "unix:a", "unix:b"]\n')
    with Reloading(site, place=("--config", "roving.toml")) as server:
        port = server.port
        config.write_text('[serve]\nbind = ["unix:b", "unix:c", "127.0.0.1:0"]\nserver-header = "new"\n')
        server.reload("two")
        server.wait_for("finished")
        assert not (site.folder / "a").exists()
        for address in (("127.0.0.1", port), f"{site.folder}/b", f"{site.folder}/c"):
            with contextlib.closing(Client(address)) as client:
                found = client.get()
                assert (found.body, found["server"]) == (b"two", "new")
        # What cannot be had changes nothing.
        config.write_text('[serve]\nbind = ["unix:b", "unix:/nowhere/at/all"]\n')
        server.send(signal.SIGHUP)
        server.wait_for("this one serves on")
        for name in "bc":
            with contextlib.closing(Client(f"{site.folder}/{name}")) as client:
                assert client.get().body == b"two"
        server.stop()
    assert not {"a", "b", "c"} & {path.name for path in site.folder.iterdir()}


def test_the_files_of_tls_come_with_it(site: Site) -> None:
    """Also where the application does not import: a certificate must not expire because of that."""
    place = authority().folder

    def use(name: str) -> None:
        shutil.copy(place / f"{name}.pem", site.folder / "cert.pem")
        shutil.copy(place / f"{name}.key", site.folder / "key.pem")

    def served() -> list[str]:
        context = authority().client()
        context.check_hostname = False
        with socket.create_connection(("127.0.0.1", server.port), timeout=WAIT) as raw:
            with context.wrap_socket(raw, server_hostname="localhost") as client:
                names = client.getpeercert()
                assert names is not None
                return [value for _, value in names["subjectAltName"]]  # type: ignore[misc, str-unpack]

    use("localhost")
    with Reloading(site, "--certfile", "cert.pem", "--keyfile", "key.pem") as server:
        assert "other" not in served()
        use("other")
        server.reload("two")
        assert "other" in served()
        use("localhost")
        site.write("three", "import nowhere")
        server.send(signal.SIGHUP)
        server.wait_for("read again")
        assert "other" not in served()
        site.write("three")
        (site.folder / "cert.pem").write_text("nothing")
        server.send(signal.SIGHUP)
        server.wait_for("stay in use")
        assert "other" not in served()
        server.stop()


def test_readiness_never_ends(site: Site) -> None:
    """Whoever asks amid a reload is told by a process that serves."""
    with Reloading(site, "--admin-bind", "unix:admin") as server:
        server.wait_for("health and metrics")
        site.write("two", GATED)
        server.send(signal.SIGHUP)
        site.begun()
        for _ in range(20):
            with contextlib.closing(Client(f"{site.folder}/admin")) as client:
                assert client.get("/readyz").body == b"ok\n"
        site.release()
        server.handed_over()
        server.wait_for("finished")
        with contextlib.closing(Client(f"{site.folder}/admin")) as client:
            assert client.get("/readyz").body == b"ok\n"
            assert "roving_requests_total" in client.get("/metrics").body.decode()
        server.stop()
    assert not (site.folder / "admin").exists()


def test_systemd_is_told(site: Site) -> None:
    """Which process is the main one, and when it is ready."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notified:
        notified.settimeout(WAIT)
        notified.bind(f"{site.folder}/notify")

        def told() -> dict[str, str]:
            return dict(line.split("=", 1) for line in notified.recv(4096).decode().splitlines())

        environment = {**os.environ, "NOTIFY_SOCKET": f"{site.folder}/notify"}
        with Reloading(site, env=environment) as server:
            assert told() == {"READY": "1"}
            site.write("two", "import nowhere")
            server.send(signal.SIGHUP)
            begun = told()
            assert (begun["RELOADING"], begun["MONOTONIC_USEC"].isdecimal()) == ("1", True)
            assert told() == {"READY": "1"}
            server.reload("two")
            assert told()["RELOADING"] == "1"
            assert told() == {"MAINPID": str(server.number), "READY": "1"}
            server.process.wait(WAIT)
            server.stop()
            assert told() == {"STOPPING": "1"}


def test_the_folder_goes_by_its_name(site: Site, tmp_path_factory: pytest.TempPathFactory) -> None:
    """A link that leads elsewhere after a deployment is followed anew."""
    other = Site(tmp_path_factory.mktemp("second"))
    other.write("two")
    link = tmp_path_factory.mktemp("links") / "current"
    link.symlink_to(site.folder)
    with Reloading(site, env={**os.environ, "PWD": str(link)}, folder=link) as server:
        assert server.get() == b"one"
        link.unlink()
        link.symlink_to(other.folder)
        server.send(signal.SIGHUP)
        server.handed_over()
        assert server.get() == b"two"
        server.stop()


_ACTIVATE = """
import os, sys
# As systemd does: descriptors from 3 on, and the number of the process that is to have them.
numbers = [int(number) for number in sys.argv[1].split(",")]
for index, number in enumerate(numbers):
    os.dup2(number, 50 + index)
for index in range(len(numbers)):
    os.dup2(50 + index, 3 + index, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(len(numbers)), LISTEN_FDNAMES="web:admin")
os.execv(sys.argv[2], sys.argv[2:])
"""


def test_sockets_of_systemd_stay(site: Site) -> None:
    """They are passed on from process to process, each for what it is for."""
    with socket.create_server(("127.0.0.1", 0)) as web, socket.create_server(("127.0.0.1", 0)) as admin:
        numbers = [web.fileno(), admin.fileno()]
        prefix = [sys.executable, "-c", _ACTIVATE, "{},{}".format(*numbers)]
        with Reloading(site, place=(), prefix=prefix, pass_fds=numbers) as server:
            for version in ("two", "three"):
                server.reload(version)
                for listener, path, body in ((web, "/", version.encode()), (admin, "/readyz", b"ok\n")):
                    with contextlib.closing(Client(listener.getsockname())) as client:
                        assert client.get(path).body == body
            server.stop()


def test_http2_connections_end_after_what_was_asked(site: Site) -> None:
    """One that was used is told to go; one that has said nothing yet is answered first."""
    with Reloading(site) as server:
        with http2.connected(server.port) as used, http2.connected(server.port) as fresh:
            assert used.answer(used.request()).body == b"one"
            server.reload("two")
            assert fresh.answer(fresh.request()).body == b"one"
            for client in (used, fresh):
                while client.gone_away is None:
                    client.receive()
                assert client.gone_away == 0
        with http2.connected(server.port) as client:
            assert client.answer(client.request()).body == b"two"
        server.stop()
