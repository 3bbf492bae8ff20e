"""How one process takes the place of another: what is passed on, and what the two tell one another.

The old process starts the new one with the sockets it listens on, and an end of a pair of sockets. The new
one imports the application, begins to accept, and says so: with everything it listens on. Then the old one
accepts no more. If the new one ends, or says that it has failed, nothing has happened.

Two kinds of successors:

- `heir`: it stays. The old process finishes what it has, and exits.
- `stand-in`: it serves for as long as the old process needs to finish what it has and to begin anew by
  exec(2), which keeps its number. Over the pair of sockets it is then told to hand over in turn; should that
  be closed instead, the other is gone, and it stops.
"""

import contextlib
import json
import os
import socket
import subprocess
import sys
from collections.abc import Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from roving.serve._bind import Listening, parse

__all__ = ["Inheritance", "Origin", "Successor", "take"]

# Not ROVING_SERVE_: those are options.
_VARIABLE = "ROVING_HANDOVER"
# As many as the system passes in one message.
_MOST = 253
_HAND_OVER = b"h"


class _Socket:
    """A socket that is passed on, and what for: bind, admin, or, of systemd's, given and given-admin."""

    def __init__(self, kind: str, listening: Listening) -> None:
        """Take note of it."""
        self.kind = kind
        self.listening = listening

    def description(self) -> dict[str, Any]:
        """Write it down, without its descriptor."""
        return {"kind": self.kind, "where": self.listening.where, "path": self.listening.path}


def _made(description: dict[str, Any], descriptor: int) -> _Socket:
    """Take over what was passed on."""
    listener = socket.socket(fileno=descriptor)
    listener.set_inheritable(False)
    listening = Listening(listener, description["path"], description["where"])
    # Until this process has come up its file is the other's.
    listening.owned = False
    return _Socket(description["kind"], listening)


@dataclass
class Origin:
    """How this process was started, so that another one can be."""

    command: list[str]
    environment: dict[str, str]
    folder: str

    @classmethod
    def now(cls) -> "Origin":
        """Note it, before anything of it changes."""
        environment = {
            name: value
            for name, value in os.environ.items()
            if name not in (_VARIABLE, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES")
        }
        folder = os.getcwd()
        # By the name it was given: after a deployment a link may lead to another folder.
        with contextlib.suppress(OSError):
            named = environment.get("PWD", "")
            if named and os.path.samestat(os.stat(named), os.stat(folder)):
                folder = named
        return cls([sys.executable, *sys.orig_argv[1:]], environment, folder)


@dataclass
class Inheritance:
    """What a process has from the one before it; nothing, in one that was started by somebody else."""

    kind: str = ""
    """heir, stand-in, or anew: the same process, after exec."""
    sockets: list[_Socket] = field(default_factory=list)
    pair: socket.socket | None = None
    """To whoever has started us; of a process that began anew, to its stand-in."""
    stand_in: int | None = None
    """The number of that."""
    kept: list[tuple[str, Listening]] = field(default_factory=list)
    """Of a process that began anew: its sockets once more, should it have to begin once more."""

    def given(self) -> list[tuple[str, Listening]]:
        """Give systemd's sockets, each with its name."""
        names = {"given": "", "given-admin": "admin"}
        return [(names[each.kind], each.listening) for each in self.sockets if each.kind in names]

    def resolve(self, kind: str, places: list[str]) -> list[str | Listening]:
        """Replace those places whose sockets were passed on."""
        left = [each for each in self.sockets if each.kind == kind]
        found: list[str | Listening] = []
        for place in places:
            wanted = parse(place)
            for each in left:
                if parse(each.listening.where) == wanted:
                    left.remove(each)
                    found.append(each.listening)
                    break
            else:
                found.append(place)
        return found

    def close_rest(self, used: list[Listening]) -> None:
        """Close what is not used any more. Files are removed by whoever has made them."""
        for each in self.sockets:
            if each.listening not in used:
                each.listening.socket.close()
        for _, listening in self.kept:
            listening.release()
        self.sockets, self.kept = [], []

    def tell_ready(self, sockets: list[tuple[str, Listening]]) -> None:
        """Tell who has started us that we accept, and on what."""
        assert self.pair is not None
        passed = [_Socket(kind, listening) for kind, listening in sockets][:_MOST]
        text = json.dumps({"ready": [each.description() for each in passed]}) + "\n"
        descriptors = [each.listening.descriptor for each in passed]
        assert all(descriptor is not None for descriptor in descriptors)
        # One that is gone does not listen; what follows from that the caller finds out by itself.
        with contextlib.suppress(OSError):
            socket.send_fds(self.pair, [text.encode()], descriptors)  # type: ignore[arg-type]

    def tell_failed(self, files: Mapping[str, Sequence[int] | None]) -> None:
        """Tell who has started us that we do not come up; where a repair may be made: files and stamps."""
        if self.pair is not None and self.kind != "anew":
            with contextlib.suppress(OSError):
                self.pair.sendall(json.dumps({"failed": files}).encode() + b"\n")


def take(environment: MutableMapping[str, str]) -> Inheritance:
    """Take over what the process before this one left in the environment, and take it out there."""
    text = environment.pop(_VARIABLE, None)
    if text is None:
        return Inheritance()
    left = json.loads(text)
    # A child of the application's, which has only inherited the variable, is nobody's successor.
    if left["from"] != (os.getpid() if left["kind"] == "anew" else os.getppid()):
        return Inheritance()
    pair = None
    if left["pair"] is not None:
        pair = socket.socket(fileno=left["pair"])
        pair.set_inheritable(False)
    sockets = [_made(description, description["descriptor"]) for description in left["sockets"]]
    kept = []
    for description in left["sockets"] if left["kind"] == "anew" else ():
        made = _made(description, os.dup(description["descriptor"]))
        made.listening.share()
        made.listening.socket.close()
        # This process's since before it began anew.
        made.listening.owned = True
        kept.append((made.kind, made.listening))
    return Inheritance(left["kind"], sockets, pair, left["stand_in"], kept)


def _left(
    kind: str, sockets: list[tuple[str, Listening]], pair: socket.socket | None, stand_in: int | None
) -> tuple[str, list[int]]:
    """Write down what another process is left, and which descriptors go with that."""
    described, descriptors = [], []
    for name, listening in sockets:
        if listening.descriptor is not None:
            described.append({**_Socket(name, listening).description(), "descriptor": listening.descriptor})
            descriptors.append(listening.descriptor)
    if pair is not None:
        descriptors.append(pair.fileno())
    number = None if pair is None else pair.fileno()
    left = {"from": os.getpid(), "kind": kind, "sockets": described, "pair": number, "stand_in": stand_in}
    return json.dumps(left), descriptors


class Successor:
    """A process that is to take the place of this one, as this one sees it."""

    def __init__(self, origin: Origin, kind: str, sockets: list[tuple[str, Listening]]) -> None:
        """Start it. Raises OSError."""
        self.sockets: list[tuple[str, Listening]] | None = None
        """What it listens on, with names as in Inheritance; once it has said so."""
        self.files: dict[str, Sequence[int] | None] = {}
        """Where a repair may be made, with their stamps; once it has said so."""
        self.over = False
        """It says no more."""
        self.pair, theirs = socket.socketpair()
        try:
            text, descriptors = _left(kind, sockets, theirs, None)
            self._process = subprocess.Popen(
                origin.command,
                env={**origin.environment, _VARIABLE: text},
                cwd=origin.folder,
                pass_fds=descriptors,
            )
        except BaseException:
            self.pair.close()
            raise
        finally:
            theirs.close()
        self.number = self._process.pid
        self.ends = os.pidfd_open(self.number)
        """A descriptor that can be read from once it has ended."""
        self.pair.setblocking(False)
        self._text = b""
        self._passed: list[int] = []

    def hear(self) -> None:
        """Hear what it has said so far."""
        while not self.over and self.sockets is None:
            try:
                data, descriptors, _, _ = socket.recv_fds(self.pair, 1 << 16, _MOST)
            except BlockingIOError:
                return
            except ConnectionResetError:
                data, descriptors = b"", []
            self._passed += descriptors
            self._text += data
            if not data:
                self.over = True
            if self._text.endswith(b"\n"):
                said = json.loads(self._text)
                self.files = said.get("failed", {})
                if "ready" in said:
                    made = map(_made, said["ready"], self._passed)
                    self.sockets = [(each.kind, each.listening) for each in made]
                else:
                    self.over = True

    def status(self) -> int | None:
        """Say how it has ended, or None."""
        return self._process.poll()

    def terminate(self) -> None:
        """Have it stop, finishing what it has begun."""
        with contextlib.suppress(ProcessLookupError):
            self._process.terminate()

    def signal(self, number: int) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            self._process.send_signal(number)

    def kill(self) -> int:
        """End it, at once if it has not ended by itself; give its status."""
        self._process.kill()
        return self._process.wait()

    def wait(self, timeout: float) -> int:
        """Wait for its end, and end it when it takes longer; give its status."""
        try:
            return self._process.wait(timeout)
        except subprocess.TimeoutExpired:
            return self.kill()

    def close(self) -> None:
        """Have nothing more to do with it."""
        self.pair.close()
        os.close(self.ends)
        if self._process.returncode is None:
            # Not ours to wait for; without this its object would complain.
            self._process.returncode = 0


class StandIn:
    """The process that serves while this one begins anew."""

    def __init__(self, number: int, pair: socket.socket) -> None:
        """Find it again, after exec."""
        self.number = number
        self.pair = pair
        self.ends = os.pidfd_open(number)

    def reap_others(self) -> None:
        """Take note of the end of children that this process had before exec, and knows nothing of."""
        with contextlib.suppress(ChildProcessError):
            while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
                if ended.si_pid == self.number:
                    return
                os.waitpid(ended.si_pid, 0)

    def hand_over(self) -> None:
        """Have it finish what it has, and end."""
        with contextlib.suppress(OSError):
            self.pair.send(_HAND_OVER)

    def signal(self, number: int) -> None:
        """Send it a signal."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.number, number)

    def reap(self) -> int:
        """Wait for its end; give its status."""
        _, status = os.waitpid(self.number, 0)
        os.close(self.ends)
        self.pair.close()
        return os.waitstatus_to_exitcode(status)


def begin_anew(
    origin: Origin, sockets: list[tuple[str, Listening]], number: int | None, pair: socket.socket | None
) -> None:
    """Become what this process was when it began, with these sockets and this stand-in. Raises OSError."""
    text, descriptors = _left("anew", sockets, pair, number)
    for descriptor in descriptors:
        os.set_inheritable(descriptor, True)
    os.chdir(origin.folder)
    os.execve(origin.command[0], origin.command, {**origin.environment, _VARIABLE: text})


def is_told_to_hand_over(pair: socket.socket) -> bool:
    """Say, of what a stand-in has been told, whether it is that; if not, the other process is gone."""
    try:
        return pair.recv(1) == _HAND_OVER
    except OSError:
        return False
