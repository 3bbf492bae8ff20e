"""A server of the command's, from its first request to the end of its process: to a successor, or for good.

What _successor.py says of the two kinds of successors is put to use here.
"""

import atexit
import logging
import os
import signal
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import roving
from roving.serve import _pid
from roving.serve._admin import AdminListener
from roving.serve._bind import Listening
from roving.serve._handle import ServerHandle
from roving.serve._jobs import Jobs
from roving.serve._log import logger
from roving.serve._signals import Signals
from roving.serve._successor import (
    Inheritance,
    Origin,
    StandIn,
    Successor,
    begin_anew,
    is_told_to_hand_over,
)
from roving.serve._systemd import Notifier
from roving.serve._watch import Watch

__all__ = ["Process", "Service", "tend"]

# For a process to end that has nothing to finish.
_SOON = 2.0


@dataclass
class Process:
    """What a process has, whether it serves or not."""

    origin: Origin
    inherited: Inheritance
    signals: Signals
    notifier: Notifier
    watch: Watch | None
    """With --reload."""
    stand_in: StandIn | None
    grace: float = 30.0
    """What is in flight has so many seconds to be finished."""
    limit: float = 60.0
    """A successor has so many seconds to come up."""
    keeps_number: bool = False
    reloads: bool = False
    """--reload."""
    pid: str | None = None
    """A file for the process's number."""
    again: bool = field(default=False, init=False)
    """A reload was asked for amid another."""

    def changed(self) -> list[str]:
        """Name the files that have changed, with --reload."""
        return [] if self.watch is None else self.watch.changed(self._pause)

    def _pause(self, seconds: float) -> bool:
        told, _ = self.signals.wait((), seconds)
        self.again = self.again or signal.SIGHUP in told
        return not self.signals.stops

    def until_next_look(self) -> float | None:
        """Say for how long there is nothing to do by itself."""
        return None if self.watch is None else self.watch.left()

    def end_stand_in(self, seconds: float) -> None:
        """Stop the one that serves in our place, or finishes what it had; it has so many seconds."""
        if self.stand_in is not None:
            self.stand_in.signal(signal.SIGTERM)
            self.wait_for_stand_in(seconds)

    def wait_for_stand_in(self, seconds: float) -> int:
        """Wait for the end of that one, for so many seconds; then end it. Gives its status."""
        if self.stand_in is None:
            return 0
        if not self.signals.wait_for(self.stand_in.ends, seconds):
            self.stand_in.signal(signal.SIGKILL)
        stand_in, self.stand_in = self.stand_in, None
        return stand_in.reap()

    def end(self, sockets: list[tuple[str, Listening]]) -> None:
        """Leave no files behind."""
        for _, listening in sockets:
            listening.end()
        if self.pid is not None:
            _pid.remove(self.pid)

    def begin_anew(self, sockets: list[tuple[str, Listening]]) -> None:
        """Become what this process was when it began. Returns when that fails."""
        atexit._run_exitfuncs()
        for handler in logging.getLogger().handlers:
            handler.flush()
        self.signals.block()
        stand_in = self.stand_in
        number, pair = (None, None) if stand_in is None else (stand_in.number, stand_in.pair)
        try:
            begin_anew(self.origin, sockets, number, pair)
        except OSError as error:
            logger.error("this process cannot begin anew: %s", error)
        self.signals.unblock()


def tend(process: Process, sockets: list[tuple[str, Listening]]) -> int:
    """Live without a server, after the application did not import: until it is to be tried again, or the end.

    There may be a stand-in that serves; without one it waits for a file to change.
    """
    process.signals.started()
    while True:
        stand_in = process.stand_in
        watched = [] if stand_in is None else [stand_in.ends]
        told, ready = process.signals.wait(watched, process.until_next_look())
        if process.signals.stops:
            process.end_stand_in(process.grace + _SOON)
            process.end(sockets)
            return 0
        if ready:
            status = process.wait_for_stand_in(_SOON)
            logger.error("the process that served has ended with status %d", status)
            process.end(sockets)
            return 1
        changed = process.changed()
        if changed or process.again or signal.SIGHUP in told:
            process.again = False
            logger.info("%s: trying again", _why(changed))
            process.begin_anew(sockets)


def _why(changed: list[str]) -> str:
    if not changed:
        return "SIGHUP"
    more = f" and {len(changed) - 1} more" if len(changed) > 1 else ""
    return f"{os.path.relpath(changed[0])}{more} changed"


class Service:
    """A server, and its process."""

    def __init__(
        self, process: Process, server: ServerHandle, admin: AdminListener | None, jobs: Jobs
    ) -> None:
        """Take all of them."""
        self._process = process
        self._signals = process.signals
        self._server = server
        self._admin = admin
        self._jobs = jobs

    def _sockets(self) -> list[tuple[str, Listening]]:
        """Give what it listens on, with the names a successor knows it by."""
        listening = [("bind" if each.where else "given", each) for each in self._server.listening]
        if self._admin is not None:
            listening += [("admin" if each.where else "given-admin", each) for each in self._admin.listening]
        return listening

    def begin(self) -> None:
        """Take what is this process's own from now on. Raises OSError when --pid cannot be written."""
        process = self._process
        inherited = process.inherited
        for _, listening in self._sockets():
            # Those of a stand-in are the other one's, which lives longer.
            listening.owned = inherited.kind != "stand-in"
        if process.pid is not None and inherited.kind != "stand-in":
            try:
                _pid.write(process.pid)
            except OSError as error:
                if not inherited.kind:
                    raise
                # What has been accepted already would be lost.
                logger.error("%s", error.strerror)

    def tell(self) -> None:
        """Tell all who wait for it that it serves."""
        process = self._process
        inherited = process.inherited
        if inherited.kind == "anew":
            if process.stand_in is not None:
                process.stand_in.hand_over()
            process.notifier.ready()
        elif inherited.kind:
            inherited.tell_ready(self._sockets())
        else:
            process.notifier.ready()
        inherited.close_rest([listening for _, listening in self._sockets()])
        if inherited.kind == "heir" and inherited.pair is not None:
            inherited.pair.close()

    def run(self) -> int:
        """Serve, until it is to stop or another process serves in its place; give the exit status."""
        process = self._process
        pair = process.inherited.pair if process.inherited.kind == "stand-in" else None
        while True:
            watched = [pair.fileno()] if pair is not None else []
            if process.stand_in is not None:
                watched.append(process.stand_in.ends)
            told, ready = self._signals.wait(watched, process.until_next_look())
            if self._signals.stops:
                return self._stop()
            if process.stand_in is not None and process.stand_in.ends in ready:
                process.wait_for_stand_in(_SOON)
            if pair is not None and pair.fileno() in ready:
                return self._finish() if is_told_to_hand_over(pair) else self._stop()
            if signal.SIGUSR1 in told:
                self._reopen()
            if pair is not None:
                # The process that it stands in for is told the same.
                continue
            changed = process.changed()
            if changed or process.again or signal.SIGHUP in told:
                status = self._reload(_why(changed))
                if status is not None:
                    return status

    def _reopen(self) -> None:
        """Open anew what is kept open: the access log, and the files of TLS."""
        try:
            self._server.reopen_log()
            if self._server.reload_tls():
                logger.info("the access log has been opened anew, and the files of TLS read again")
            else:
                logger.info("the access log has been opened anew")
        except OSError as error:
            logger.error("the access log cannot be opened anew: %s", error)
        except ValueError as error:
            logger.error("the files of TLS from before stay in use: %s", error)

    def _stop(self) -> int:
        process = self._process
        process.notifier.stopping()
        in_flight = self._server.stats()["in_flight"]
        logger.info("stopping; %d requests are in flight", in_flight)
        if process.stand_in is not None:
            process.stand_in.signal(signal.SIGTERM)
        began = time.monotonic()
        self._jobs.stop(process.grace)
        if self._server.close(process.grace):
            logger.info("stopped after %.1f s", time.monotonic() - began)
        else:
            logger.warning("stopped; what was not finished within %g s has been broken off", process.grace)
        self._jobs.finish()
        process.end_stand_in(max(process.grace - (time.monotonic() - began), 0.0) + _SOON)
        process.end([])
        return 0

    # A successor's coming up.

    def _reload(self, why: str) -> int | None:
        """Have a successor take over: the exit status, or None when this process serves on."""
        process = self._process
        process.again = False
        kind = "stand-in" if process.keeps_number else "heir"
        logger.info("%s: reloading", why)
        process.notifier.reloading()
        try:
            successor = Successor(process.origin, kind, self._sockets())
        except OSError as error:
            logger.error("no process can be started to reload: %s", error)
            self._stay()
            return None
        came_up = self._wait_for(successor)
        if self._signals.stops:
            return self._stop_both(successor)
        if not came_up:
            status = successor.wait(_SOON if successor.over else 0.0)
            if process.watch is not None:
                process.watch.add(successor.files)
            logger.error(
                "the new process did not come up (%s): this one serves on",
                f"exit status {status}" if successor.over else f"not within {process.limit:g} s",
            )
            successor.close()
            self._stay()
            return None
        if kind == "heir":
            process.notifier.successor(successor.number)
            return self._leave_to(successor)
        return self._begin_anew(successor)

    def _stay(self) -> None:
        """Have at least what can be had without a new process."""
        self._reopen()
        self._process.notifier.ready()

    def _wait_for(self, successor: Successor) -> bool:
        """Wait until a successor has come up, or has not; say whether."""
        process = self._process
        deadline = time.monotonic() + process.limit
        while successor.sockets is None and not successor.over:
            left = deadline - time.monotonic()
            if left <= 0:
                return False
            told, ready = self._signals.wait([successor.pair.fileno(), successor.ends], left)
            if self._signals.stops:
                return False
            if signal.SIGUSR1 in told:
                self._reopen()
            process.again = process.again or signal.SIGHUP in told
            # What it has said before it ended counts.
            successor.hear()
            if successor.ends in ready:
                successor.over = True
        return successor.sockets is not None

    def _stop_both(self, successor: Successor) -> int:
        """Stop, amid a reload."""
        successor.terminate()
        successor.hear()
        began = time.monotonic()
        status = self._stop()
        # One that has come up may have requests of its own to finish.
        left = self._process.grace - (time.monotonic() - began) if successor.sockets is not None else 0.0
        successor.wait(max(left, 0.0) + _SOON)
        return status

    # A successor's taking over.

    def _leave_to(self, successor: Successor) -> int:
        """Finish what there is, while the successor serves."""
        process = self._process
        assert successor.sockets is not None
        for _, listening in successor.sockets:
            listening.socket.close()
        if process.again:
            successor.signal(signal.SIGHUP)
        self._hand_over(successor)
        ended = False

        def attend(told: set[int], ready: set[int]) -> None:
            nonlocal ended
            if signal.SIGHUP in told:
                successor.signal(signal.SIGHUP)
            if successor.ends in ready:
                ended = True
                logger.error("the new process has ended with status %s", successor.status())

        self._drain(attend, lambda: [] if ended else [successor.ends], successor)
        successor.close()
        return 0

    def _begin_anew(self, successor: Successor) -> int:
        """Finish what there is, while the successor stands in, and begin anew."""
        process = self._process
        assert successor.sockets is not None
        sockets = successor.sockets
        for _, listening in sockets:
            listening.share()
            listening.socket.close()
            listening.owned = True
        self._hand_over(successor)
        # One may finish still what it has from the last time.
        process.wait_for_stand_in(process.grace)
        process.stand_in = stand_in = StandIn(successor.number, successor.pair)
        hurry = False

        def attend(told: set[int], ready: set[int]) -> None:
            nonlocal hurry
            if stand_in.ends in ready or process.changed():
                # Nobody serves; or what it serves is out of date.
                hurry = True

        self._drain(attend, lambda: [stand_in.ends], successor, lambda: hurry)
        if self._signals.stops:
            process.end_stand_in(process.grace + _SOON)
            process.end(sockets)
            return 0
        process.begin_anew(sockets)
        return tend(process, sockets)

    def _hand_over(self, successor: Successor) -> None:
        """Accept no more."""
        assert successor.sockets is not None
        kept = {listening.path for _, listening in successor.sockets}
        for _, listening in self._sockets():
            listening.owned = listening.owned and listening.path not in kept
            listening.end()
        self._server.hand_over()
        logger.info(
            "process %d serves now; here %d requests are in flight",
            successor.number,
            self._server.stats()["in_flight"],
        )

    def _finish(self) -> int:
        """Finish what there is, of one that has stood in."""
        for _, listening in self._sockets():
            listening.end()
        self._server.hand_over()
        in_flight = self._server.stats()["in_flight"]
        logger.info("process %d serves again; here %d requests are in flight", os.getppid(), in_flight)
        self._drain(lambda told, ready: None, lambda: [], None)
        return 0

    def _drain(
        self,
        attend: Callable[[set[int], set[int]], None],
        watched: Callable[[], list[int]],
        successor: Successor | None,
        hurry: Callable[[], bool] = lambda: False,
    ) -> None:
        """Wait until all is finished, or the grace is over, attending to what comes meanwhile.

        What stops stops the successor as well: whoever has sent it may know this process only.
        """
        process = self._process
        began = time.monotonic()
        done, writes = os.pipe()
        # What comes next is the successor's.
        self._jobs.stop(process.grace)

        def finish() -> None:
            try:
                self._server.wait(process.grace)
                self._jobs.finish()
            finally:
                os.close(writes)

        waits = roving.options(daemon=True, name="roving serve: drain").spawn(finish)
        stopping = self._signals.stops
        while not hurry():
            timeout = process.until_next_look() if successor is not None else None
            told, ready = self._signals.wait([done, *watched()], timeout)
            if self._signals.stops and not stopping:
                stopping = True
                if successor is not None:
                    successor.signal(signal.SIGTERM)
                self._server.stop()
            attend(told, ready)
            if done in ready:
                break
        waits.cancel()
        os.close(done)
        if hurry():
            self._jobs.hurry()
        self._jobs.finish()
        # Clients that had nothing to ask so far, and what has taken too long.
        self._server.stop()
        if self._server.close(0.0 if hurry() else 0.5):
            logger.info("finished after %.1f s", time.monotonic() - began)
        else:
            logger.warning("what was not finished within %g s has been broken off", process.grace)
