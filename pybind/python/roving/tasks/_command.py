"""The command `roving tasks`: its options."""

from __future__ import annotations

import argparse

__all__ = ["parser"]

_DESCRIPTION = """\
Run background jobs, and look after them.

TASKS is MODULE:NAME, the roving.tasks.Tasks that jobs belong to, or a module with one called `tasks`. All
commands but `worker` also take the store's URL, such as sqlite:jobs.db.
"""

_WORKER = """\
Run jobs until SIGTERM or SIGINT: then no more are begun, those that run have --grace seconds to finish, and
what is left is handed back, for another worker or the next start. A second SIGINT leaves at once.

The standard library is patched (roving.patch) before the module is imported: what blocks lets other jobs run.
Several workers may share a store.
"""

STATUSES = (
    "queued",
    "scheduled",
    "waiting",
    "running",
    "succeeded",
    "failed",
    "cancelled",
    "expired",
    "quarantined",
)


def _count(text: str) -> int:
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _time(text: str) -> float:
    try:
        time = float(text)
    except ValueError:
        time = -1.0
    if not 0 <= time < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is no time")
    return time


def _names(text: str) -> list[str]:
    names = [name.strip() for name in text.split(",")]
    if not all(names):
        raise argparse.ArgumentTypeError(f"{text!r} has an empty name")
    return names


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    raw = argparse.RawDescriptionHelpFormatter
    made = argparse.ArgumentParser(
        prog="roving tasks", description=_DESCRIPTION, formatter_class=raw, allow_abbrev=False
    )
    commands = made.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)

    def command(name: str, help: str, description: str | None = None) -> argparse.ArgumentParser:
        added = commands.add_parser(
            name, help=help, description=description or help, formatter_class=raw, allow_abbrev=False
        )
        added.add_argument("tasks", metavar="TASKS")
        added.add_argument("--app-dir", metavar="DIR", default="", help="look for the module there first (.)")
        return added

    _worker(command("worker", "run jobs", _WORKER))
    listed = command("list", "list jobs, those enqueued last first")
    _filter(listed)
    listed.add_argument("-n", "--limit", type=_count, default=50, metavar="N", help="so many at most (50)")
    listed.add_argument("--after", metavar="ID", help="those after this one: the next page")
    listed.add_argument("--json", action="store_true", help="a JSON object a line")
    show = command("show", "show all there is to know of a job")
    show.add_argument("id", metavar="ID")
    retry = command("retry", "queue jobs again that failed, expired, were cancelled or quarantined")
    retry.add_argument("ids", nargs="*", metavar="ID")
    retry.add_argument("--failed", action="store_true", help="all that failed, and those in quarantine")
    _filter(retry, statuses=False)
    cancel = command("cancel", "cancel jobs: those that run are stopped")
    cancel.add_argument("ids", nargs="+", metavar="ID")
    purge = command("purge", "delete jobs that do not run")
    _filter(purge)
    purge.add_argument("--all", action="store_true", help="whatever their status")
    stats = command("stats", "show how the queues stand, and who runs jobs")
    stats.add_argument("--json", action="store_true", help="as one JSON object")
    return made


def _filter(command: argparse.ArgumentParser, *, statuses: bool = True) -> None:
    if statuses:
        command.add_argument(
            "--status",
            action="append",
            dest="statuses",
            choices=STATUSES,
            metavar="STATUS",
            help=f"of this status: {', '.join(STATUSES)} (may be repeated)",
        )
    command.add_argument("--queue", metavar="NAME", help="of this queue")
    command.add_argument("--task", metavar="NAME", help="of this task")


def _worker(worker: argparse.ArgumentParser) -> None:
    worker.add_argument(
        "--drain", action="store_true", help="end when no job is left to be run, now or later"
    )
    worker.add_argument(
        "-c", "--concurrency", type=_count, default=100, metavar="N", help="so many jobs at a time (100)"
    )
    worker.add_argument(
        "-q", "--queues", type=_names, default=[], metavar="A,B", help="jobs of these queues alone (all)"
    )
    worker.add_argument("--name", help="what it is shown as (host and process)")
    worker.add_argument(
        "--grace",
        type=_time,
        default=30.0,
        metavar="SECONDS",
        help="for jobs that run to finish when it stops (30)",
    )
    worker.add_argument(
        "--workers", type=_count, metavar="N", help="threads that run fibers (the processors)"
    )
    worker.add_argument(
        "--preempt",
        type=_time,
        default=10.0,
        metavar="MS",
        help="let others run when a job has calculated for so many milliseconds; 0: never (10)",
    )
    worker.add_argument(
        "--require-free-threading", action="store_true", default=None, help="refuse to run with a GIL"
    )
    worker.add_argument(
        "--log-level",
        default="info",
        choices=("debug", "info", "warning", "error", "critical"),
        help="what is logged, on stderr (info)",
    )
