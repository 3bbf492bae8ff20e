"""Each protection of a switch is needed: taken away, its test fails; with it, the same test passes."""

import sys

import child
import pytest
from test_imports import WARNINGS

# What only the evaluation stack of a parked fiber refers to: a global function, loaded, and then deleted.
EVALUATION_STACK = """
    FIBERS = 200
    parked, go = [], [False]

    def wait():
        parked.append(1)
        while not go[0]:
            roving.yield_now()
        return 1

    names = {"wait": wait}
    for i in range(FIBERS):
        exec(f"def victim{i}(x, y={i}):\\n    return [x + y for _ in range(2)][0]", names)
        # The function is on the stack while its argument is computed.
        exec(f"def body{i}():\\n    return victim{i}(wait())", names)

    def drive():
        fibers = [roving.spawn(names[f"body{i}"]) for i in range(FIBERS)]
        while len(parked) < FIBERS:
            roving.yield_now()
        for i in range(FIBERS):
            del names[f"victim{i}"]
        for _ in range(3):
            gc.collect()
            garbage = [(lambda n: lambda: n)(n) for n in range(2000)]
        go[0] = True
        assert [f.join() for f in fibers] == [i + 1 for i in range(FIBERS)]

    roving.spawn(drive).join()
    print("ok")
"""

# A special method that its type forgets while it runs: then only C code that called it refers to it.
C_STACK = """
    FIBERS = 100
    parked, go = [], [False]

    def wait():
        parked.append(1)
        while not go[0]:
            roving.yield_now()

    types = []
    for i in range(FIBERS):
        names = {"wait": wait, "helper": lambda x, i=i: x + i}
        exec("def add(self, other):\\n    wait()\\n    return helper(other)", names)
        types.append(type(f"T{i}", (), {"__add__": names.pop("add")}))
        del names

    def drive():
        fibers = [roving.spawn(lambda t=t: t() + 1) for t in types]
        while len(parked) < FIBERS:
            roving.yield_now()
        for t in types:
            del t.__add__
        for _ in range(3):
            gc.collect()
            garbage = [{str(n): n} for n in range(20000)]
            more = [exec("def add(self, other): pass", {}) for n in range(200)]
        go[0] = True
        assert [f.join() for f in fibers] == [i + 1 for i in range(FIBERS)]

    roving.spawn(drive).join()
    print("ok")
"""

# list.sort holds its list's lock while it calls the key function.
CRITICAL_SECTION = """
    shared = list(range(100))
    sorting, trying = [], []

    def key(x):
        sorting.append(True)
        while not trying:
            roving.yield_now()
        roving.yield_now()
        return -x

    def sort():
        shared.sort(key=key)

    def append():
        while not sorting:
            roving.yield_now()
        for _ in range(1000):
            trying.append(True)
            shared.append(1)
            roving.yield_now()

    a, b = roving.spawn(sort), roving.spawn(append)
    b.join()
    # Sorted, or else an error, since the list was changed under it: but never a deadlock.
    assert isinstance(a.exception(), ValueError | None)
    print("ok")
"""

# Deep structures are freed, and recursion in C ends in an exception.
C_STACK_LIMITS = """
    import weakref

    class Leaf: pass

    def deep():
        leaf = Leaf()
        gone = weakref.ref(leaf)
        nest = [leaf]
        del leaf
        for _ in range(20000):
            nest = [nest]
        del nest
        return gone() is None

    def compare():
        class Again:
            def __eq__(self, other):
                return self == other
        try:
            Again() == 1
        except RecursionError:
            return True

    assert roving.spawn(deep).join()
    sys.setrecursionlimit(10 ** 6)
    assert roving.spawn(compare).join()
    assert roving.spawn(deep).join()
    print("ok")
"""

THREADING_LOCAL = """
    local = threading.local()
    FIBERS = 10
    started = []

    def keep(value):
        fresh = not hasattr(local, "value")
        local.value = value
        started.append(1)
        while len(started) < FIBERS:
            roving.yield_now()
        return local.value if fresh else None

    def drive():
        fibers = [roving.spawn(keep, i) for i in range(FIBERS)]
        assert [f.join() for f in fibers] == list(range(FIBERS))

    roving.run(drive, workers=1)
    print("ok")
"""

ANCHORED = pytest.mark.skipif(
    not child.FREE_THREADED or sys.version_info < (3, 14), reason="frames hold counted references here"
)
LOCKED = pytest.mark.skipif(not child.FREE_THREADED, reason="critical sections are for builds without a GIL")

KEYED = pytest.mark.skipif(sys.version_info < (3, 14), reason="that lock is a critical section here")

PROTECTIONS = [
    pytest.param("anchor", EVALUATION_STACK, marks=ANCHORED),
    pytest.param("c-stack-refs", C_STACK, marks=ANCHORED),
    pytest.param("critical-sections", CRITICAL_SECTION, marks=LOCKED),
    pytest.param("c-stack-limits", C_STACK_LIMITS),
    pytest.param("threading-local", THREADING_LOCAL),
    pytest.param("warnings-lock", WARNINGS, marks=KEYED),
]


@pytest.mark.parametrize(("fault", "source"), PROTECTIONS)
def test_with_the_protection(fault: str, source: str) -> None:
    """In the very build that can do without."""
    child.check(source, workers=1, faults="")


@pytest.mark.parametrize(("fault", "source"), PROTECTIONS)
def test_without_the_protection(fault: str, source: str) -> None:
    """It crashes, hangs or computes something else."""
    done = child.run(source, workers=1, faults=fault, timeout=10)
    assert done.returncode != 0, f"nobody missed {fault}"


@pytest.mark.parametrize(("fault", "source"), PROTECTIONS)
def test_in_the_ordinary_build(fault: str, source: str) -> None:
    """On several workers, where there can be."""
    child.check(source.replace("workers=1", "workers=2") if child.FREE_THREADED else source)


def test_an_interpreter_it_was_not_built_for() -> None:
    """Is refused at import, and told why."""
    done = child.run("", faults="version")
    assert done.returncode == 1
    last = done.stderr.rstrip().splitlines()[-1]
    assert last.startswith("ImportError: roving was built for CPython 3.")
    assert "build it anew" in last
