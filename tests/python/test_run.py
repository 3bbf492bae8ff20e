"""The command `roving run`: as python runs a program, but for what blocks."""

import inspect
import os
import signal
import subprocess
import sys
import textwrap
import zipfile
from pathlib import Path

import child
import pytest
import roving
from roving import cli

ROVING = [sys.executable, "-m", "roving"]


def run(
    *command: str, folder: Path, env: dict[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    """Run a command in a folder."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("ROVING_")}
    return subprocess.run(
        command,
        cwd=folder,
        env={**environment, **(env or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        stdin=subprocess.DEVNULL,
    )


def write(folder: Path, source: str, name: str = "prog.py") -> str:
    """Write a program."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(textwrap.dedent(source))
    return name


FACTS = """
    import sys, threading
    import helper
    known = [globals().get(f"__{name}__", "missing") for name in ("name", "doc", "package", "file")]
    print(known, type(__loader__).__name__, __spec__ and __spec__.name, type(__builtins__).__name__)
    print(sys.argv, sys.path[0], sys.modules["__main__"].__dict__ is globals())
    print(threading.current_thread() is threading.main_thread())
"""


@pytest.mark.parametrize("target", ["script", "folder/script.py", "module", "package", "folder", "zip"])
@pytest.mark.parametrize("safe", [False, True])
def test_the_program_sees_what_python_shows_it(tmp_path: Path, target: str, safe: bool) -> None:
    """Names of the module, arguments, the path, the thread."""
    write(tmp_path, "", "helper.py")
    command = {
        "script": ["prog.py"],
        "folder/script.py": ["folder/script.py"],
        "module": ["-m", "prog"],
        "package": ["-m", "pack"],
        "folder": ["box"],
        "zip": ["box.zip"],
    }[target]
    write(tmp_path, FACTS)
    write(tmp_path, FACTS, "folder/script.py")
    write(tmp_path, "", "folder/helper.py")
    write(tmp_path, "", "pack/__init__.py")
    write(tmp_path, FACTS, "pack/__main__.py")
    write(tmp_path, FACTS, "box/__main__.py")
    write(tmp_path, "", "box/helper.py")
    with zipfile.ZipFile(tmp_path / "box.zip", "w") as box:
        box.write(tmp_path / "box/__main__.py", "__main__.py")
        box.write(tmp_path / "box/helper.py", "helper.py")
    arguments = [*command, "one", "--workers", "-m", "--help"]
    env = {"PYTHONPATH": str(tmp_path)} if safe else {}
    options = ["-P"] if safe else []
    python = run(sys.executable, *options, *arguments, folder=tmp_path, env=env)
    roving = run(sys.executable, *options, "-m", "roving", "run", *arguments, folder=tmp_path, env=env)
    assert python.returncode == 0, python.stderr
    assert (roving.returncode, roving.stdout, roving.stderr) == (0, python.stdout, python.stderr)


ENDINGS = {
    "returns": "print('done')",
    "exit": "raise SystemExit",
    "exit 0": "import sys; sys.exit(0)",
    "exit 3": "import sys; sys.exit(3)",
    "exit text": "import sys; sys.exit('a message')",
    "raises": "def f():\n    1 / 0\nf()",
    "groups": "try:\n    int('x')\nexcept ValueError as e:\n    raise ExceptionGroup('g', [e])",
    "interrupt": "raise KeyboardInterrupt",
    "syntax": "def f(:",
    "no file": "",
    "hook": "import sys\nsys.excepthook = lambda *a: print('hooked', a[0])\n1 / 0",
    "broken hook": "import sys\nsys.excepthook = None\nprint('x')",
    "atexit": "import atexit\natexit.register(print, 'at exit')\n1 / 0",
}


@pytest.mark.parametrize("name", ENDINGS)
def test_it_ends_as_with_python(tmp_path: Path, name: str) -> None:
    """Exit status, output and traceback are the same."""
    program = "missing.py" if name == "no file" else write(tmp_path, ENDINGS[name])
    python = run(sys.executable, program, folder=tmp_path)
    roving = run(*ROVING, "run", program, folder=tmp_path)
    assert (roving.returncode, roving.stdout) == (python.returncode, python.stdout)
    if name == "no file":
        assert "can't open file" in roving.stderr
    else:
        assert roving.stderr == python.stderr


def test_blocking_code_parks(tmp_path: Path) -> None:
    """A program that never heard of roving's waits: imports come after the patch."""
    program = write(
        tmp_path,
        """
        import roving
        from time import sleep, monotonic
        start = monotonic()
        fibers = [roving.spawn(sleep, 0.2) for _ in range(200)]
        for fiber in fibers:
            fiber.join()
        assert monotonic() - start < 10, monotonic() - start
        """,
    )
    done = run(*ROVING, "run", "--workers", "1", program, folder=tmp_path)
    assert done.returncode == 0, done.stderr


def test_fibers_are_waited_for(tmp_path: Path) -> None:
    """But for daemons; also when the program fails or exits."""
    for end, status in (("", 0), ("1 / 0", 1), ("raise SystemExit(4)", 4)):
        program = write(
            tmp_path,
            f"""
            import time, roving
            def late():
                time.sleep(0.05)
                print("late", flush=True)
            def never():
                time.sleep(1000)
            roving.spawn(late)
            roving.options(daemon=True).spawn(never)
            {end}
            """,
        )
        done = run(*ROVING, "run", program, folder=tmp_path)
        assert (done.returncode, done.stdout) == (status, "late\n"), done.stderr


def test_ctrl_c(tmp_path: Path) -> None:
    """It reaches the main thread, in a plain call and in waits for fibers; the status is the signal's."""
    for wait in (
        "time.sleep(1000)",
        "roving.spawn(time.sleep, 1000).join()",
        "roving.spawn(time.sleep, 1000)",
    ):
        program = write(tmp_path, f"import time, roving\nprint('up', flush=True)\n{wait}\n")
        process = subprocess.Popen(
            [*ROVING, "run", program],
            cwd=tmp_path,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert process.stdout is not None
        assert process.stdout.readline() == "up\n"
        for _ in range(30):
            process.send_signal(signal.SIGINT)
            try:
                _, errors = process.communicate(timeout=1)
                break
            except subprocess.TimeoutExpired:
                # One that comes when the call has begun, and does not wait yet, is seen when it ends.
                continue
        assert process.returncode in (130, -signal.SIGINT), errors
        assert "KeyboardInterrupt" in errors


def test_options_and_environment(tmp_path: Path) -> None:
    """Options count for more."""
    program = write(
        tmp_path,
        """
        import sys, roving
        roving.spawn(int).join()
        def spin():
            while not stop:
                pass
        stop = False
        spinner = roving.spawn(spin)
        others = [roving.spawn(int) for _ in range(20)]
        print(roving.stats()["workers"], {k for k, v in roving.patch.report().items() if not v} or "all")
        stop = True
        """,
    )
    done = run(*ROVING, "run", program, folder=tmp_path, env={"ROVING_WORKERS": "3"})
    expected = "3" if child.FREE_THREADED else "1"
    assert done.stdout == f"{expected} all\n", done.stderr
    done = run(
        *ROVING,
        "run",
        "--workers=2",
        "--no-patch",
        "os",
        "--stack-size",
        "256K",
        "--no-preempt",
        program,
        folder=tmp_path,
        env={"ROVING_WORKERS": "3", "ROVING_PREEMPT": "5"},
    )
    expected = "2" if child.FREE_THREADED else "1"
    assert done.stdout == f"{expected} {{'os'}}\n", done.stderr


def test_every_part_can_be_left_out() -> None:
    """--no-patch has the names that roving.patch.all has."""
    assert set(cli._PARTS) == set(inspect.signature(roving.patch.all).parameters)


def test_preemption_is_on(tmp_path: Path) -> None:
    """With 10 ms, unless switched off."""
    program = write(
        tmp_path,
        """
        import roving, sys, time
        ticks, over = [], []
        def spin(end):
            while time.monotonic() < end and not over:
                pass
        def tick():
            for _ in range(5):
                time.sleep(0.001)
                ticks.append(time.monotonic())
        def main():
            end = time.monotonic() + float(sys.argv[1])
            spinners = [roving.spawn(spin, end) for _ in range(2)]
            roving.spawn(tick).join()
            over.append(1)
            return time.monotonic() < end
        print(roving.spawn(main).join())
        """,
    )
    # Seconds that the spinners have: with it the ticker ends long before, without it never.
    assert run(*ROVING, "run", "--workers=1", program, "20", folder=tmp_path).stdout == "True\n"
    off = run(*ROVING, "run", "--workers=1", "--no-preempt", program, "0.5", folder=tmp_path)
    assert off.stdout == "False\n"
    env = {"ROVING_PREEMPT": "0", "ROVING_WORKERS": "1"}
    assert run(*ROVING, "run", program, "0.5", folder=tmp_path, env=env).stdout == "False\n"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ([], "is missing"),
        (["-m"], "missing"),
        (["--workers", "0", "x.py"], "from 1 on"),
        (["--workers", "many", "x.py"], "from 1 on"),
        (["--preempt", "-1", "x.py"], "milliseconds"),
        (["--preempt", "0.0001", "x.py"], "preempt"),
        (["--stack-size", "1G", "x.py"], "from 1 on"),
        (["--stack-size", "16M", "x.py"], "stack_size"),
        (["--no-patch", "everything", "x.py"], "invalid choice"),
        (["--unknown", "x.py"], "unrecognized"),
    ],
)
def test_bad_arguments(tmp_path: Path, arguments: list[str], said: str) -> None:
    """One line, and status 2."""
    done = run(*ROVING, "run", *arguments, folder=tmp_path)
    assert done.returncode == 2
    assert said in done.stderr
    assert "Traceback" not in done.stderr


def test_bad_environment(tmp_path: Path) -> None:
    """Told of, by name."""
    for name in ("ROVING_WORKERS", "ROVING_PREEMPT", "ROVING_STACK_SIZE", "ROVING_REQUIRE_FREE_THREADING"):
        done = run(*ROVING, "run", "x.py", folder=tmp_path, env={name: "nonsense"})
        assert (done.returncode, name in done.stderr) == (2, True), done.stderr


def test_help(tmp_path: Path) -> None:
    """Of the command and of run."""
    assert "run " in run(*ROVING, "--help", folder=tmp_path).stdout
    text = run(*ROVING, "run", "--help", folder=tmp_path).stdout
    for word in ("--workers", "--preempt", "--stack-size", "ROVING_PREEMPT", "-m MODULE", "main thread"):
        assert word in text
    assert run(*ROVING, folder=tmp_path).returncode == 2
    assert run(*ROVING, "walk", folder=tmp_path).returncode == 2


def test_free_threading_is_required(tmp_path: Path) -> None:
    """Where there is a GIL it does not run."""
    program = write(tmp_path, "print('runs')")
    done = run(
        *ROVING,
        "run",
        "--require-free-threading",
        program,
        folder=tmp_path,
        env={"PYTHON_GIL": "1"} if child.FREE_THREADED else {},
    )
    assert (done.returncode, done.stdout) == (2, "")
    assert "GIL" in done.stderr
