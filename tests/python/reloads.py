"""What the tests of reloading share: an application with versions and gates, and its server."""

import contextlib
import os
import re
import signal
from pathlib import Path
from typing import Any

import pytest
from test_serve_command import Command

# Says which version it is, and whose: the number of its process. /wait answers when somebody asks the same
# process for /go, /fifo when somebody opens the gate from outside.
APPLICATION = """
import os, threading
gate = threading.Event()

def app(environ, start_response):
    start_response("200 OK", [("X-Process", str(os.getpid()))])
    if environ["PATH_INFO"] == "/wait":
        return wait()
    if environ["PATH_INFO"] == "/fifo":
        return outside()
    if environ["PATH_INFO"] == "/go":
        gate.set()
    return [VERSION]

def wait():
    yield b"waiting "
    gate.wait()
    yield VERSION

def outside():
    yield b"waiting "
    with open("gate") as fifo:
        fifo.read()
    yield VERSION
"""

# Put before an application, it says that its import has begun, and whose; then it waits.
GATED = """
import os
with open("begun", "w") as fifo:
    fifo.write(str(os.getpid()))
with open("release") as fifo:
    fifo.read()
"""


class Site:
    """A folder with an application."""

    def __init__(self, folder: Path) -> None:
        """Make it, with the first version."""
        self.folder = folder
        for name in ("begun", "release", "gate"):
            os.mkfifo(folder / name)
        self.write("one")

    def write(self, version: str, before: str = "") -> None:
        """Write a version, in one step."""
        new = self.folder / "shop.new"
        new.write_text(f"{before}\nVERSION = {version.encode()!r}\n{APPLICATION}")
        new.rename(self.folder / "shop.py")

    def begun(self) -> int:
        """Wait until the import of a gated version has begun; give the number of its process."""
        return int((self.folder / "begun").read_text())

    def release(self) -> None:
        """Let it go on."""
        (self.folder / "release").write_text("")

    def open_gate(self) -> None:
        """Let a request for /fifo go on."""
        (self.folder / "gate").write_text("")


class Reloading(Command):
    """A server that is reloaded. Its log is that of all its processes."""

    def __init__(
        self,
        site: Site,
        *arguments: str,
        place: tuple[str, ...] = ("--bind", "127.0.0.1:0"),
        folder: Path | None = None,
        **more: Any,
    ) -> None:
        """Start it, and wait until it serves."""
        self.site = site
        # In a group of its own, which is what is ended should a test fail.
        more.setdefault("start_new_session", True)
        super().__init__(folder or site.folder, "shop:app", *place, *arguments, **more)
        self.number = self.process.pid

    def send(self, number: int) -> None:
        """Send a signal to the process that serves."""
        os.kill(self.number, number)

    def handed_over(self) -> int:
        """Wait until another process serves, which gets the signals from now on; give its number."""
        self.wait_for("serves now")
        found = re.findall(r"process (\d+) serves now", self.log)
        self.number = int(found[-1])
        return self.number

    def reload(self, version: str) -> None:
        """Have another version serve."""
        self.site.write(version)
        self.send(signal.SIGHUP)
        self.handed_over()

    def get(self, path: str = "/") -> bytes:
        """Make one request on a connection of its own."""
        with contextlib.closing(self.client()) as client:
            return client.get(path, "Connection: close").body

    def stop(self) -> str:
        """Stop it, and wait until all of its processes have ended; give the log."""
        self.send(signal.SIGTERM)
        assert self.end() == 0
        return self.log

    def __exit__(self, *_: object) -> None:
        """End all of it."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.process.pid, signal.SIGKILL)
        self.process.communicate()


@pytest.fixture
def site(tmp_path: Path) -> Site:
    """Make a folder with an application."""
    return Site(tmp_path)


def is_there(number: int) -> bool:
    """Say whether there is such a process."""
    try:
        os.kill(number, 0)
    except ProcessLookupError:
        return False
    return True
