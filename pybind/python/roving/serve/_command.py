"""The command `roving serve`: its options."""

import argparse
import difflib
from collections.abc import Callable
from typing import Any, NoReturn

from roving.serve._options import OPTIONS, Option

__all__ = ["parse", "parser"]

_DESCRIPTION = """\
Serve a WSGI application (Flask, Django...) over HTTP, in one process, on all cores.

Each request runs in a fiber. The standard library is patched (roving.patch) before the application is
imported, so that what blocks lets other requests run. SIGTERM and SIGINT stop: no more connections are
accepted, and requests that are there are finished; a second SIGINT leaves at once.
"""

_EXAMPLES = """\
examples:
  roving serve shop.wsgi:application
  roving serve --factory shop:create_app --bind 0.0.0.0:80 --bind unix:/run/shop.sock
"""

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}

# What others call it, where it is something else here.
_ELSEWHERE = {
    "--threads": "there are fibers, as many as there are requests: see --limit-concurrency",
    "--worker-class": "there is one kind of worker",
    "--worker-connections": "see --limit-concurrency",
    "--timeout": "requests take what they take: see --timeout-header, --timeout-body, --timeout-write",
    "--max-requests": "workers are not recycled",
    "--reload": "it does not reload yet",
    "--ssl-keyfile-password": "store the key without a passphrase, where only the server may read it",
    "--ssl-version": "it speaks TLS 1.2 and 1.3",
    "--ssl-ciphers": "the cipher suites are those of rustls, all of which are good",
    "--ciphers": "the cipher suites are those of rustls, all of which are good",
    "--interface": "applications are WSGI applications",
    "--daemon": "it stays in the foreground",
    "--preload": "the application is imported once, in the one process there is",
}


class _Parser(argparse.ArgumentParser):
    """A parser that suggests what may have been meant."""

    def error(self, message: str) -> NoReturn:
        prefix = "unrecognized arguments: "
        if message.startswith(prefix):
            wrong = message.removeprefix(prefix).split()[0].partition("=")[0]
            known = [name for action in self._actions for name in action.option_strings]
            close = difflib.get_close_matches(wrong, known, n=1)
            if wrong in _ELSEWHERE:
                message = f"there is no option {wrong}: {_ELSEWHERE[wrong]}"
            elif wrong.startswith("-"):
                hint = f"; did you mean {close[0]}?" if close else ""
                message = f"there is no option {wrong}{hint}"
        super().error(message)


def _count(text: str) -> int:
    if not text.isdecimal():
        raise argparse.ArgumentTypeError(f"{text!r} is not a number")
    return int(text)


def _workers(text: str) -> int:
    if _count(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _size(text: str) -> int:
    unit = _UNITS.get(text[-1:].lower(), 1)
    return _count(text[:-1] if unit != 1 else text) * unit


def _seconds(text: str) -> float:
    try:
        time = float(text)
    except ValueError:
        time = -1.0
    if not 0 <= time < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of seconds")
    return time


_KINDS: dict[str, Callable[[str], Any]] = {"count": _count, "size": _size, "seconds": _seconds, "text": str}
_METAVARS = {"count": "N", "size": "BYTES", "seconds": "SECONDS", "text": "TEXT"}


def _add(group: argparse._ArgumentGroup, option: Option) -> None:
    flags = ["--" + name.replace("_", "-") for name in (option.name, *option.aliases)]
    text = f"{option.help} ({option.default})"
    if option.kind == "switch":
        group.add_argument(
            *flags, dest=option.name, default=None, action=argparse.BooleanOptionalAction, help=text
        )
        return
    group.add_argument(
        *flags, dest=option.name, type=_KINDS[option.kind], metavar=_METAVARS[option.kind], help=text
    )


def parser() -> argparse.ArgumentParser:
    """Make the parser."""
    made = _Parser(
        prog="roving serve",
        usage="roving serve [options] MODULE:APPLICATION",
        description=_DESCRIPTION,
        epilog=_EXAMPLES,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    made.add_argument(
        "application",
        metavar="MODULE:APPLICATION",
        help="a module, and an attribute of it; without one, `application` or `app`",
    )
    made.add_argument("--factory", action="store_true", help="call it, to get the application")
    made.add_argument(
        "--app-dir", "--chdir", default="", metavar="DIR", help="look for the module there first (.)"
    )
    where = made.add_argument_group("where")
    where.add_argument(
        "-b",
        "--bind",
        action="append",
        metavar="PLACE",
        help="HOST:PORT, unix:PATH or fd://NUMBER; may be repeated (127.0.0.1:8000)",
    )
    where.add_argument("--host", metavar="HOST", help="with --port, as --bind HOST:PORT")
    where.add_argument("--port", type=_count, metavar="PORT", help="with --host, as --bind HOST:PORT")
    where.add_argument("--uds", metavar="PATH", help="as --bind unix:PATH")
    where.add_argument("--fd", type=_count, metavar="NUMBER", help="as --bind fd://NUMBER")
    where.add_argument(
        "--backlog", type=_workers, metavar="N", help="connections that wait to be accepted (2048)"
    )
    how = made.add_argument_group("how")
    how.add_argument(
        "-w",
        "--workers",
        type=_workers,
        metavar="N",
        help="threads that run fibers (the processors there are)",
    )
    how.add_argument(
        "--preempt",
        type=_seconds,
        default=10.0,
        metavar="MS",
        help="let others run when a request has calculated for so many milliseconds; 0: never (10)",
    )
    how.add_argument(
        "--require-free-threading",
        action="store_true",
        default=None,
        help="refuse to run with a GIL, and imports that would switch it on",
    )
    how.add_argument(
        "--graceful-timeout",
        "--timeout-graceful-shutdown",
        type=_seconds,
        default=30.0,
        metavar="SECONDS",
        help="for what is in flight to be finished when the server stops (30)",
    )
    log = made.add_argument_group("log")
    log.add_argument(
        "--log-level",
        default="info",
        choices=["debug", "info", "warning", "error", "critical"],
        help="what is logged, on stderr (info)",
    )
    log.add_argument(
        "--access-log",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="log every request, by the logger roving.serve.access (off)",
    )
    requests = made.add_argument_group("requests")
    for option in OPTIONS:
        _add(requests, option)
    return made


def parse(arguments: list[str]) -> tuple[argparse.ArgumentParser, argparse.Namespace, dict[str, Any]]:
    """Parse arguments: the parser, the options of the process, and those of roving.serve."""
    made = parser()
    options = made.parse_args(arguments)
    bind = list(options.bind or [])
    if options.host is not None or options.port is not None:
        host = "127.0.0.1" if options.host is None else options.host
        host = f"[{host}]" if ":" in host else host
        bind.append(f"{host}:{8000 if options.port is None else options.port}")
    if options.uds is not None:
        bind.append(f"unix:{options.uds}")
    if options.fd is not None:
        bind.append(f"fd://{options.fd}")
    options.bind = bind or ["127.0.0.1:8000"]
    given = {option.name: getattr(options, option.name) for option in OPTIONS}
    given["backlog"] = options.backlog
    given["access_log"] = options.access_log
    return made, options, {name: value for name, value in given.items() if value is not None}
