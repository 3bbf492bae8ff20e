"""Runs one of CPython's test modules in a fiber under `roving.patch.all()`, or on a plain thread.

Run by `runner.py`, one process a module. What happens is written to a file at once, a line of JSON for each
event: whoever reads it knows in which test a process died or hangs.

usage: inside.py PLACE MODULE EVENTS [RESOURCE...]

PLACE is "fiber", "fiber-thread" (a threading.Thread, which is one), or "thread", without roving. What to run
is read from stdin: {"only": [id...] or null, "skip": [id...], "unfit": regular expression or null}.
"""

import faulthandler
import importlib
import json
import os
import re
import sys
import threading
import unittest
import unittest.case
from collections.abc import Callable, Iterator
from typing import Any

BAD = ("failed", "error", "passed against expectation")


class Events:
    """The file that events are written to."""

    def __init__(self, path: str) -> None:
        """Open it to append."""
        self.fd = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)

    def write(self, **event: Any) -> None:
        """Write an event: one write, so that a process that dies has written all of it or nothing."""
        os.write(self.fd, (json.dumps(event) + "\n").encode())


class Result(unittest.TestResult):
    """Writes an event when a test begins, and one with what came of it."""

    def __init__(self, events: Events) -> None:
        """Write to `events`."""
        super().__init__()
        self.events = events
        self.outcome = ""
        self.text = ""
        self.running = False

    def startTest(self, test: unittest.TestCase) -> None:
        """A test begins."""
        super().startTest(test)
        self.outcome, self.text, self.running = "passed", "", True
        self.events.write(begin=test.id())

    def stopTest(self, test: unittest.TestCase) -> None:
        """A test has ended."""
        super().stopTest(test)
        self.running = False
        self.events.write(end=test.id(), outcome=self.outcome, text=self.text[-20_000:])

    def _note(self, test: Any, outcome: str, text: str) -> None:
        if not self.running:
            # Of a class or a module: "setUpClass (...)".
            self.events.write(end=test.id(), outcome=outcome, text=text)
            return
        if self.outcome not in BAD:
            self.outcome = outcome
        self.text += text

    def addError(self, test: unittest.TestCase, err: Any) -> None:
        """It raised."""
        super().addError(test, err)
        self._note(test, "error", self.errors[-1][1])

    def addFailure(self, test: unittest.TestCase, err: Any) -> None:
        """It failed."""
        super().addFailure(test, err)
        self._note(test, "failed", self.failures[-1][1])

    def addSubTest(self, test: unittest.TestCase, subtest: unittest.TestCase, err: Any) -> None:
        """A part of it has ended."""
        super().addSubTest(test, subtest, err)
        if err is not None:
            text = "".join(self._exc_info_to_string(err, test))  # type: ignore[attr-defined]
            self._note(test, "failed", f"{subtest}\n{text}")

    def addSkip(self, test: unittest.TestCase, reason: str) -> None:
        """It does not fit this machine."""
        super().addSkip(test, reason)
        self._note(test, "skipped", reason)

    def addExpectedFailure(self, test: unittest.TestCase, err: Any) -> None:
        """It fails as it says."""
        super().addExpectedFailure(test, err)

    def addUnexpectedSuccess(self, test: unittest.TestCase) -> None:
        """It passes though it says that it fails."""
        super().addUnexpectedSuccess(test)
        self._note(test, "passed against expectation", "")


def flat(suite: unittest.TestSuite) -> Iterator[unittest.TestCase]:
    """Give the tests of a suite, in order."""
    for part in suite:
        if isinstance(part, unittest.TestSuite):
            yield from flat(part)
        else:
            yield part


def run_module(name: str, events: Events, resources: list[str]) -> None:
    """Run the tests of a module that are asked for, here."""
    from test import support  # type: ignore[import-not-found]

    asked = json.load(sys.stdin)
    skip, only = set(asked["skip"]), asked["only"] and set(asked["only"])
    unfit = re.compile(asked["unfit"] or "(?!)")
    # As `python -m test` has it.
    support.use_resources = resources
    support.verbose = False
    try:
        module = importlib.import_module(name)
        tests = list(flat(unittest.defaultTestLoader.loadTestsFromModule(module)))
    except unittest.SkipTest as skipped:
        events.write(end=f"{name} (import)", outcome="skipped", text=str(skipped))
        return
    tests = [test for test in tests if test.id() not in skip and (only is None or test.id() in only)]
    tests = [test for test in tests if not unfit.search(test.id())]
    # One flat suite: classes and modules are set up where one follows another, as ever.
    unittest.TestSuite(tests).run(Result(events))


def main() -> None:
    """Run a module, and say that it is done."""
    place, name, path, *resources = sys.argv[1:]
    faulthandler.enable()
    events = Events(path)
    failed: list[BaseException] = []

    def work() -> None:
        try:
            run_module(name, events, resources)
        except BaseException as error:
            failed.append(error)

    if place != "thread":
        import logging
        import signal

        import roving
        import roving.patch

        def show(number: int, frame: object) -> None:
            roving.dump()

        # Asked by the runner when nothing happens any more. The main thread's join looks at signals.
        signal.signal(signal.SIGUSR2, show)
        # As `roving run` has it: some tests wait in loops that never park.
        roving.configure(preempt=0.010)
        roving.patch.all()
        # What it says of calls that block, on a busy machine of any, is not to be among the lines that
        # test_logging counts.
        logging.getLogger("roving").disabled = True

    join: Callable[[], object]
    if place == "fiber":
        join = roving.spawn(work).join
    else:
        thread = threading.Thread(target=work)
        thread.start()
        join = thread.join
    while True:
        # Tests that interrupt the main thread believe that they run there.
        try:
            join()
            break
        except KeyboardInterrupt:
            continue
    if failed:
        raise failed[0]
    events.write(done=name)


if __name__ == "__main__":
    main()
