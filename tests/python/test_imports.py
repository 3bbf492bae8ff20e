"""Imports in fibers, and the locks of C code that are keyed by thread."""

import child

MODULES = """
    import importlib, os, tempfile
    folder = tempfile.mkdtemp()
    sys.path.insert(0, folder)
    sys.dont_write_bytecode = True
    def write(name, source):
        with open(os.path.join(folder, name + ".py"), "w") as file:
            file.write(source)
"""


def test_a_module_whose_import_parks() -> None:
    """Runs once, and nobody sees it half done."""
    child.check(
        MODULES
        + """
    import builtins
    builtins.runs = []
    write("parks", "import roving\\nruns.append(1)\\nfor i in range(20): roving.yield_now()\\nlast = 3\\n")
    def use():
        import parks
        return parks.last
    threads = [threading.Thread(target=use) for _ in range(3)]
    fibers = [roving.spawn(use) for _ in range(50)]
    for thread in threads:
        thread.start()
    assert [fiber.join(20) for fiber in fibers] == [3] * 50
    for thread in threads:
        thread.join()
    assert runs == [1]
    print("ok")
    """
    )


def test_many_modules_at_once() -> None:
    """Imported from many fibers and some threads, in every order, parking: each runs once."""
    child.check(
        MODULES
        + """
    import builtins, random
    builtins.runs = []
    N = 60
    for n in range(N):
        needs = f"import many{n // 2}\\n" if n else ""
        work = f"runs.append({n})\\nroving.sleep(0.0005)\\nlast = {n}\\n"
        write(f"many{n}", f"import roving, time\\nroving.yield_now()\\n{needs}{work}")
    importlib.invalidate_caches()
    def use(seed):
        order = list(range(N))
        random.Random(seed).shuffle(order)
        for n in order:
            assert importlib.import_module(f"many{n}").last == n
    threads = [threading.Thread(target=use, args=(n,)) for n in range(2)]
    fibers = [roving.spawn(use, n) for n in range(30)]
    stop = False
    def collect():
        while not stop:
            gc.collect()
            time.sleep(0.005)
    collector = threading.Thread(target=collect)
    for thread in [collector, *threads]:
        thread.start()
    for thing in fibers + threads:
        thing.join(50)
    stop = True
    collector.join()
    assert sorted(runs) == list(range(N)), runs
    print("ok")
    """
    )


def test_a_cycle_of_imports() -> None:
    """Two fibers that each import one of two modules which import each other: no deadlock."""
    child.check(
        MODULES
        + """
    write("this", "import roving\\nroving.sleep(0.01)\\nimport that\\n")
    write("that", "import roving\\nroving.sleep(0.01)\\nimport this\\n")
    fibers = [roving.spawn(importlib.import_module, name) for name in ("this", "that")]
    for fiber in fibers:
        fiber.join(20)
    print("ok")
    """
    )


def test_an_import_that_is_cancelled() -> None:
    """Leaves no lock behind: the next import of the module runs it."""
    child.check(
        MODULES
        + """
    write("slow", "import roving\\nroving.sleep(0.1)\\n")
    first = roving.spawn(importlib.import_module, "slow")
    others = [roving.spawn(importlib.import_module, "slow") for _ in range(5)]
    roving.spawn(roving.sleep, 0.03).join()
    first.cancel()
    others[0].cancel()
    for fiber in [first, *others]:
        fiber.wait(20)
    assert first.cancelled() and others[0].cancelled()
    assert all(fiber.join().__name__ == "slow" for fiber in others[1:])
    print("ok")
    """
    )


def test_the_import_lock() -> None:
    """Excludes fibers of one worker from one another; a waiting one parks. It may be held across a fork."""
    child.check(
        """
        import _imp, os, warnings
        warnings.simplefilter("ignore")
        inside, turns = [], 0
        def work():
            global turns
            for _ in range(20):
                _imp.acquire_lock()
                _imp.acquire_lock()
                assert _imp.lock_held() and not inside
                inside.append(1)
                roving.yield_now()
                inside.pop()
                turns += 1
                _imp.release_lock()
                _imp.release_lock()
        for fiber in [roving.spawn(work) for _ in range(20)]:
            fiber.join()
        assert turns == 400 and not _imp.lock_held()
        error = roving.spawn(_imp.release_lock).exception()
        assert "not holding the import lock" in str(error)
        def hold():
            _imp.acquire_lock()
            roving.sleep(0.1)
            _imp.release_lock()
        def fork():
            pid = os.fork()
            if pid == 0:
                os._exit(0 if not _imp.lock_held() else 1)
            return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        holder = roving.spawn(hold)
        roving.spawn(roving.sleep, 0.02).join()
        assert roving.spawn(fork).join(20) == 0
        # A plain thread's fork takes and releases it in C, past those that wait.
        holder = roving.spawn(hold)
        waiters = [roving.spawn(work) for _ in range(3)]
        assert fork() == 0
        for fiber in [holder, *waiters]:
            fiber.join(20)
        print("ok")
        """,
        workers=1,
    )


WARNINGS = """
    import warnings
    warnings.simplefilter("always")
    shown = []
    def show(message, *args, **kwargs):
        shown.append(str(message))
        if "first" in str(message):
            # Parks with the lock of the C part of warnings held, until the other fiber has warned too.
            while len(shown) < 2:
                roving.sleep(0.001)
    warnings.showwarning = show
    def warn(text):
        warnings.warn(text)
        return roving.stats()
    first = roving.spawn(warn, "first")
    while not shown:
        time.sleep(0.001)
    # A thread: fibers of the same worker would be let in, as if they were the first.
    thread = threading.Thread(target=warn, args=("thread",), daemon=True)
    thread.start()
    thread.join(10)
    others = [roving.spawn(warn, f"other {n}") for n in range(20)]
    for fiber in [first, *others]:
        fiber.join(10)
    assert len(shown) == 22
    print("ok", flush=True)
    import os
    os._exit(0)
"""


def test_a_warning_that_parks() -> None:
    """Does not keep fibers of any worker, nor threads, from warning."""
    for workers in (1, 2):
        child.check(WARNINGS, workers=workers)


def test_logging() -> None:
    """Handlers that park, many fibers and a thread: every record whole."""
    child.check("""
        import io, logging
        class Parks(io.StringIO):
            def write(self, text):
                roving.yield_now()
                return super().write(text)
        stream = Parks()
        logging.basicConfig(stream=stream, format="%(threadName)s %(message)s", level=logging.INFO)
        def work(n):
            for i in range(10):
                logging.info("record %d of %d", i, n)
        thread = threading.Thread(target=work, args=(99,))
        fibers = [roving.spawn(work, n) for n in range(50)]
        thread.start()
        for thing in [*fibers, thread]:
            thing.join(30)
        lines = stream.getvalue().splitlines()
        assert len(lines) == 510 and all(" record " in line for line in lines)
        print("ok")
    """)
