"""The command `roving tasks`: what it does."""

from __future__ import annotations

import argparse
import logging
import os
import select
import signal
import sys
import traceback
from types import FrameType

import roving
from roving._roving import StoreError
from roving.tasks import _command, _manage
from roving.tasks._app import Tasks
from roving.tasks._hooks import logger
from roving.tasks._load import CannotLoad, load
from roving.tasks._worker import Worker

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command with these arguments; return its exit status."""
    parser = _command.parser()
    options = parser.parse_args(arguments)
    if options.command == "worker":
        _prepare(parser, options)
    try:
        tasks = load(options.tasks, folder=options.app_dir)
    except (CannotLoad, StoreError, ValueError) as error:
        return _fail(error)
    except Exception as error:
        traceback.print_exception(error)
        print(f"roving: {options.tasks} cannot be imported", file=sys.stderr)
        return 1
    try:
        if options.command == "worker":
            return _work(tasks, options)
        return _manage.run(tasks, options)
    except (StoreError, ValueError) as error:
        return _fail(error)
    except BrokenPipeError:
        # Whoever read has seen enough; the interpreter would complain again at its end.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1


def _fail(error: Exception) -> int:
    print(f"roving: {error}", file=sys.stderr)
    return 1


def _prepare(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Set up what holds for the process, before anything of the user's is imported."""
    logging.basicConfig(
        stream=sys.stderr,
        level=options.log_level.upper(),
        format="%(asctime)s %(levelname)s %(name)s: %(message)s",
    )
    try:
        roving.configure(
            workers=options.workers,
            preempt=options.preempt / 1000 or None,
            require_free_threading=options.require_free_threading,
        )
        roving.patch.all()
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))


def _work(tasks: Tasks, options: argparse.Namespace) -> int:
    signals = _Signals()
    worker = tasks.worker(
        queues=options.queues, concurrency=options.concurrency, name=options.name, grace=options.grace
    )
    worker.start(drain=options.drain)
    where = ", ".join(options.queues) or "all queues"
    logger.info("the worker %s runs jobs of %s, %d at a time", worker.name, where, worker.concurrency)
    # In a fiber: the main thread waits for signals.
    roving.options(name="tasks: end", daemon=True).spawn(_tell_end, worker, signals)
    signals.wait()
    if worker.wait(0):
        # Drained, or its store is gone, which it has said.
        logger.info("the worker %s has ended", worker.name)
        tasks.close()
        return 0 if options.drain else 1
    logger.info("stopping; %d jobs run", worker.running)
    if not worker.stop():
        logger.warning("what was not finished within %g s has been handed back", options.grace)
    tasks.close()
    logger.info("stopped")
    return 0


def _tell_end(worker: Worker, signals: _Signals) -> None:
    worker.wait()
    signals.wake()


class _Signals:
    """SIGTERM and SIGINT: the first one stops, a second SIGINT leaves at once."""

    def __init__(self) -> None:
        """Install the handlers."""
        self._reads, self._writes = os.pipe()
        os.set_blocking(self._writes, False)
        # The system may give a signal to any thread, and that wakes the main thread from nothing.
        signal.set_wakeup_fd(self._writes, warn_on_full_buffer=False)
        self._stops = False
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, self._handle)
        os.register_at_fork(after_in_child=self._forget)

    def _forget(self) -> None:
        """In a child: it has the same pipe, and what ends it is to end it alone."""
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGTERM, signal.SIGINT):
            if signal.getsignal(number) == self._handle:
                signal.signal(number, signal.SIG_DFL)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if self._stops and number == signal.SIGINT:
            os._exit(130)
        self._stops = True

    def wake(self) -> None:
        """End the wait."""
        os.write(self._writes, b"\0")

    def wait(self) -> None:
        """Wait for the first signal, or for `wake`."""
        while True:
            select.select([self._reads], [], [])
            numbers = os.read(self._reads, 4096)
            if not {0, signal.SIGTERM, signal.SIGINT}.isdisjoint(numbers):
                return
