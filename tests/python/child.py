"""Python programs in child processes: what may crash, hang or end the interpreter is tested there."""

import contextlib
import os
import signal
import subprocess
import sys
import sysconfig
import tempfile
import textwrap
from pathlib import Path
from typing import IO

ROOT = Path(__file__).resolve().parents[2]
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))
# The build whose protections can be taken away: `make faulty` puts it here.
FAULTY = ROOT / ".build" / "faulty" / sysconfig.get_config_var("SOABI")

# A shell's background job ignores it, and so would our children.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

PRELUDE = """
import faulthandler, gc, sys, threading, time
faulthandler.enable()
import roving
"""

# To be put before a program: sends its main thread SIGINT at the moment it is there to be interrupted.
INTERRUPT = """
import os, signal
def interrupt_in(line):
    # Sends the main thread SIGINT once it sleeps in this line of the program. To be called before it.
    main = threading.main_thread()
    def sleeps():
        frame = sys._current_frames()[main.ident]
        while frame.f_back is not None:
            frame = frame.f_back
        if frame.f_lineno != line:
            return False
        # Several times over: it may wait for somebody who stops the world, as we just did.
        for _ in range(5):
            with open(f"/proc/self/task/{main.native_id}/stat") as stat:
                if stat.read().rpartition(")")[2].split()[0] != "S":
                    return False
            time.sleep(0.005)
        return True
    def send():
        while os.path.exists("/proc/self/task") and not sleeps():
            time.sleep(0.005)
        # To this thread: the system may give one that is for the process to any.
        signal.pthread_kill(main.ident, signal.SIGINT)
    threading.Thread(target=send).start()
"""


def run(
    source: str,
    *,
    workers: int | None = None,
    faults: str | None = None,
    env: dict[str, str] | None = None,
    options: tuple[str, ...] = (),
    timeout: float = 60,
) -> subprocess.CompletedProcess[str]:
    """Run a program, with `roving`, `gc`, `sys`, `threading` and `time` imported; give back what came of it.

    With `faults`, a string of names that may be empty, in the build that has them. One that takes too long is
    killed, and its return code is then that of SIGKILL.
    """
    environment = {**os.environ, **(env or {})}
    if workers is not None:
        environment["ROVING_WORKERS"] = str(workers)
    if faults is not None:
        assert (FAULTY / "roving").is_dir(), f"{FAULTY} is missing: `make faulty` builds it"
        environment["PYTHONPATH"] = str(FAULTY)
        environment["ROVING_FAULTS"] = faults
    command = [sys.executable, *options, "-c", PRELUDE + textwrap.dedent(source)]
    # Files, not pipes: a process that the program forked and left would hold a pipe open, and us with it. In
    # a session of its own, so that none is left behind.
    with tempfile.TemporaryFile() as output, tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(
            command,
            env=environment,
            stdout=output,
            stderr=errors,
            stdin=subprocess.DEVNULL,
            start_new_session=True,
        )
        late = ""
        try:
            process.wait(timeout=timeout)
        except subprocess.TimeoutExpired:
            late = f"\n(killed after {timeout} s)"
            process.send_signal(signal.SIGABRT)
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(timeout=5)
        finally:
            # What is left of the session: itself, or what it forked.
            with contextlib.suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
        return subprocess.CompletedProcess(command, process.returncode, _text(output), _text(errors) + late)


def _text(file: IO[bytes]) -> str:
    file.seek(0)
    return file.read().decode(errors="replace")


def check(source: str, **options: object) -> str:
    """Run a program that must end well and print nothing but `ok` in its last line; give back its output."""
    done = run(source, **options)  # type: ignore[arg-type]
    assert done.returncode == 0, f"return code {done.returncode}\n{done.stdout}\n{done.stderr[-6000:]}"
    assert done.stdout.rstrip().endswith("ok"), f"{done.stdout}\n{done.stderr[-6000:]}"
    return done.stdout
