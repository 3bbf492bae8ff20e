"""The GIL: from the start, or switched on by an extension that needs it."""

import shlex
import subprocess
import sysconfig
from pathlib import Path

import child
import pytest

needs_free_threading = pytest.mark.skipif(not child.FREE_THREADED, reason="the GIL is always on")

TINY = """
#include <Python.h>
static struct PyModuleDef module = {PyModuleDef_HEAD_INIT, .m_name = "tiny"};
PyMODINIT_FUNC PyInit_tiny(void) { return PyModule_Create(&module); }
"""

# Fibers and a plain thread, none of which ever waits.
FAIR = """
def fair(kind):
    # One counter each: they count at the same time.
    done, turns, laps = [], [0] * 4, [0]
    def thread():
        while not done:
            laps[0] += 1
    def fiber(n):
        while not done:
            turns[n] += 1
            kind()
    plain = threading.Thread(target=thread, daemon=True)
    plain.start()
    fibers = [roving.spawn(fiber, n) for n in range(4)]
    time.sleep(0.3)
    mark, end = (sum(turns), laps[0]), time.monotonic() + 20
    while sum(turns) - mark[0] <= 10 or laps[0] - mark[1] <= 1000:
        assert time.monotonic() < end, (mark, turns, laps)
        time.sleep(0.05)
    done.append(1)
    plain.join()
    for f in fibers:
        f.join()
"""


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Build an extension that says nothing of the GIL; give back where it lies."""
    folder: Path = tmp_path_factory.mktemp("tiny")
    source = folder / "tiny.c"
    source.write_text(TINY)
    compiler = shlex.split(sysconfig.get_config_var("CC") or "cc")[:1]
    target = folder / f"tiny{sysconfig.get_config_var('EXT_SUFFIX')}"
    defines = ["-DPy_GIL_DISABLED=1"] if child.FREE_THREADED else []
    include = f"-I{sysconfig.get_path('include')}"
    command = [*compiler, "-shared", "-fPIC", *defines, include, str(source), "-o", str(target)]
    subprocess.run(command, check=True)
    return str(folder)


def test_stats_say_whether_there_is_one() -> None:
    """`stats()["gil"]`."""
    child.check(f"""
    roving.spawn(int).join()
    assert roving.stats()["gil"] is {not child.FREE_THREADED}
    print("ok")
    """)


@needs_free_threading
def test_switched_on_while_fibers_run(tiny: str) -> None:
    """One warning, which names the module; fibers go on, take turns with threads, and are preempted."""
    done = child.run(
        f"""
{FAIR}
sys.path.insert(0, {tiny!r})
roving.configure(preempt=0.001)
stop = []
def spinner():
    while not stop:
        pass
def parker():
    while not stop:
        roving.sleep(0.001)
fibers = [roving.spawn(f) for f in [spinner, parker] * 4]
time.sleep(0.05)
assert roving.stats()["gil"] is False
def load():
    import tiny
    return tiny
assert roving.spawn(load).join().__name__ == "tiny"
assert roving.stats()["gil"] is True
before, end = roving.stats()["preemptions"], time.monotonic() + 20
while roving.stats()["preemptions"] == before:
    assert time.monotonic() < end
    time.sleep(0.05)
stop.append(1)
for fiber in fibers:
    fiber.join()
fair(roving.yield_now)
fair(lambda: roving.spawn(int).join())
print("ok")
""",
        workers=2,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == "ok\n", done.stderr
    assert done.stderr.count("Warning") == 1, done.stderr
    assert "'tiny'" in done.stderr


@needs_free_threading
def test_asked_for_at_the_start() -> None:
    """PYTHON_GIL=1: one worker, and nobody starves."""
    source = f"""
{FAIR}
roving.configure(preempt=0.005)
fair(roving.yield_now)
fair(int)
assert roving.stats()["workers"] == 1 and roving.stats()["gil"] is True, roving.stats()
print("ok")
"""
    child.check(source, env={"PYTHON_GIL": "1"})


@needs_free_threading
def test_refused_when_an_import_would_switch_it_on(tiny: str) -> None:
    """`require_free_threading`: the import fails; so does what comes after, with the module's name."""
    child.check(f"""
    sys.path.insert(0, {tiny!r})
    roving.configure(require_free_threading=True)
    try:
        import tiny
    except RuntimeWarning as error:
        assert "'tiny'" in str(error)
    else:
        raise AssertionError
    try:
        roving.spawn(int)
    except RuntimeError as error:
        assert "GIL" in str(error)
    else:
        raise AssertionError
    roving.configure(require_free_threading=False)
    roving.spawn(int).join()
    print("ok")
    """)


@needs_free_threading
def test_refused_when_it_is_switched_on_later(tiny: str) -> None:
    """By somebody who lets the import go on: nothing is spawned any more, and what runs goes on."""
    child.check(f"""
    import warnings
    sys.path.insert(0, {tiny!r})
    roving.configure(require_free_threading=True)
    event = roving.Event()
    waits = roving.spawn(event.wait)
    roving.spawn(int).join()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import tiny
    for spawn in (roving.spawn, roving.options(name="x").spawn, roving.run):
        try:
            spawn(int)
        except RuntimeError as error:
            assert "needed by tiny" in str(error), error
        else:
            raise AssertionError
    event.set()
    assert waits.join() is True
    roving.configure(require_free_threading=False)
    assert roving.spawn(int).join() == 0
    print("ok")
    """)


def test_refused_when_it_is_on(tiny: str) -> None:
    """The message says why it is."""
    why = "needed by tiny" if child.FREE_THREADED else "not a free-threaded interpreter"
    load = f"sys.path.insert(0, {tiny!r}); import tiny" if child.FREE_THREADED else ""
    why = "needed by tiny" if child.FREE_THREADED else "not a free-threaded interpreter"
    child.check(f"""
    {load}
    try:
        roving.configure(require_free_threading=True)
    except RuntimeError as error:
        assert {why!r} in str(error), error
    else:
        raise AssertionError
    print("ok")
    """)


def test_threads_and_fibers_share_fairly() -> None:
    """Whatever the interpreter."""
    child.check(f"""
{FAIR}
fair(roving.yield_now)
roving.configure(preempt=0.005)
fair(int)
print("ok")
""")
