"""Everything at once, for a second or two, in child processes.

ROVING_TORTURE_SECONDS says how long, ROVING_SEED repeats what was left to chance. test_stress.py runs the
same for minutes, with all sorts of settings.
"""

import os
import sys

import child
import pytest

SECONDS = float(os.environ.get("ROVING_TORTURE_SECONDS", "1.5"))

# Read in the child, so that the programs stay the same however long they run.
LENGTH_AND_SEED = """
    import os, random
    SEED = int(os.environ.get("ROVING_SEED") or random.randrange(1 << 30))
    print("ROVING_SEED", SEED, file=sys.stderr, flush=True)
    random.seed(SEED)
    END = time.monotonic() + float(os.environ.get("ROVING_TORTURE_SECONDS", "1.5"))
    def more(): return time.monotonic() < END
"""

# Runs something in fibers, again and again, and cancels half of them on the way.
ROUNDS = """
    def cancel_at_random(act):
        rounds = 0
        while more():
            fibers = [roving.spawn(act) for _ in range(50)]
            roving.sleep(random.random() / 100)
            for fiber in fibers[::2]:
                fiber.cancel()
            for fiber in fibers:
                assert fiber.wait(20), roving.dump()
                assert fiber.cancelled() or fiber.exception() is None, fiber.exception()
            rounds += 1
        print(rounds, "rounds")
"""

COMMON = (
    LENGTH_AND_SEED
    + """
    import itertools
    stop = threading.Event()
    def collect():
        # The pause is for slow machines: a collection holds everybody up.
        while not stop.wait(0.001):
            gc.collect()
    # What fails must not wait for it.
    collector = threading.Thread(target=collect, daemon=True)
"""
)

# Parked in nested frames, whose locals and stacks alone hold closures, classes and lambdas.
COLLECT = """
    def make(n):
        class Local:
            kept = n
            def method(self):
                return [self.kept, n]
        return Local

    def down(depth, n):
        if depth == 0:
            for _ in range(3):
                roving.yield_now()
            return 0
        local, function = make(n), lambda x: x + n
        # The class and the function are on the evaluation stack while the call runs.
        value = make(n)().method()[0] + (lambda x: x)(down(depth - 1, n)) + function(0)
        return value + local().kept

    def body(n):
        depth = n % 9
        assert down(depth, n) == 3 * n * depth, n
        return n

    def drive():
        while more():
            fibers = [roving.spawn(body, n) for n in range(2000)]
            assert [f.join() for f in fibers] == list(range(2000))

    collector.start()
    roving.spawn(drive).join()
    stop.set()
    collector.join()
    print("ok")
"""

EVALUATION_STACK = """
    counter = itertools.count()

    def body(n):
        names = {"wait": roving.yield_now}
        exec("def victim(a, x): return x", names)
        exec("def call(x):\\n for _ in range(3): victim(wait(), x)\\n return victim(drop(), x)", names)
        names["drop"] = lambda: (names.pop("victim"), roving.yield_now())
        return names["call"](n)

    def drive():
        while more():
            fibers = [roving.spawn(body, n) for n in range(500)]
            assert [f.join() for f in fibers] == list(range(500))

    collector.start()
    roving.spawn(drive).join()
    stop.set()
    collector.join()
    print("ok")
"""

# Yields where C code calls Python.
CALLBACKS = """
    import contextlib, functools, importlib.util, json, re, tempfile

    class Key:
        def __init__(self, n): self.n = n
        def __hash__(self):
            roving.yield_now()
            return self.n % 3
        def __eq__(self, other):
            roving.yield_now()
            return self.n == other.n
        def __lt__(self, other):
            roving.yield_now()
            return self.n < other.n

    class Ends:
        def __del__(self):
            roving.yield_now()

    def sort(n):
        data = [(n * 7 + i * 13) % 31 for i in range(20)]
        def key(x):
            roving.yield_now()
            return -x
        assert sorted(data, key=key) == sorted(data, reverse=True)
        assert [k.n for k in sorted(map(Key, data))] == sorted(data)

    def look_up(n):
        table = {Key(i): i for i in range(12)}
        assert table[Key(n % 12)] == n % 12
        assert Key(99) not in table

    def destroy(n):
        things = [Ends() for _ in range(5)]
        nest = Ends()
        for _ in range(50):
            nest = [nest, Ends() if n % 2 else None]
        del things, nest

    def call_back(n):
        def double(match):
            roving.yield_now()
            return match.group() * 2
        assert re.sub("[0-9]", double, "1a2b3") == "11a22b33"
        def load(pairs):
            roving.yield_now()
            return dict(pairs)
        assert json.loads('{"a": {"b": {}}}', object_pairs_hook=load) == {"a": {"b": {}}}
        assert functools.reduce(lambda a, b: roving.yield_now() or a + b, range(10)) == 45
        assert list(map(lambda x: roving.yield_now() or x, range(5))) == [0, 1, 2, 3, 4]

    def generate(n):
        def inner(k):
            try:
                for i in range(k):
                    roving.yield_now()
                    yield i
            finally:
                roving.yield_now()
        def outer():
            yield from inner(5)
            yield from (x for x in inner(5))
        assert list(outer()) == [0, 1, 2, 3, 4] * 2
        half = outer()
        next(half)
        half.close()
        next(inner(3))

    def fail(n):
        try:
            try:
                raise KeyError(n)
            except KeyError as error:
                roving.yield_now()
                raise ValueError(n) from error
            finally:
                roving.yield_now()
        except ValueError as error:
            assert error.args == (n,) and error.__cause__.args == (n,)

    @contextlib.contextmanager
    def block(entered):
        roving.yield_now()
        entered.append(1)
        try:
            yield entered
        finally:
            roving.yield_now()
            entered.pop()

    class Block:
        def __enter__(self):
            roving.yield_now()
            return self
        def __exit__(self, kind, error, traceback):
            roving.yield_now()
            return kind is KeyError

    def manage(n):
        entered = []
        with Block(), block(entered) as same, block(entered), Block():
            assert same is entered and entered == [1, 1]
            if n % 2:
                raise KeyError(n)
        with contextlib.ExitStack() as stack:
            for _ in range(3):
                stack.enter_context(block(entered))
        assert entered == []

    folder = tempfile.mkdtemp()
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    for n in range(10):
        with open(f"{folder}/parks_{n}.py", "w") as file:
            file.write("import roving; ready = []\\n")
            file.write("for i in range(5): roving.yield_now(); ready.append(i)\\n")
    importlib.invalidate_caches()

    # Others want the same module meanwhile. Later it is there, and run once more, by itself.
    def load(n):
        module = importlib.import_module(f"parks_{random.randrange(10)}")
        assert module.ready == [0, 1, 2, 3, 4]
        again = importlib.util.module_from_spec(module.__spec__)
        module.__spec__.loader.exec_module(again)
        assert again.ready == module.ready and again.ready is not module.ready

    # Finalizers that a collection calls, and that park amid it.
    def collect_and_park(n):
        for _ in range(5):
            end = Ends()
            end.me = end
            del end
        gc.collect()

    kinds = [sort, look_up, destroy, call_back, generate, fail, manage, load, collect_and_park]

    def drive():
        while more():
            fibers = [roving.spawn(kinds[n % len(kinds)], n) for n in range(300)]
            for fiber in fibers:
                fiber.join()

    collector.start()
    roving.spawn(drive).join()
    stop.set()
    collector.join()
    print("ok")
"""

# Every way to run out of stack.
RECURSION = """
    import functools, json, re, pickle

    def python(n):
        return python(n + 1)

    class Again:
        def __eq__(self, other): return self == other
        def __getattr__(self, name): return getattr(self, name + "x")
        def __repr__(self): return repr(self)
        def __add__(self, other): return self + other
        def __call__(self): return self()
        def __iter__(self): return iter(self)

    def nest(n):
        outer = []
        for _ in range(n):
            outer = [outer]
        return outer

    def sort(_):
        return sorted([1, 2], key=sort)

    def substitute(_):
        return re.sub("a", substitute, "a")

    ways = [
        lambda: python(0),
        lambda: Again() == 1,
        lambda: Again().attribute,
        lambda: repr(Again()),
        lambda: Again() + 1,
        lambda: Again()(),
        lambda: repr(nest(100_000)),
        lambda: json.dumps(nest(100_000)),
        lambda: json.loads("[" * 100_000),
        lambda: pickle.dumps(nest(100_000)),
        lambda: sort(0),
        lambda: substitute(0),
        lambda: nest(50_000) == nest(50_000),
        lambda: eval("(" * 200 + ")" * 200),
        # 3.13's parser counts its levels, and not what they take: see the README's limits.
        lambda: sys.version_info >= (3, 14) and eval("-" * 100_000 + "1"),
        lambda: functools.reduce(lambda f, _: functools.partial(f), range(100_000), int)(),
    ]

    def body(n):
        way = ways[n % len(ways)]
        try:
            way()
        except (RecursionError, MemoryError, SyntaxError):
            pass
        roving.yield_now()
        return n

    def drive():
        first = True
        while more() or first:
            first = False
            fibers = [roving.spawn(body, n) for n in range(2 * len(ways))]
            for fiber in fibers:
                fiber.join()

    roving.spawn(drive).join()
    # Once more, where the interpreter's own count of Python calls does not help.
    sys.setrecursionlimit(10 ** 8)
    ways[0] = int
    for fiber in [roving.spawn(body, n) for n in range(len(ways))]:
        fiber.join()
    print("ok")
"""

# Frames of parked and running fibers, looked at from other threads.
WALKERS = """
    frames = []

    def inner(n):
        frames.append(sys._getframe())
        roving.yield_now()
        return n

    def middle(n):
        return inner(n) + inner(n)

    def body(n):
        return middle(n)

    def walk():
        while not stop.is_set():
            for frame in frames[-50:]:
                seen = []
                while frame is not None:
                    seen.append(frame.f_code.co_name)
                    frame = frame.f_back
                assert len(seen) <= 4, seen
            sys._current_frames()

    walkers = [threading.Thread(target=walk) for _ in range(2)]
    for walker in walkers:
        walker.start()

    def drive():
        while more():
            fibers = [roving.spawn(body, n) for n in range(300)]
            assert [f.join() for f in fibers] == [2 * n for n in range(300)]
            del frames[:-100]

    roving.spawn(drive).join()
    stop.set()
    for walker in walkers:
        walker.join()
    print("ok")
"""

EXCEPTIONS = """
    class Mine(Exception): pass

    def body(n):
        try:
            raise Mine(n)
        except Mine as error:
            roving.yield_now()
            raise error

    def middle(n):
        roving.yield_now()
        return roving.spawn(body, n).join()

    def drive():
        fibers = [roving.spawn(middle, n) for n in range(10_000)]
        for n, fiber in enumerate(fibers):
            error = fiber.exception()
            assert type(error) is Mine and error.args == (n,)

    roving.spawn(drive).join()
    gc.collect()
    print("ok")
"""

# Threads of Python's own beside the workers.
THREADS = """
    results = []

    def body(n):
        roving.yield_now()
        return [n] * 3

    def thread():
        while more():
            fibers = [roving.spawn(body, n) for n in range(100)]
            assert [f.join() for f in fibers] == [[n] * 3 for n in range(100)]
        results.append(True)

    threads = [threading.Thread(target=thread) for _ in range(4)]
    collector.start()
    for one in threads:
        one.start()
    for one in threads:
        one.join()
    stop.set()
    collector.join()
    assert len(results) == 4
    print("ok")
"""

# Each wait there is, cancelled while it lasts: it raises, once, clean-up may wait, and nothing is lost.
CANCELLATIONS = """
    import contextlib, importlib, os, queue, tempfile
    from roving._roving import _dump

    folder = tempfile.mkdtemp()
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    with open(f"{folder}/waits_long.py", "w") as file:
        file.write("import roving\\nif roving.patient: roving.sleep(1000)\\n")
    roving.patient = True
    sys.unraisablehook = lambda _: None

    reader, writer = os.pipe()
    lock, rlock, semaphore, event = roving.Lock(), roving.RLock(), roving.Semaphore(1), roving.Event()
    condition, silent, deaf, full = roving.Condition(), roving.Channel(), roving.Channel(), roving.Channel(1)
    box, barrier = roving.Queue(1), roving.Barrier(2)
    foreign, foreign_r, foreign_event = threading.Lock(), threading.RLock(), threading.Event()
    foreign_condition, foreign_box = threading.Condition(), queue.Queue(1)
    taken = [lock, rlock, semaphore, foreign, foreign_r]
    for one in taken:
        one.acquire()
    full.send(1)
    box.put(1)
    foreign_box.put(1)
    forever = roving.spawn(event.wait)

    def long(*_):
        roving.sleep(1000)

    def on(condition):
        with condition:
            condition.wait()

    def own_children():
        with roving.scope() as scope:
            scope.spawn(long)

    def shut(barrier):
        try:
            barrier.wait()
        finally:
            barrier.reset()

    class Dies:
        def __del__(self): long()

    class Key:
        def __hash__(self): return 1
        def __eq__(self, other): long()

    def die():
        # What a destructor raises is lost: the next wait raises it again.
        Dies()
        long()

    def generate():
        try:
            yield long()
        finally:
            roving.yield_now()

    @contextlib.contextmanager
    def block():
        try:
            yield
        finally:
            roving.yield_now()

    def manage():
        with block(), block():
            long()

    waits = [
        long, forever.join, forever.wait, lambda: forever.exception(), own_children, manage, die,
        lock.acquire, rlock.acquire, semaphore.acquire, event.wait, lambda: on(condition),
        lambda: shut(barrier), silent.recv, lambda: deaf.send(1), lambda: full.send(1),
        lambda: list(silent), lambda: box.put(1),
        lambda: roving.select(silent.recv_op(), full.send_op(1)), lambda: roving.wait_readable(reader),
        lambda: list(roving.map(long, [1, 2], limit=2)), lambda: roving.timeout(1000).__enter__() and long(),
        foreign.acquire, lambda: foreign.acquire(timeout=1000), foreign_r.acquire, foreign_event.wait,
        lambda: on(foreign_condition), lambda: foreign_box.put(1), lambda: foreign_event.wait(1000),
        lambda: sorted([2, 1], key=long), lambda: {Key(): 1}.get(Key()), lambda: list(generate()),
        lambda: list(map(long, [1])), lambda: importlib.import_module("waits_long"),
        lambda: roving.spawn(long).join(),
    ]

    def body(wait, told):
        try:
            wait()
        except roving.Cancelled:
            told.append("cancelled")
            # Clean-up may wait.
            roving.sleep(0.0001)
            raise
        else:
            told.append("went on")

    def until_parked(fibers):
        wanted = {fiber.id for fiber in fibers}
        end = time.monotonic() + 20
        while wanted - {fiber.id for fiber, state, _, _ in _dump() if state == "parked"}:
            assert time.monotonic() < end, [n for n, fiber in enumerate(fibers) if fiber.done()]
            roving.sleep(0.001)

    def round():
        told = [[] for _ in waits]
        fibers = [roving.spawn(body, *both) for both in zip(waits, told)]
        until_parked(fibers)
        for fiber in random.sample(fibers, len(fibers)):
            fiber.cancel()
        for n, fiber in enumerate(fibers):
            assert fiber.wait(20), (n, roving.dump())
            assert fiber.cancelled() and told[n] == ["cancelled"], (n, told[n], fiber)

    collector.start()
    round()
    while more():
        round()
    stop.set()
    collector.join()
    # Who waited has left, and took nothing along.
    for one in taken:
        one.release()
        assert one.acquire(False) and (one in (rlock, foreign_r) or not one.acquire(False))
    for full_one in (full.recv, box.get, foreign_box.get):
        assert full_one() == 1
    assert box.empty() and foreign_box.empty()
    # The children of those that only joined them.
    roving.patient = False
    importlib.import_module("waits_long")
    for fiber in roving.fibers():
        fiber.cancel()
    print("ok")
"""

# 3.13t crashes now and then when one thread walks the frames another runs, plain threads too: see the README
WALKERS_ARE_SAFE = not child.FREE_THREADED or sys.version_info >= (3, 14)

PROGRAMS = {
    "cancellations": CANCELLATIONS,
    "collect": COLLECT,
    "evaluation stack": EVALUATION_STACK,
    "callbacks": CALLBACKS,
    "recursion": RECURSION,
    "walkers": WALKERS,
    "exceptions": EXCEPTIONS,
    "threads": THREADS,
}


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_torture(program: str, workers: int) -> None:
    """No crash, no hang, and every result right."""
    if program == "walkers" and not WALKERS_ARE_SAFE:
        pytest.skip("3.13t crashes when one thread walks the running frames of another; see README")
    child.check(COMMON + PROGRAMS[program], workers=workers, timeout=60 + 10 * SECONDS)


@pytest.mark.skipif(not child.FREE_THREADED, reason="bytecode is one thread's only without a GIL")
@pytest.mark.parametrize("tlbc", ["0", "1"])
def test_torture_with_and_without_bytecode_of_its_own(tlbc: str) -> None:
    """The interpreter's switch for thread-local bytecode."""
    child.check(COMMON + COLLECT, env={"PYTHON_TLBC": tlbc}, timeout=60 + 10 * SECONDS)


@pytest.mark.parametrize("options", [("-X", "dev"), ("-X", "importtime")], ids=str)
def test_torture_with_options(options: tuple[str, ...]) -> None:
    """The allocators' checks among them."""
    child.check(COMMON + CALLBACKS, options=options, timeout=60 + 10 * SECONDS)
