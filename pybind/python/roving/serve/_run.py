"""The command `roving serve`: its life, from its options to its exit status."""

import contextlib
import logging
import os
import resource
import select
import signal
import sys
import time
import traceback
from collections.abc import Callable
from types import FrameType

import roving
from roving.serve import _command, _config
from roving.serve._admin import AdminListener
from roving.serve._bind import Listening, activated
from roving.serve._handle import ServerHandle, start
from roving.serve._load import CannotLoad, load
from roving.serve._log import logger

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command with these arguments; return its exit status."""
    parsed = _command.parse(arguments, os.environ)
    if parsed.prints:
        print(_config.printed(parsed.values, parsed.sources), end="")
        return 0
    _log(parsed.get("log_level", "info"))
    for name in parsed.unknown:
        logger.warning("%s is set, and is no option of roving serve", name)
    try:
        roving.configure(
            workers=parsed.get("workers", None),
            preempt=parsed.get("preempt", 10.0) / 1000 or None,
            require_free_threading=parsed.get("require_free_threading", None),
        )
        roving.patch.all()
    except (RuntimeError, ValueError) as error:
        parsed.parser.error(str(error))
    _raise_descriptor_limit()
    if "umask" in parsed.values:
        os.umask(parsed.values["umask"])
    signals = _Signals()
    target = parsed.values["application"]
    admin = None
    try:
        bind, admin_bind = _places(parsed)
        if admin_bind:
            # First: it says that the process lives, and that it is not ready yet.
            admin = AdminListener(admin_bind)
    except (OSError, ValueError) as error:
        return _fail(error)
    try:
        application = load(target, folder=parsed.get("app_dir", ""), factory=parsed.get("factory", False))
    except CannotLoad as error:
        return _fail(error)
    except Exception as error:
        _report_import(target, error)
        return 1
    try:
        server = start(application, bind, parsed.requests, admin)
    except (OSError, ValueError, TypeError) as error:
        return _fail(error)
    count = roving.stats()["workers"]
    logger.info("serving %s on %s, with %s workers", target, ", ".join(server.addresses), count)
    if server.admin_addresses:
        logger.info("health and metrics on %s", ", ".join(server.admin_addresses))
    signals.wait({signal.SIGHUP: lambda: _reload_tls(server), signal.SIGUSR1: lambda: _reopen_log(server)})
    _stop(server, parsed.get("graceful_timeout", 30.0))
    return 0


def _fail(error: Exception) -> int:
    """Say what keeps it from serving."""
    print(f"roving: {(isinstance(error, OSError) and error.strerror) or error}", file=sys.stderr)
    return 1


def _places(parsed: _command.Parsed) -> tuple[list[str | Listening], list[str | Listening]]:
    """Say where to listen for requests, and for the admin listener: at systemd's sockets, if any."""
    bind: list[str | Listening] = list(parsed.get("bind", ["127.0.0.1:8000"]))
    admin_bind: list[str | Listening] = list(parsed.get("admin_bind", []))
    given = activated(os.environ)
    ours: list[str | Listening] = [listening for name, listening in given if name != "admin"]
    admins: list[str | Listening] = [listening for name, listening in given if name == "admin"]
    if ours and "bind" in parsed.values:
        logger.warning("systemd gives sockets: %s is not listened on", ", ".join(parsed.values["bind"]))
    return ours or bind, admins or admin_bind


def _log(level: str) -> None:
    logging.basicConfig(
        stream=sys.stderr, level=level.upper(), format="%(asctime)s %(levelname)s %(name)s: %(message)s"
    )


def _raise_descriptor_limit() -> None:
    """Allow as many connections as the system does."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        # If not, what is allowed so far is what there is.
        with contextlib.suppress(OSError, ValueError):
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def _report_import(target: str, error: Exception) -> None:
    """Show why an application does not import, from its own frames on."""
    trace = error.__traceback__
    ours = (__file__, load.__code__.co_filename)
    while trace is not None and (
        trace.tb_frame.f_code.co_filename in ours or "importlib" in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    traceback.print_exception(type(error), error, trace or error.__traceback__, file=sys.stderr)
    print(f"roving: {target} cannot be imported", file=sys.stderr)


class _Signals:
    """SIGTERM and SIGINT: the first one stops, a second SIGINT leaves at once. SIGHUP: the files of TLS anew.
    SIGUSR1: the log anew.
    """

    def __init__(self) -> None:
        """Install the handlers."""
        self._reads, writes = os.pipe()
        os.set_blocking(writes, False)
        self._stops = False
        # The system may give a signal to any thread, and that wakes the main thread from nothing. Full, it
        # is full of what says the same.
        signal.set_wakeup_fd(writes, warn_on_full_buffer=False)
        signal.signal(signal.SIGTERM, self._handle)
        signal.signal(signal.SIGINT, self._handle)
        for number in (signal.SIGHUP, signal.SIGUSR1):
            signal.signal(number, self._handle)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a child: it has the same pipe, and what ends it is to end it alone."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stops and number == signal.SIGINT:
            os._exit(130)
        self._stops = self._stops or number in (signal.SIGTERM, signal.SIGINT)

    def wait(self, others: dict[int, Callable[[], None]]) -> None:
        """Wait for the first that stops; until then others have their functions called."""
        while not self._stops:
            select.select([self._reads], [], [])
            # Of whatever the application handles there are numbers, too.
            numbers = os.read(self._reads, 4096)
            if signal.SIGTERM in numbers or signal.SIGINT in numbers:
                # Not noted here: the handler that is about to run would take it for a second one.
                return
            for number, function in others.items():
                if number in numbers:
                    function()


def _reload_tls(server: ServerHandle) -> None:
    try:
        if server.reload_tls():
            logger.info("SIGHUP: the files of TLS have been read again")
        else:
            logger.info("SIGHUP: there is nothing to read again")
    except ValueError as error:
        logger.error("SIGHUP: the files of TLS from before stay in use: %s", error)


def _reopen_log(server: ServerHandle) -> None:
    try:
        server.reopen_log()
        logger.info("the access log has been opened anew")
    except OSError as error:
        logger.error("the access log cannot be opened anew: %s", error)


def _stop(server: ServerHandle, grace: float) -> None:
    in_flight = server.stats()["in_flight"]
    logger.info("stopping; %d requests are in flight", in_flight)
    began = time.monotonic()
    if server.close(grace):
        logger.info("stopped after %.1f s", time.monotonic() - began)
    else:
        logger.warning("stopped; what was not finished within %g s has been broken off", grace)
