"""The command `roving`."""

import argparse
import builtins
import io
import os
import pkgutil
import sys
from collections.abc import Callable
from importlib.machinery import SourceFileLoader, SourcelessFileLoader
from types import CodeType, ModuleType, TracebackType

import roving
from roving._roving import _join_fibers

__all__ = ["main"]

_RUN = """\
Run a Python program whose blocking calls park fibers instead of threads.

The standard library is patched (roving.patch) before the program is imported, so that time.sleep, sockets,
select and their like let other fibers run. The program runs on the main thread, as python would run it; its
own blocking calls, and those of other plain threads, are as ever. When it has ended, fibers that are no
daemons are waited for.
"""

_ENVIRONMENT = """\
environment:
  ROVING_WORKERS=N, ROVING_PREEMPT=MS (0: off), ROVING_STACK_SIZE=BYTES, ROVING_REQUIRE_FREE_THREADING=1
  stand for the options, which count for more.

examples:
  roving run server.py --port 8000
  roving run --workers 4 -m package.module
"""

_PARTS = (
    "time",
    "socket",
    "dns",
    "select",
    "os",
    "thread",
    "queue",
    "pipe",
    "subprocess",
    "signal",
    "ssl",
    "sqlite",
)
_UNITS = {"k": 1 << 10, "m": 1 << 20}


def _bytes(text: str) -> int:
    """Read a number of bytes, K and M allowed."""
    unit = _UNITS.get(text[-1:].lower(), 1)
    return _count(text[:-1] if unit != 1 else text) * unit


def _count(text: str) -> int:
    """Read a number from one on."""
    if not text.isdecimal() or int(text) < 1:
        raise argparse.ArgumentTypeError(f"{text!r} is not a number from 1 on")
    return int(text)


def _milliseconds(text: str) -> float:
    """Read a time that may be zero."""
    try:
        time = float(text)
    except ValueError:
        time = -1.0
    if not 0 <= time < float("inf"):
        raise argparse.ArgumentTypeError(f"{text!r} is not a number of milliseconds")
    return time


def _switch(text: str) -> bool:
    """Read a switch of the environment."""
    known = {"": False, "0": False, "false": False, "no": False, "1": True, "true": True, "yes": True}
    if text.lower() not in known:
        raise argparse.ArgumentTypeError(f"{text!r} is neither 1 nor 0")
    return known[text.lower()]


def _parsers() -> tuple[argparse.ArgumentParser, argparse.ArgumentParser]:
    """Make the parser of the command, and that of `run`."""
    raw = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(
        prog="roving", description="Green threads that use every core, for CPython.", allow_abbrev=False
    )
    commands = parser.add_subparsers(title="commands", dest="command", metavar="COMMAND", required=True)
    # They have parsers of their own: see main.
    commands.add_parser("serve", help="serve a WSGI application over HTTP", add_help=False)
    commands.add_parser("tasks", help="run background jobs, and look after them", add_help=False)
    run = commands.add_parser(
        "run",
        help="run a program whose blocking calls park fibers",
        usage="roving run [options] (PROGRAM | -m MODULE) [arguments]",
        description=_RUN,
        epilog=_ENVIRONMENT,
        formatter_class=raw,
        allow_abbrev=False,
    )
    run.add_argument(
        "--workers", type=_count, metavar="N", help="threads that run fibers (the processors there are)"
    )
    run.add_argument(
        "--preempt",
        type=_milliseconds,
        metavar="MS",
        help="suspend a fiber that has run for so many milliseconds while others wait (10)",
    )
    run.add_argument(
        "--no-preempt",
        action="store_const",
        const=0.0,
        dest="preempt",
        help="never suspend a fiber that runs",
    )
    run.add_argument(
        "--stack-size",
        type=_bytes,
        metavar="BYTES",
        help="address space of a fiber's stack; K and M will do (512K)",
    )
    run.add_argument(
        "--require-free-threading",
        action="store_true",
        default=None,
        help="refuse to run with a GIL, and imports that would switch it on",
    )
    run.add_argument(
        "--no-patch",
        action="append",
        choices=_PARTS,
        default=[],
        metavar="PART",
        help=f"leave a part of the standard library as it is: {', '.join(_PARTS)} (may be repeated)",
    )
    run.add_argument("-m", dest="module", metavar="MODULE", help="run a module, as python -m does")
    run.add_argument("program", nargs="?", help=argparse.SUPPRESS)
    return parser, run


# Those whose value is an argument of its own.
_VALUED = {"--workers", "--preempt", "--stack-size", "--no-patch"}


def _split(arguments: list[str]) -> tuple[list[str], list[str]]:
    """Part roving's own arguments from the program and its: what comes after the program is never ours."""
    index = 0
    while index < len(arguments):
        argument = arguments[index]
        if argument == "--":
            return arguments[:index], arguments[index + 1 :]
        if argument.startswith("-m") or not argument.startswith("-") or argument == "-":
            break
        index += 2 if argument in _VALUED else 1
    return arguments[:index], arguments[index:]


def _from_environment[T](parser: argparse.ArgumentParser, name: str, read: Callable[[str], T]) -> T | None:
    text = os.environ.get(name)
    if text is None:
        return None
    try:
        return read(text)
    except argparse.ArgumentTypeError as error:
        parser.error(f"{name}: {error}")


def main(arguments: list[str] | None = None) -> int:
    """Run the command with these arguments, or those of the process; give back its exit status.

    Raises what the program raised, after it was reported: the interpreter makes an exit status of it.
    """
    given = sys.argv[1:] if arguments is None else arguments
    if given[:1] == ["serve"]:
        from roving.serve._run import main as serve

        return serve(given[1:])
    if given[:1] == ["tasks"]:
        from roving.tasks._main import main as tasks

        return tasks(given[1:])
    parser, run = _parsers()
    if given[:1] != ["run"]:
        # Its help, or its error: there is no other command.
        parser.parse_args(given)
        return 2
    own, rest = _split(given[1:])
    options = run.parse_args(own)
    is_module = bool(rest) and rest[0].startswith("-m")
    if is_module and rest[0] != "-m":
        rest[:1] = ["-m", rest[0][2:]]
    if len(rest) < 1 + is_module:
        run.error(
            "a module is missing after -m" if is_module else "a program, or -m and a module, is missing"
        )
    _configure(run, options)
    return _run(_module(rest[1], rest[2:]) if is_module else _program(rest[0], rest[1:]))


def _configure(parser: argparse.ArgumentParser, options: argparse.Namespace) -> None:
    """Set up roving and patch."""
    preempt = options.preempt
    if preempt is None:
        preempt = _from_environment(parser, "ROVING_PREEMPT", _milliseconds)
    if preempt is None:
        preempt = 10.0
    stack_size = options.stack_size
    if stack_size is None:
        stack_size = _from_environment(parser, "ROVING_STACK_SIZE", _bytes)
    required = options.require_free_threading
    if required is None:
        required = _from_environment(parser, "ROVING_REQUIRE_FREE_THREADING", _switch)
    # The runtime reads ROVING_WORKERS when it starts; a mistake is to be found now.
    _from_environment(parser, "ROVING_WORKERS", _count)
    try:
        roving.configure(
            workers=options.workers,
            preempt=preempt / 1000 or None,
            stack_size=stack_size,
            require_free_threading=required,
        )
        roving.patch.all(**{part: part not in options.no_patch for part in _PARTS})
    except (RuntimeError, ValueError) as error:
        parser.error(str(error))


def _fresh_main() -> ModuleType:
    """Make the module that the program is; this one stays alive for as long as `roving` does."""
    module = ModuleType("__main__")
    module.__dict__["__builtins__"] = builtins
    sys.modules["__main__"] = module
    return module


def _program(path: str, arguments: list[str]) -> Callable[[], None]:
    """Prepare to run a file, or a folder or zip file with a __main__.py."""
    sys.argv[:] = [path, *arguments]
    is_container = os.path.isdir(path) or pkgutil.get_importer(path) is not None
    if not sys.flags.safe_path or is_container:
        folder = os.path.abspath(path) if is_container else os.path.dirname(os.path.realpath(path))
        # In the place of what python has put there for us.
        sys.path[: 0 if sys.flags.safe_path else 1] = [folder]
    if is_container:
        return lambda: _run_as_main("__main__", alter_argv=False)

    def run() -> None:
        try:
            code, is_source = _code(path)
        except OSError as error:
            print(f"roving: can't open file {os.path.abspath(path)!r}: {error.strerror}", file=sys.stderr)
            raise SystemExit(2) from None
        loader = SourceFileLoader if is_source else SourcelessFileLoader
        module = _fresh_main()
        module.__dict__.update(
            __file__=os.path.abspath(path), __cached__=None, __loader__=loader("__main__", path)
        )
        exec(code, module.__dict__)

    return run


def _code(path: str) -> tuple[CodeType, bool]:
    """Read a program: its code, and whether it is source."""
    with io.open_code(os.path.abspath(path)) as file:
        code = pkgutil.read_code(file)
        if code is not None:
            return code, False
    with io.open_code(os.path.abspath(path)) as file:
        return compile(file.read(), os.path.abspath(path), "exec", dont_inherit=True), True


def _module(name: str, arguments: list[str]) -> Callable[[], None]:
    """Prepare to run a module."""
    # As python -m: this while it is looked for, then the module's file.
    sys.argv[:] = ["-m", *arguments]
    if not sys.flags.safe_path:
        sys.path[:1] = [os.getcwd()]
    return lambda: _run_as_main(name, alter_argv=True)


def _run_as_main(name: str, *, alter_argv: bool) -> None:
    import runpy

    _fresh_main()
    runpy._run_module_as_main(name, alter_argv=alter_argv)  # type: ignore[attr-defined]


def _run(program: Callable[[], None]) -> int:
    """Run a program and wait for its fibers."""
    failure: BaseException | None = None
    try:
        program()
    except BaseException as error:
        failure = error
        if not isinstance(error, SystemExit):
            _report(error)
    # As non-daemon threads, they are waited for however the program has ended.
    if not isinstance(failure, KeyboardInterrupt):
        try:
            _join_fibers()
        except BaseException as error:
            failure = error
            _report(error)
    if failure is None:
        return 0
    if not isinstance(failure, SystemExit):
        # It has been reported, without our frames. The interpreter still is to see what it was.
        sys.excepthook = lambda *_: None
    raise failure


def _report(error: BaseException) -> None:
    """Tell of an exception as the interpreter does."""
    error.__traceback__ = _theirs(error.__traceback__)
    try:
        sys.excepthook(type(error), error, error.__traceback__)
    except BaseException:
        sys.__excepthook__(type(error), error, error.__traceback__)


def _theirs(traceback: TracebackType | None) -> TracebackType | None:
    """Leave our own frames at the top of a traceback out."""
    while traceback is not None and traceback.tb_frame.f_code.co_filename == __file__:
        traceback = traceback.tb_next
    return traceback
