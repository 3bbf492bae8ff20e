"""The command `roving serve`: its options."""

import argparse
import difflib
from collections.abc import Callable, Mapping
from typing import Any, NoReturn

from roving.serve import _config
from roving.serve._kinds import FROM_TEXT, METAVARS
from roving.serve._options import OPTIONS
from roving.serve._table import GROUPS, PLACES, TABLE, Entry

__all__ = ["Parsed", "parse", "parser"]

_DESCRIPTION = """\
Serve a WSGI application (Flask, Django...) over HTTP, in one process, on all cores.

Each request runs in a fiber. The standard library is patched (roving.patch) before the application is
imported, so that what blocks lets other requests run. SIGTERM and SIGINT stop: no more connections are
accepted, and requests that are there are finished; a second SIGINT leaves at once. SIGHUP reloads: a new
process imports the application and takes over the sockets, and if it cannot, this one serves on. SIGUSR1
opens the access log anew, and reads the files of TLS again.
"""

_EXAMPLES = """\
environment and files:
  ROVING_SERVE_KEEP_ALIVE=2 stands for --keep-alive 2, and so on; so does keep-alive = 2 in a file, in its
  table [serve]: that of --config, or roving.toml here, or pyproject.toml, where it is [tool.roving.serve].
  The command line counts for more than the environment, which counts for more than a file.
  WEB_CONCURRENCY, PORT and FORWARDED_ALLOW_IPS are defaults, as they are gunicorn's.
  Sockets of systemd's (LISTEN_FDS) stand in the place of --bind; one called admin in that of --admin-bind.

examples:
  roving serve shop.wsgi:application
  roving serve --factory shop:create_app --bind 0.0.0.0:80 --bind unix:/run/shop.sock
"""

# What others call it, where it is something else here.
_ELSEWHERE = {
    "--threads": "there are fibers, as many as there are requests: see --limit-concurrency",
    "--worker-class": "there is one kind of worker",
    "--worker-connections": "see --limit-concurrency",
    "--timeout": "requests take what they take: see --timeout-header, --timeout-body, --timeout-write",
    "--max-requests": "workers are not recycled",
    "--reload-dir": "see --reload-include",
    "--reload-delay": "it reloads once nothing changes any more",
    "--reload-engine": "files are looked at four times a second",
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


class _Repeated(argparse.Action):
    """A list that grows with each use; the values of one use have commas between them."""

    def __call__(
        self, parser: argparse.ArgumentParser, namespace: argparse.Namespace, values: Any, option: Any = None
    ) -> None:
        """Add the values."""
        setattr(namespace, self.dest, [*(getattr(namespace, self.dest) or []), *values])


def _reader(kind: str) -> Callable[[str], Any]:
    def read(text: str) -> Any:
        try:
            return FROM_TEXT[kind](text)
        except ValueError as error:
            raise argparse.ArgumentTypeError(str(error)) from None

    return read


def _add(group: argparse._ArgumentGroup, entry: Entry) -> None:
    flag = "--" + entry.name.replace("_", "-")
    text = f"{entry.help} ({entry.default})".replace("%", "%%")
    if entry.kind in ("switch", "log"):
        group.add_argument(
            flag, dest=entry.name, default=None, action=argparse.BooleanOptionalAction, help=text
        )
        if entry.kind == "log":
            group.add_argument(
                *entry.flags, dest=entry.name, default=None, metavar=entry.metavar, help=f"as {flag}=FILE"
            )
        return
    short = [name for name in entry.flags if not name.startswith("--")]
    more: dict[str, Any] = {"action": _Repeated} if entry.kind == "list" else {}
    if entry.choices:
        more["choices"] = entry.choices
    else:
        more["metavar"] = entry.metavar or METAVARS[entry.kind]
    group.add_argument(
        *short,
        flag,
        *[name for name in entry.flags if name not in short],
        dest=entry.name,
        default=None,
        type=_reader(entry.kind),
        help=text,
        **more,
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
        nargs="?",
        metavar="MODULE:APPLICATION",
        help="a module, and an attribute of it; without one, `application` or `app`",
    )
    made.add_argument(
        "-c", "--config", metavar="FILE", help="read options from there (roving.toml, pyproject.toml)"
    )
    made.add_argument(
        "--print-config", action="store_true", help="show what is set, and where it is from, and exit"
    )
    for name, title in GROUPS.items():
        group = made.add_argument_group(title)
        for entry in TABLE:
            if entry.group == name:
                _add(group, entry)
    return made


class Parsed:
    """The options, from wherever they came."""

    def __init__(self, parser: argparse.ArgumentParser) -> None:
        """Begin with none."""
        self.parser = parser
        self.values: dict[str, Any] = {}
        self.sources: dict[str, str] = {}
        self.unknown: list[str] = []
        """Variables of the environment that look like ours, and mean nothing."""
        self.prints = False
        self.file: str | None = None
        """The file with options that was read."""

    def add(self, values: dict[str, Any], source: Callable[[str], str]) -> None:
        """Add those of a source that has less to say than those before."""
        values = dict(values)
        where = _config.place(values)
        for name in PLACES:
            values.pop(name, None)
        if where is not None:
            values["bind"] = where
        for name, value in values.items():
            if name not in self.values:
                self.values[name] = value
                self.sources[name] = source(name)

    def get(self, name: str, default: Any) -> Any:
        """Give an option of the process."""
        return self.values.get(name, default)

    @property
    def requests(self) -> dict[str, Any]:
        """Those that are roving.serve's."""
        names = [option.name for option in OPTIONS] + ["backlog"]
        found = {name: self.values[name] for name in names if name in self.values}
        log = self.values.get("access_log", False)
        # On stderr it goes past the logging, which is the application's to set up.
        found["access_log"] = "-" if log is True else log
        return found


def parse(arguments: list[str], environment: Mapping[str, str]) -> Parsed:
    """Read the options: of the command line, of the environment, of a file."""
    made = parser()
    # Of an option that may have a value or none, argparse would take the application for the value.
    arguments = [
        "--access-logfile=" + text.removeprefix("--access-log=") if text.startswith("--access-log=") else text
        for text in arguments
    ]
    namespace = vars(made.parse_args(arguments))
    parsed = Parsed(made)
    config = namespace.pop("config")
    parsed.prints = namespace.pop("print_config")
    given = {name: value for name, value in namespace.items() if value is not None}
    parsed.add(given, lambda name: "the command line")
    try:
        found, parsed.unknown = _config.from_environment(environment)
        parsed.add(found, lambda name: f"{_config.PREFIX}*")
        path, found = _config.from_file(config or environment.get(_config.PREFIX + "CONFIG"))
        parsed.add(found, lambda name: str(path))
        parsed.file = path
        for name, (source, value) in _config.defaults(environment).items():
            parsed.add({name: value}, lambda _, source=source: source)  # type: ignore[misc]
    except _config.ConfigError as error:
        made.error(str(error))
    if "application" not in parsed.values and not parsed.prints:
        made.error("the following arguments are required: MODULE:APPLICATION")
    return parsed
