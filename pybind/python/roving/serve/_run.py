"""The command `roving serve`: its life, from its options to its exit status."""

import contextlib
import logging
import os
import resource
import signal
import sys
import traceback
from collections.abc import Iterable
from typing import NoReturn

import roving
from roving._roving import StoreError
from roving.serve import _command, _config
from roving.serve._admin import AdminListener
from roving.serve._bind import Listening, activated
from roving.serve._handle import start
from roving.serve._jobs import Jobs, find
from roving.serve._load import CannotLoad, load
from roving.serve._log import logger
from roving.serve._service import Process, Service, tend
from roving.serve._signals import Signals
from roving.serve._successor import Inheritance, Origin, StandIn, take
from roving.serve._systemd import Notifier
from roving.serve._watch import Watch, module_files, stamp_of

__all__ = ["main"]


def main(arguments: list[str]) -> int:
    """Run the command with these arguments; return its exit status."""
    origin = Origin.now()
    inherited = take(os.environ)
    parsed = _command.parse(arguments, os.environ)
    if parsed.prints:
        print(_config.printed(parsed.values, parsed.sources), end="")
        return 0
    _log(parsed.get("log_level", "info"))
    for name in parsed.unknown:
        logger.warning("%s is set, and is no option of roving serve", name)
    process = _process(origin, inherited, parsed)
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
    target = parsed.values["application"]
    admin = None
    given: list[tuple[str, Listening]] = []
    try:
        bind, admin_bind = _places(parsed, inherited)
        for kind, places in (("given", bind), ("given-admin", admin_bind)):
            given += [(kind, each) for each in places if isinstance(each, Listening) and not each.where]
        if admin_bind:
            admin = AdminListener(admin_bind, shared=True)
            if not inherited.kind:
                # First: it says that the process lives, and that it is not ready yet. Of a successor the one
                # before says that it is.
                admin.begin()
    except (OSError, ValueError) as error:
        return _failed(process, parsed, given, error)
    try:
        application = load(target, folder=parsed.get("app_dir", ""), factory=parsed.get("factory", False))
        if parsed.get("tasks", []):
            target = ", ".join([target, *parsed.get("tasks", [])])
        jobs = Jobs(
            find(parsed.get("tasks", []), parsed.get("app_dir", "")),
            queues=parsed.get("tasks_queues", []),
            concurrency=parsed.get("tasks_concurrency", 100),
            grace=process.grace,
        )
    except CannotLoad as error:
        return _failed(process, parsed, given, error)
    except Exception as error:
        _report_import(target, error)
        return _failed(process, parsed, given, None, _places_of(error))
    if parsed.get("reload", False) and inherited.kind != "stand-in":
        process.watch = _watch(parsed)
    # Before the first request: from then on there may be something to finish.
    process.signals.started()
    try:
        server = start(application, bind, parsed.requests, admin, shared=True)
    except (OSError, ValueError, TypeError) as error:
        return _failed(process, parsed, given, error)
    try:
        jobs.start()
    except (StoreError, ValueError) as error:
        server.close(0.0)
        return _failed(process, parsed, given, error)
    service = Service(process, server, admin, jobs)
    try:
        service.begin()
    except OSError as error:
        server.close(0.0)
        jobs.stop(0.0)
        jobs.finish()
        return _fail(error)
    # Before others are told: what they say in turn comes after it.
    if inherited.kind == "stand-in":
        logger.info("process %d serves %s for now", os.getpid(), target)
    else:
        count = roving.stats()["workers"]
        logger.info("serving %s on %s, with %s workers", target, ", ".join(server.addresses), count)
        if server.admin_addresses:
            logger.info("health and metrics on %s", ", ".join(server.admin_addresses))
    service.tell()
    return service.run()


def _process(origin: Origin, inherited: Inheritance, parsed: _command.Parsed) -> Process:
    stand_in = None
    if inherited.kind == "anew" and inherited.stand_in is not None and inherited.pair is not None:
        stand_in = StandIn(inherited.stand_in, inherited.pair)
        stand_in.reap_others()

    def stop_both(number: int) -> NoReturn:
        # What ends is not this one's import alone, but what serves meanwhile.
        assert stand_in is not None
        stand_in.signal(signal.SIGTERM)
        status = stand_in.reap()
        process.end(inherited.kept)
        os._exit(status)

    reloads = parsed.get("reload", False)
    process = Process(
        origin,
        inherited,
        Signals(None if stand_in is None else stop_both),
        Notifier(os.environ),
        None,
        stand_in,
        grace=parsed.get("graceful_timeout", 30.0),
        limit=parsed.get("reload_timeout", 60.0),
        keeps_number=parsed.get("keep_pid", reloads or os.getpid() == 1),
        reloads=reloads,
        pid=parsed.get("pid", None),
    )
    return process


def _watch(parsed: _command.Parsed) -> Watch:
    files = [] if parsed.file is None else [parsed.file]
    return Watch([*files, *parsed.get("reload_include", [])], parsed.get("reload_exclude", []))


def _fail(error: Exception) -> int:
    """Say what keeps it from serving."""
    print(f"roving: {(isinstance(error, OSError) and error.strerror) or error}", file=sys.stderr)
    return 1


def _failed(
    process: Process,
    parsed: _command.Parsed,
    given: list[tuple[str, Listening]],
    error: Exception | None,
    files: Iterable[str] = (),
) -> int:
    """Say what keeps it from serving, and live on where there is a reason to.

    `error`: what is to be said; `files`: what a repair may be made in; `given`: systemd's sockets.
    """
    status = 1 if error is None else _fail(error)
    inherited = process.inherited
    stamps = {path: stamp_of(path) for path in (*module_files(), *files)}
    inherited.tell_failed(stamps)
    if process.reloads and inherited.kind != "stand-in":
        process.watch = _watch(parsed)
        process.watch.add(stamps)
    if process.stand_in is not None:
        logger.error("process %d serves on", process.stand_in.number)
        process.notifier.ready()
        return tend(process, inherited.kept)
    if process.watch is not None:
        logger.info("waiting for a file to change")
        for _, listening in given:
            listening.share()
        return tend(process, given)
    return status


def _places_of(error: BaseException) -> list[str]:
    """Name the files an exception came through, in the last of which it may be repaired."""
    found = {frame.filename for frame in traceback.extract_tb(error.__traceback__)}
    if isinstance(error, SyntaxError) and error.filename is not None:
        found.add(error.filename)
    return [os.path.abspath(file) for file in found if os.path.exists(file)]


def _places(
    parsed: _command.Parsed, inherited: Inheritance
) -> tuple[list[str | Listening], list[str | Listening]]:
    """Say where to listen for requests, and for the admin listener: at systemd's sockets, if any."""
    bind = inherited.resolve("bind", parsed.get("bind", ["127.0.0.1:8000"]))
    admin_bind = inherited.resolve("admin", parsed.get("admin_bind", []))
    given = inherited.given() if inherited.kind else activated(os.environ)
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
    ours = os.path.dirname(roving.__file__) + os.sep
    while trace is not None and (
        trace.tb_frame.f_code.co_filename.startswith(ours) or "importlib" in trace.tb_frame.f_code.co_filename
    ):
        trace = trace.tb_next
    if not isinstance(error, SyntaxError):
        trace = trace or error.__traceback__
    traceback.print_exception(type(error), error, trace, file=sys.stderr)
    print(f"roving: {target} cannot be imported", file=sys.stderr)
