"""Reloading with the process's number kept: with --keep-pid, as process 1, and with --reload."""

import contextlib
import os
import signal
import subprocess
import sys

import pytest
from reloads import GATED, Reloading, Site, is_there, site
from serving import WAIT, Client, request

__all__ = ["site"]

# Put before an application, it is gated in the process with the number of the file `gated` alone.
GATED_ONE = f"""
import os
if open("gated").read() == str(os.getpid()):
    exec({GATED!r})
"""
FAILING_ONE = """
import os
if open("gated").read() == str(os.getpid()):
    import nowhere
"""


def gate(site: Site, server: Reloading, before: str = GATED_ONE) -> None:
    """Write a version that imports in a stand-in, and is gated, or fails, in the process itself."""
    (site.folder / "gated").write_text(str(server.number))
    site.write("two", before)


def test_the_number_is_kept(site: Site) -> None:
    """Another process stands in while this one begins anew; the sockets stay, all requests are answered."""
    path = f"{site.folder}/socket"
    arguments = ("--bind", f"unix:{path}", "--admin-bind", "unix:admin", "--keep-pid", "--pid", "pid")
    with Reloading(site, *arguments) as server:
        with contextlib.closing(server.client()) as idle:
            assert idle.get().body == b"one"
            gate(site, server)
            server.send(signal.SIGHUP)
            server.wait_for("serves now")
            found = idle.get()
            assert (found.body, found["connection"]) == (b"one", "close")
            # Amid the import in this process.
            assert site.begun() == server.number
            for address in (("127.0.0.1", server.port), path):
                with contextlib.closing(Client(address)) as client:
                    found = client.get()
                    assert (found.body, found["x-process"] == str(server.number)) == (b"two", False)
                    stand_in = int(found["x-process"])
            with contextlib.closing(Client(f"{site.folder}/admin")) as client:
                assert client.get("/readyz").body == b"ok\n"
            with contextlib.closing(server.client()) as busy:
                busy.send(request("/fifo"))
                assert busy.head().status == 200
                site.release()
                server.wait_for("serves again")
                for address in (("127.0.0.1", server.port), path):
                    with contextlib.closing(Client(address)) as client:
                        found = client.get()
                        assert (found.body, found["x-process"]) == (b"two", str(server.number))
                site.open_gate()
                whole = b"8\r\nwaiting \r\n3\r\ntwo\r\n0\r\n\r\n"
                assert busy.file.read(len(whole)) == whole
        server.wait_for("finished")
        assert (site.folder / "pid").read_text() == f"{server.number}\n"
        # And again.
        site.write("three")
        server.send(signal.SIGHUP)
        server.wait_for("serves now")
        server.wait_for("serves again")
        server.wait_for("finished")
        assert server.get() == b"three"
        log = server.stop()
        assert not is_there(stand_in)
    assert "Traceback" not in log
    assert not {"socket", "admin", "pid"} & {path.name for path in site.folder.iterdir()}


@pytest.mark.parametrize("amid", ["the first import", "the end of what there is", "the second import"])
def test_stopping_at_every_point(site: Site, amid: str) -> None:
    """Both end, whatever they are at."""
    with Reloading(site, "--keep-pid", "--bind", "unix:socket") as server:
        if amid == "the first import":
            site.write("two", GATED)
            server.send(signal.SIGHUP)
            other = site.begun()
            server.send(signal.SIGTERM)
            server.wait_for("stopped after")
        elif amid == "the end of what there is":
            with contextlib.closing(server.client()) as busy:
                busy.send(request("/fifo"))
                assert busy.head().status == 200
                site.write("two")
                server.send(signal.SIGHUP)
                server.wait_for("serves now")
                server.send(signal.SIGTERM)
                # The one that stands in has nothing to finish.
                server.wait_for("stopped after")
                site.open_gate()
                assert b"one" in busy.file.read()
                server.wait_for("finished")
        else:
            gate(site, server)
            server.send(signal.SIGHUP)
            site.begun()
            with contextlib.closing(server.client()) as busy:
                busy.send(request("/fifo"))
                other = int(busy.head()["x-process"])
                server.send(signal.SIGTERM)
                server.wait_for("stopping; 1 requests")
                site.open_gate()
                assert b"two" in busy.file.read()
                server.wait_for("stopped after")
        assert server.end() == 0
        assert not (site.folder / "socket").exists()
        if amid != "the end of what there is":
            assert not is_there(other)


def test_a_second_import_that_fails(site: Site) -> None:
    """The one that stands in serves on, until it is repaired."""
    with Reloading(site, "--keep-pid") as server:
        gate(site, server, FAILING_ONE)
        server.send(signal.SIGHUP)
        server.wait_for("serves on")
        assert "No module named 'nowhere'" in server.log
        assert server.get() == b"two"
        server.send(signal.SIGHUP)
        server.wait_for("trying again")
        server.wait_for("serves on")
        assert server.get() == b"two"
        site.write("three")
        server.send(signal.SIGHUP)
        server.wait_for("trying again")
        server.wait_for("serves again")
        assert server.get() == b"three"
        server.stop()


def test_one_that_stands_in_ends_with_the_other(site: Site) -> None:
    """Killed amid its import, the process leaves nobody behind."""
    with Reloading(site, "--keep-pid") as server:
        gate(site, server)
        server.send(signal.SIGHUP)
        site.begun()
        with contextlib.closing(server.client()) as client:
            assert client.get().body == b"two"
            server.send(signal.SIGKILL)
            assert client.is_closed()
        assert server.end() == -signal.SIGKILL


def _may_unshare() -> bool:
    done = subprocess.run(
        ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "true"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=False,
    )
    return done.returncode == 0


def test_as_process_1(site: Site) -> None:
    """As in a container: it is kept without being asked for, and signals mean what they mean elsewhere."""
    try:
        permitted = _may_unshare()
    except FileNotFoundError:
        pytest.skip("there is no unshare(1)")
    if not permitted:
        pytest.skip("the system does not let us make a namespace of processes")
    command = ["unshare", "--user", "--map-root-user", "--pid", "--fork", "--mount-proc", "--kill-child"]
    with Reloading(site, prefix=command) as server:
        with contextlib.closing(server.client()) as client:
            assert client.get()["x-process"] == "1"
        # From outside it has another number.
        children = f"/proc/{server.process.pid}/task/{server.process.pid}/children"
        with open(children) as file:
            server.number = int(file.read())
        for version in ("two", "three"):
            site.write(version)
            server.send(signal.SIGHUP)
            server.wait_for("serves now")
            server.wait_for("serves again")
            server.wait_for("finished")
            with contextlib.closing(server.client()) as client:
                found = client.get()
                assert (found.body, found["x-process"]) == (version.encode(), "1")
        # As process 1 it would not get a signal that it does not handle.
        site.write("four", GATED_ONE)
        (site.folder / "gated").write_text("1")
        server.send(signal.SIGHUP)
        assert site.begun() == 1
        server.send(signal.SIGTERM)
        assert server.end() == 0


def test_files_are_watched(site: Site) -> None:
    """One that has changed is reloaded; an error leaves the old application, until it is repaired."""
    (site.folder / "more").mkdir()
    (site.folder / "settings.py").write_text("NAME = 'a'\n")
    site.write("one", "import settings")
    arguments = ("--reload", "--reload-include", "more", "--reload-exclude", "*.tmp")
    with Reloading(site, *arguments) as server:

        def reloaded() -> bytes:
            server.wait_for("serves now")
            server.wait_for("serves again")
            server.wait_for("finished")
            return server.get()

        site.write("two", "import settings")
        assert reloaded() == b"two"
        (site.folder / "settings.py").write_text("what(\n")
        server.wait_for("this one serves on")
        assert "SyntaxError" in server.log
        assert server.get() == b"two"
        (site.folder / "settings.py").write_text("NAME = 'bb'\n")
        assert reloaded() == b"two"
        # A module that was not there before, and is wrong: it is watched, too.
        (site.folder / "extra.py").write_text("import nowhere\n")
        site.write("three", "import extra")
        server.wait_for("this one serves on")
        (site.folder / "extra.py").write_text("repaired = True\n")
        assert reloaded() == b"three"
        assert "settings.py changed" in server.log
        assert "extra.py changed" in server.log
        # What is included, new files as well; not what is excluded.
        (site.folder / "more" / "page.tmp").write_text("1")
        (site.folder / "more" / "page.html").write_text("1")
        assert reloaded() == b"three"
        assert "page.html changed" in server.log
        assert "page.tmp" not in server.log
        assert server.process.poll() is None
        server.stop()


def test_a_first_import_that_fails_is_tried_again(site: Site) -> None:
    """With --reload."""
    site.write("one", "import nowhere")
    process = subprocess.Popen(
        [sys.executable, "-m", "roving", "serve", "shop:app", "--reload", "--uds", "socket"],
        cwd=site.folder,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    try:
        while "waiting for a file to change" not in (line := process.stderr.readline()):
            assert line
        site.write("one")
        while "serving shop:app" not in (line := process.stderr.readline()):
            assert line
        with contextlib.closing(Client(f"{site.folder}/socket")) as client:
            assert client.get()["x-process"] == str(process.pid)
        process.terminate()
        process.communicate(timeout=WAIT)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()
    assert not os.path.exists(site.folder / "socket")
