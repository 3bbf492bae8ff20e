"""All options of `roving serve`, in groups: flags, environment and files are made of this table."""

from __future__ import annotations

from dataclasses import dataclass

from roving.serve._options import OPTIONS

__all__ = ["GROUPS", "PLACES", "TABLE", "Entry"]


@dataclass(frozen=True)
class Entry:
    """One option."""

    name: str
    """What it is called, with `_`; flags and keys of files have `-`."""
    group: str
    kind: str
    """See _kinds."""
    default: str
    """For the help."""
    help: str
    flags: tuple[str, ...] = ()
    """Further flags, which others have for it."""
    metavar: str | None = None
    choices: tuple[str, ...] = ()


GROUPS = {
    "application": "the application",
    "where": "where it listens",
    "process": "the process",
    "tasks": "background jobs",
    "reload": "reloading (SIGHUP)",
    "limits": "limits",
    "times": "times",
    "requests": "requests and responses",
    "proxies": "proxies in front",
    "log": "logs",
}

# What says where to listen: all of them in one source count, and those in others then do not.
PLACES = ("bind", "host", "port", "uds", "fd")

_PROCESS = [
    Entry("factory", "application", "switch", "off", "call it, to get the application"),
    Entry("app_dir", "application", "text", ".", "look for the module there first", ("--chdir",), "DIR"),
    Entry(
        "bind",
        "where",
        "list",
        "127.0.0.1:8000",
        "HOST:PORT, unix:PATH or fd://NUMBER; may be repeated",
        ("-b",),
    ),
    Entry("host", "where", "text", "127.0.0.1", "with --port, as --bind HOST:PORT", metavar="HOST"),
    Entry("port", "where", "count", "8000", "with --host, as --bind HOST:PORT", metavar="PORT"),
    Entry("uds", "where", "text", "none", "as --bind unix:PATH", metavar="PATH"),
    Entry("fd", "where", "count", "none", "as --bind fd://NUMBER", metavar="NUMBER"),
    Entry("backlog", "where", "positive", "2048", "connections that wait to be accepted"),
    Entry(
        "umask",
        "where",
        "mode",
        "the system's",
        "what the files that are made, Unix sockets too, allow nobody, in octal",
        ("-m",),
    ),
    Entry(
        "admin_bind",
        "where",
        "list",
        "off",
        "where /healthz, /readyz and /metrics are answered, apart from the application",
    ),
    Entry("workers", "process", "positive", "the processors there are", "threads that run fibers", ("-w",)),
    Entry(
        "preempt",
        "process",
        "seconds",
        "10",
        "let others run when a request has calculated for so many milliseconds; 0: never",
        metavar="MS",
    ),
    Entry(
        "require_free_threading",
        "process",
        "switch",
        "off",
        "refuse to run with a GIL, and imports that would switch it on",
    ),
    Entry(
        "tasks",
        "tasks",
        "list",
        "none",
        "run the jobs of a roving.tasks.Tasks too: MODULE:NAME, or a module with one called tasks",
        metavar="MODULE:TASKS",
    ),
    Entry("tasks_queues", "tasks", "list", "all", "jobs of these queues alone", metavar="QUEUE"),
    Entry(
        "tasks_concurrency", "tasks", "positive", "100", "jobs that run at a time, of each Tasks", metavar="N"
    ),
    Entry(
        "graceful_timeout",
        "times",
        "seconds",
        "30",
        "for what is in flight to be finished when the server stops",
        ("--timeout-graceful-shutdown",),
    ),
    Entry(
        "pid", "process", "text", "none", "a file for the number of the process that serves", ("-p",), "FILE"
    ),
    Entry(
        "reload",
        "reload",
        "switch",
        "off",
        "reload when a file of the application changes: for development",
    ),
    Entry(
        "reload_include",
        "reload",
        "list",
        "none",
        "further files, folders or patterns to watch; may be repeated",
        ("--reload-extra-file",),
        "PATH",
    ),
    Entry("reload_exclude", "reload", "list", "none", "patterns of files not to watch", (), "PATTERN"),
    Entry(
        "reload_timeout",
        "reload",
        "seconds",
        "60",
        "for a new process to import the application, or the old one serves on",
    ),
    Entry(
        "keep_pid",
        "reload",
        "switch",
        "on as process 1 and with --reload",
        "keep the process's number when it reloads",
    ),
    Entry(
        "log_level",
        "log",
        "text",
        "info",
        "what is logged, on stderr",
        choices=("debug", "info", "warning", "error", "critical"),
    ),
    Entry(
        "access_log",
        "log",
        "log",
        "off",
        "log every request, on stderr; --access-log=FILE: to a file, opened anew on SIGUSR1",
        ("--access-logfile",),
        "FILE",
    ),
]


def _group(name: str) -> str:
    if name.startswith("limit_"):
        return "limits"
    if name.startswith("timeout_") or name in ("keep_alive", "min_body_rate"):
        return "times"
    if "prox" in name or name.startswith("forwarded"):
        return "proxies"
    return "log" if name.startswith("access_log") else "requests"


TABLE = _PROCESS + [
    Entry(
        option.name,
        _group(option.name),
        option.kind,
        option.default,
        option.help,
        tuple("--" + alias.replace("_", "-") for alias in option.aliases),
    )
    for option in OPTIONS
]
