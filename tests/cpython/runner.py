"""Runs CPython's own tests in a fiber under `roving.patch.all()`: `make cpython-tests`.

Each module runs in a process of its own (`inside.py`), which is killed when nothing happens any more; what is
left of it then runs in another. What fails and is not in `known_failures.toml` is run again, without roving,
on a plain thread: if it fails there too, the machine is at fault, or the test wants the main thread. The run
fails for the others, and for known failures that pass: the list can only shrink.
"""

import argparse
import json
import os
import re
import signal
import subprocess
import sys
import tempfile
import time
import tomllib
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, TypedDict

import roving.patch
from inside import BAD

HERE = Path(__file__).resolve().parent
VERSION = "{}.{}".format(*sys.version_info[:2])
# Seconds without any event after which a test is taken to hang; for those known to.
PATIENCE = 60.0
LITTLE_PATIENCE = 10.0
# So many times a failure must pass without roving to be roving's: some tests are a matter of luck.
PLAIN_TRIES = 3
# A module whose every test crashes shall not run for ever.
ATTEMPTS = 12


@dataclass(frozen=True)
class Module:
    """A module of CPython's tests."""

    name: str
    quick: bool = False
    resources: tuple[str, ...] = ()
    #: Runs in a threading.Thread that is a fiber.
    as_thread: bool = False
    #: A regular expression of tests that need ssl patched.
    tls: str | None = None


def modules() -> list[Module]:
    """Read the modules there are to run."""
    table = tomllib.loads((HERE / "modules.toml").read_text())
    return [
        Module(
            entry["name"],
            quick=entry.get("quick", False),
            resources=tuple(entry.get("resources", ())),
            as_thread=entry.get("as_thread", False),
            tls=entry.get("tls"),
        )
        for entry in table["module"]
    ]


@dataclass(frozen=True)
class Known:
    """A known failure."""

    test: str
    reason: str
    #: Passes now and then.
    sometimes: bool = False
    #: Never ends.
    hangs: bool = False


class Outcome(TypedDict):
    """What came of a test."""

    outcome: str
    text: str


@dataclass
class Report:
    """What came of a module."""

    module: str
    seconds: float = 0.0
    counts: dict[str, int] = field(default_factory=dict)
    #: Fails, and is not known to: what must be mended.
    unexpected: dict[str, Outcome] = field(default_factory=dict)
    #: Fails without roving too.
    elsewhere: dict[str, Outcome] = field(default_factory=dict)
    known: list[str] = field(default_factory=list)
    #: In the list, and passes, or is no test at all: to be taken out of it.
    stale: list[str] = field(default_factory=list)
    outcomes: dict[str, str] = field(default_factory=dict)

    @property
    def good(self) -> bool:
        """Whether all is as the list says."""
        return not self.unexpected and not self.stale


def known_failures(version: str = VERSION) -> dict[str, Known]:
    """Read the known failures of a version: LookupError for one that nobody has gone through yet."""
    table = tomllib.loads((HERE / "known_failures.toml").read_text())
    if version not in table["versions"]:
        raise LookupError(f"there is no list of known failures for {version}")
    known: dict[str, Known] = {}
    for group in table["group"]:
        if version not in group.get("versions", [version]):
            continue
        for test in group["tests"]:
            if test in known:
                raise ValueError(f"{test} is listed twice")
            known[test] = Known(
                test, group["reason"], group.get("sometimes", False), group.get("hangs", False)
            )
    return known


def have_tests() -> bool:
    """Whether the interpreter has its `test` package: distributions leave it out."""
    code = "import test.support, test.test_queue"
    return subprocess.run([sys.executable, "-c", code], capture_output=True).returncode == 0


def _end(process: subprocess.Popen[bytes], ask: bool) -> None:
    """Kill a process and all it has started; before that, have it say where it is."""
    for number in (signal.SIGUSR2, signal.SIGABRT) if ask else ():
        process.send_signal(number)
        with suppress(subprocess.TimeoutExpired):
            process.wait(3)
            break
    # What it has started may still be there.
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()


def _once(
    place: str, module: Module, asked: dict[str, Any], patience: float, found: dict[str, Outcome]
) -> bool:
    """Run a module in a process; False if something is left to run, because a test crashed or hung."""
    command = [sys.executable, "-X", "faulthandler", str(HERE / "inside.py")]
    # Held up by TLS, the few workers there are wait for one another.
    asked["unfit"] = module.tls if "ssl" not in roving.patch.report() else None
    with tempfile.TemporaryDirectory(prefix="roving-cpython-", ignore_cleanup_errors=True) as folder:
        events, log = Path(folder, "events"), Path(folder, "log")
        events.touch()
        work = Path(folder, "work")
        work.mkdir()
        with log.open("wb") as output:
            process = subprocess.Popen(
                [*command, place, module.name, str(events), *module.resources],
                stdin=subprocess.PIPE,
                stdout=output,
                stderr=output,
                cwd=work,
                start_new_session=True,
            )
            assert process.stdin is not None
            process.stdin.write(json.dumps(asked).encode())
            process.stdin.close()
            seen, last, ending = 0, time.monotonic(), ""
            while True:
                try:
                    status = process.wait(0.1)
                    ending = (
                        ""
                        if status == 0
                        else f"exit status {status}"
                        if status > 0
                        else signal.Signals(-status).name
                    )
                    break
                except subprocess.TimeoutExpired:
                    size = events.stat().st_size
                    if size != seen:
                        seen, last = size, time.monotonic()
                    elif time.monotonic() - last > patience:
                        ending = "hung"
                        break
            _end(process, ending == "hung")
        running, done = None, False
        for line in events.read_text().splitlines():
            event = json.loads(line)
            if "begin" in event:
                running = event["begin"]
            elif "end" in event:
                running = None
                # A name may be a test's and, with other arguments, another's.
                if found.get(event["end"], {"outcome": ""})["outcome"] not in BAD:
                    found[event["end"]] = {"outcome": event["outcome"], "text": event["text"]}
            else:
                done = True
        if done and not ending:
            return True
        tail = log.read_text(errors="replace")[-8000:]
        where = running or f"{module.name} ({'exit' if done else 'outside of tests'})"
        found[where] = {"outcome": "hung" if ending == "hung" else "crashed", "text": f"{ending}\n{tail}"}
        return running is None


def run(
    place: str, module: Module, only: Iterable[str] | None = None, hanging: Iterable[str] = ()
) -> dict[str, Outcome]:
    """Run a module's tests; give what came of each, by id. Those that hang come last."""
    found: dict[str, Outcome] = {}
    last = set(hanging)
    chosen = None if only is None else [test for test in only if test not in last]
    for _ in range(ATTEMPTS):
        if _once(place, module, {"only": chosen, "skip": [*found, *last]}, PATIENCE, found):
            break
    else:
        found[f"{module.name} (outside of tests)"] = {"outcome": "crashed", "text": "too often to go on"}
    for test in last if only is None else last.intersection(only):
        _once(place, module, {"only": [test], "skip": []}, LITTLE_PATIENCE, found)
    return found


def is_bad(outcome: str) -> bool:
    """Whether it is a failure of any kind."""
    return outcome in BAD or outcome in ("hung", "crashed")


def judge(module: Module, known: dict[str, Known], only: Iterable[str] | None = None) -> Report:
    """Run a module in a fiber, and say what differs from the list of known failures."""
    start = time.monotonic()
    own = re.compile(rf"(.*\()?{re.escape(module.name)}[. )]")
    listed = {test: entry for test, entry in known.items() if own.match(test)}
    place = "fiber-thread" if module.as_thread else "fiber"
    found = run(place, module, only, [test for test, entry in listed.items() if entry.hangs])
    report = Report(module.name)
    for test, outcome in found.items():
        kind = outcome["outcome"]
        report.outcomes[test] = kind
        report.counts[kind] = report.counts.get(kind, 0) + 1
        if test in listed:
            if is_bad(kind):
                report.known.append(test)
            elif kind == "passed" and not listed[test].sometimes:
                report.stale.append(f"{test} passes")
        elif is_bad(kind):
            report.unexpected[test] = outcome
    if only is None and f"{module.name} (import)" not in found:
        report.stale += [
            f"{test} is no test" for test, e in listed.items() if test not in found and not e.sometimes
        ]
    if report.unexpected:
        tests = [test for test in report.unexpected if "(" not in test]
        for _ in range(PLAIN_TRIES):
            plain = run("thread", module, None if len(tests) < len(report.unexpected) else tests)
            for test in list(report.unexpected):
                if is_bad(plain.get(test, {"outcome": ""})["outcome"]):
                    report.elsewhere[test] = report.unexpected.pop(test)
            tests = [test for test in tests if test in report.unexpected]
            if not report.unexpected:
                break
    report.seconds = time.monotonic() - start
    return report


def describe(report: Report) -> str:
    """Say what came of a module, in a line, and what is not as it should be in some more."""
    counts = ", ".join(f"{number} {kind}" for kind, number in sorted(report.counts.items()))
    lines = [f"{'ok  ' if report.good else 'FAIL'} {report.module}: {counts} ({report.seconds:.1f} s)"]
    if report.known:
        lines.append(f"     known to fail: {len(report.known)}")
    lines += [
        f"     on a plain thread too: {test}: {outcome['outcome']}"
        for test, outcome in report.elsewhere.items()
    ]
    lines += [f"  ** {text}: take it out of known_failures.toml" for text in report.stale]
    for test, outcome in report.unexpected.items():
        lines.append(f"  ** {test}: {outcome['outcome']}")
        lines += [f"       {line}" for line in outcome["text"].splitlines()[-60:]]
    return "\n".join(lines)


def main() -> int:
    """Run what the command line asks for."""
    parser = argparse.ArgumentParser(description="CPython's own tests, in a fiber under roving.patch.all()")
    parser.add_argument("modules", nargs="*", help="names, such as test_queue (all of modules.toml)")
    parser.add_argument("--quick", action="store_true", help="the quick ones only")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write what came of each test")
    parser.add_argument("-j", "--jobs", type=int, default=1, metavar="N", help="modules at a time (1)")
    options = parser.parse_args()
    if not have_tests():
        print(
            f"{sys.executable} has no `test` package; docs/DEVELOPING.md says how to get one", file=sys.stderr
        )
        return 2
    wanted = {name if name.startswith("test.") else f"test.{name}" for name in options.modules}
    table = {module.name: module for module in modules()}
    chosen = [table.get(name) or Module(name) for name in wanted] if wanted else list(table.values())
    if options.quick:
        chosen = [module for module in chosen if module.quick]
    try:
        known = known_failures()
    except LookupError as error:
        print(f"{error}: all that fails is shown", file=sys.stderr)
        known = {}
    reports = []
    with ThreadPoolExecutor(options.jobs) as pool:
        for report in pool.map(lambda module: judge(module, known), chosen):
            print(describe(report), flush=True)
            reports.append(report)
    if options.json:
        options.json.write_text(json.dumps([asdict(report) for report in reports], indent=1))
    bad = [report.module for report in reports if not report.good]
    tests = sum(len(report.outcomes) for report in reports)
    print(f"{len(reports)} modules, {tests} tests; not as known: {', '.join(bad) or 'none'}")
    return 1 if bad else 0


if __name__ == "__main__":
    sys.exit(main())
