"""Storms: the shortest quantum of use, while fibers do what an interpreter finds hardest to be stopped in.

For a third of a second each, or for ROVING_TORTURE_SECONDS, and until there were some preemptions.
"""

import child
import pytest

STORM = """
    import os
    # No spares: a fiber that gets one to itself is left alone.
    roving.configure(preempt=0.001, max_spares=0)
    begin = time.monotonic()
    end = begin + float(os.environ.get("ROVING_TORTURE_SECONDS", "0.3"))

    # On a slow interpreter, or a busy machine, it takes longer to see any.
    def want_more(least):
        return roving.stats()["preemptions"] < least and time.monotonic() < begin + 20

    def storm(*bodies, least=10):
        def again(body, n):
            rounds = 0
            while rounds == 0 or time.monotonic() < end or want_more(least):
                body(n)
                rounds += 1
            return rounds
        def main():
            # Some for each worker: one that has a worker to itself is left alone.
            fibers = max(4, 2 * roving.stats()["workers"])
            started = [roving.spawn(again, body, n) for n in range(fibers) for body in bodies]
            return [fiber.join() for fiber in started]
        rounds = roving.spawn(main).join()
        assert all(rounds), rounds
        count = roving.stats()["preemptions"]
        assert count >= least, (count, rounds)
        print(count, sum(rounds))
        print("ok")

    def busy(n=200):
        total = 0
        for i in range(n):
            total += i
        return total
"""

BODIES = {
    "collections": """
    def body(n):
        cycles = []
        for i in range(200):
            cycle = [lambda: cycle, (i, n)]
            cycle.append(cycle)
        if n == 0:
            gc.collect()
        assert busy() == 19900
    storm(body)
    """,
    "collector-beside": """
    stop = []
    def collect():
        while not stop:
            gc.collect()
            # Nobody is preempted while anybody collects.
            time.sleep(0.002)
    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    def body(n):
        held = [(lambda k: lambda: k)(k) for k in range(50)]
        assert busy() == 19900
        assert [f() for f in held] == list(range(50))
    storm(body, least=1)
    stop.append(1)
    thread.join()
    """,
    "deallocators": """
    died = []
    class Node:
        def __init__(self, next): self.next = next
        def __del__(self):
            busy(20)
            died.append(1)
    def body(n):
        chain = None
        for _ in range(50):
            chain = Node(chain)
        del chain
        deep = None
        for _ in range(3000):
            deep = [deep]
        del deep
    storm(body)
    """,
    "sort-keys": """
    shared = list(range(100))
    def body(n):
        own = list(range(100, 0, -1))
        own.sort(key=lambda k: (busy(20), k)[1])
        assert own == list(range(1, 101))
        # Others sort the same list, or look at it empty.
        try:
            shared.sort(key=lambda k: (busy(20), -k)[1])
        except ValueError:
            pass
        len(shared)
    storm(body)
    """,
    "dictionaries": """
    class Key:
        def __init__(self, n): self.n = n
        def __hash__(self):
            busy(10)
            return self.n % 5
        def __eq__(self, other):
            busy(10)
            return self.n == other.n
    shared = {}
    def body(n):
        own = {Key(i): i for i in range(20)}
        assert own[Key(7)] == 7
        shared[Key(n)] = n
        assert shared[Key(n)] == n
    storm(body)
    """,
    "generators": """
    def count(n):
        for i in range(n):
            busy(10)
            yield i
    def nested(depth):
        if depth == 0:
            yield from count(10)
        else:
            try:
                yield from nested(depth - 1)
            finally:
                busy(10)
    async def agen():
        for i in range(10):
            busy(10)
            yield i
    async def use():
        return [i async for i in agen()]
    def body(n):
        assert sum(nested(20)) == 45
        try:
            use().send(None)
        except StopIteration as stop:
            assert stop.value == list(range(10))
        half = nested(5)
        next(half)
        half.close()
    storm(body)
    """,
    "exceptions": """
    import contextlib
    def fail(n):
        try:
            busy(20)
            raise KeyError(n)
        except KeyError as error:
            busy(20)
            assert sys.exception() is error
            try:
                raise ValueError(n) from error
            finally:
                busy(20)
                assert sys.exception().args == (n,)
    def body(n):
        with contextlib.suppress(ValueError):
            fail(n)
        try:
            fail(n)
        except ValueError as error:
            assert error.args == error.__cause__.args == (n,)
        assert sys.exception() is None
    storm(body)
    """,
    "recursion": """
    def down(n):
        return 0 if n == 0 else 1 + down(n - 1)
    class Deep:
        def __init__(self, inner): self.inner = inner
        def __eq__(self, other): return self.inner == other.inner
    def body(n):
        assert down(500) == 500
        try:
            down(10**6)
        except RecursionError:
            pass
        else:
            raise AssertionError
        a = b = None
        for _ in range(2000):
            a, b = Deep(a), Deep(b)
        try:
            a == b
        except RecursionError:
            pass
        while a is not None:
            a, b = a.inner, b.inner
    storm(body)
    """,
    "tracing": """
    events = [0]
    def trace(frame, event, argument):
        events[0] += 1
        return trace
    def body(n):
        if n == 0:
            sys.settrace(trace)
            busy(50)
            sys.settrace(None)
        elif n == 1:
            sys.setprofile(lambda *_: busy(3))
            busy(50)
            len([])
            sys.setprofile(None)
        assert busy() == 19900
    storm(body, least=1)
    assert events[0]
    """,
    "monitoring": """
    tool = sys.monitoring.PROFILER_ID
    sys.monitoring.use_tool_id(tool, "storm")
    E = sys.monitoring.events
    lines = [0]
    def line(code, number):
        lines[0] += 1
    sys.monitoring.register_callback(tool, E.LINE, line)
    sys.monitoring.register_callback(tool, E.PY_START, lambda *_: busy(2))
    def body(n):
        if n == 0:
            sys.monitoring.set_events(tool, E.LINE)
            busy(20)
            sys.monitoring.set_events(tool, 0)
        elif n == 1:
            sys.monitoring.set_local_events(tool, body.__code__, E.PY_START)
            busy(20)
            sys.monitoring.set_local_events(tool, body.__code__, 0)
        assert busy() == 19900
    storm(body)
    assert lines[0]
    """,
    "frames": """
    import traceback
    def body(n):
        for thread, frame in sys._current_frames().items():
            while frame is not None:
                frame.f_code, frame.f_lineno
                frame = frame.f_back
        traceback.extract_stack()
        assert busy() == 19900
    storm(body)
    """,
    "spawns": """
    import contextvars
    variable = contextvars.ContextVar("variable")
    local = threading.local()
    def child(n):
        local.n = n
        variable.set(n)
        busy()
        return local.n, variable.get()
    def body(n):
        local.own = n
        fibers = [roving.spawn(child, i) for i in range(20)]
        assert [fiber.join() for fiber in fibers] == [(i, i) for i in range(20)]
        assert local.own == n
    # They wait by themselves most of the time.
    storm(body, least=0)
    """,
}


# Bytecode shared by all threads, or a copy for each.
@pytest.mark.parametrize(("workers", "tlbc"), [(1, "1"), (2, "1"), (2, "0")])
@pytest.mark.parametrize("name", BODIES)
def test_storm(name: str, workers: int, tlbc: str) -> None:
    """Everything comes out right, and fibers were preempted."""
    child.check(STORM + BODIES[name], workers=workers, env={"PYTHON_TLBC": tlbc})


IMPORTS = """
    import importlib, tempfile, os
    folder = tempfile.mkdtemp()
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    MODULES = 300
    ran = [[] for _ in range(MODULES)]
    import builtins
    builtins.ran = ran
    for i in range(MODULES):
        with open(os.path.join(folder, f"storm_{i}.py"), "w") as f:
            f.write(f"ran[{i}].append(1)\\nx = 0\\nfor i in range(2000): x += i\\ndef f(): return x\\n")
    importlib.invalidate_caches()
    roving.configure(preempt=0.001)
    # Fibers that import the same module need locks that know fibers.
    import _thread
    idents = {f.join() for f in [roving.spawn(_thread.get_ident) for _ in range(8)]}
    TOGETHER = 4 if len(idents) == 8 else 1
    def load(first):
        for i in range(first, MODULES, 8):
            assert importlib.import_module(f"storm_{i}").f() == 1999000
    def main():
        for fiber in [roving.spawn(load, n % 8) for n in range(8 * TOGETHER)]:
            fiber.join()
    roving.spawn(main).join()
    assert all(len(r) == 1 for r in ran), [i for i, r in enumerate(ran) if len(r) != 1]
    count = roving.stats()["preemptions"]
    assert count >= 10, count
    print(count, "ok")
"""


@pytest.mark.parametrize("workers", [1, 2])
def test_imports(workers: int) -> None:
    """Each module runs once, and nobody sees one that is half done."""
    child.check(IMPORTS, workers=workers)


def test_a_storm_at_exit() -> None:
    """Leaving the interpreter amid preemptions: no crash, no hang."""
    for _ in range(3):
        child.check("""
    roving.configure(preempt=0.001)
    def spinner():
        while True:
            pass
    fibers = [roving.spawn(spinner) for _ in range(6)]
    time.sleep(0.1)
    assert roving.stats()["preemptions"] > 0
    print("ok")
    """)
