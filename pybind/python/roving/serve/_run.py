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
from types import FrameType
from typing import Any

import roving
from roving.serve import _command
from roving.serve._handle import ServerHandle, start
from roving.serve._load import CannotLoad, load
from roving.serve._log import logger

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command with these arguments; return its exit status."""
    parser, options, requests = _command.parse(arguments)
    _log(options.log_level)
    try:
        roving.configure(
            workers=options.workers,
            preempt=options.preempt / 1000 or None,
            require_free_threading=options.require_free_threading,
        )
        roving.patch.all()
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))
    _raise_descriptor_limit()
    signals = _Signals()
    try:
        application = load(options.application, folder=options.app_dir, factory=options.factory)
    except CannotLoad as error:
        print(f"roving: {error}", file=sys.stderr)
        return 1
    except Exception as error:
        _report_import(options.application, error)
        return 1
    try:
        server = start(application, options.bind, requests)
    except (OSError, ValueError, TypeError) as error:
        print(f"roving: {error.strerror if isinstance(error, OSError) else error}", file=sys.stderr)
        return 1
    workers: Any = roving.stats()["workers"]
    count = len(workers) if isinstance(workers, (list, tuple)) else workers
    logger.info("serving %s on %s, with %s workers", options.application, ", ".join(server.addresses), count)
    while signals.wait() == signal.SIGHUP:
        _reload_tls(server)
    _stop(server, options.graceful_timeout)
    return 0


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
    """SIGTERM and SIGINT: the first one stops, a second SIGINT leaves at once. SIGHUP: reads files again."""

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
        signal.signal(signal.SIGHUP, self._handle)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stops and number == signal.SIGINT:
            os._exit(130)
        self._stops = self._stops or number != signal.SIGHUP

    def wait(self) -> int:
        """Wait for the next one: SIGHUP, or one that stops."""
        while True:
            select.select([self._reads], [], [])
            # Of whatever the application handles there are numbers, too.
            number = os.read(self._reads, 1)[0]
            if number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
                return number


def _reload_tls(server: ServerHandle) -> None:
    try:
        if server.reload_tls():
            logger.info("SIGHUP: the files of TLS have been read again")
        else:
            logger.info("SIGHUP: there is nothing to read again")
    except ValueError as error:
        logger.error("SIGHUP: the files of TLS from before stay in use: %s", error)


def _stop(server: ServerHandle, grace: float) -> None:
    in_flight = server.stats()["in_flight"]
    logger.info("stopping; %d requests are in flight", in_flight)
    began = time.monotonic()
    if server.close(grace):
        logger.info("stopped after %.1f s", time.monotonic() - began)
    else:
        logger.warning("stopped; what was not finished within %g s has been broken off", grace)
