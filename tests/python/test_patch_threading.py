"""Threads as fibers, in child processes: the patch is the whole process's."""

import child

# As far in as the programs below.
PATCH = """
        import roving.patch
        roving.patch.all()
"""


def test_a_thread_is_a_fiber_and_looks_like_a_thread() -> None:
    """Name, ident, daemon, enumerate, is_alive, local, join: as CPython's."""
    child.check(
        PATCH
        + """
        seen, local = {}, threading.local()
        go, here = threading.Event(), threading.Event()
        def body(value, *, key):
            me = threading.current_thread()
            seen["fiber"], seen["me"], seen["args"] = roving.current(), me, (value, key)
            seen["ident"], seen["native"] = threading.get_ident(), threading.get_native_id()
            local.value = 1
            here.set()
            go.wait()
        local.value = 0
        thread = threading.Thread(target=body, name="spinner", args=(1,), kwargs={"key": 2})
        assert thread.ident is None and not thread.is_alive() and not thread.daemon
        try:
            thread.join()
            raise SystemExit("joined before its start")
        except RuntimeError:
            pass
        thread.start()
        here.wait()
        assert isinstance(seen["fiber"], roving.Fiber) and seen["fiber"].name == "spinner", seen
        assert seen["me"] is thread and seen["args"] == (1, 2)
        assert thread.ident == seen["ident"]
        assert thread.native_id == seen["native"] != threading.get_native_id()
        assert thread.is_alive() and thread in threading.enumerate() and threading.active_count() == 2
        thread.join(0.01)
        assert thread.is_alive()
        try:
            thread.start()
            raise SystemExit("started twice")
        except RuntimeError:
            pass
        go.set()
        thread.join()
        thread.join()
        assert not thread.is_alive() and threading.enumerate() == [threading.main_thread()]
        assert local.value == 0
        print("ok")
        """
    )


def test_join_from_everywhere() -> None:
    """Fibers and threads join fibers and threads, with timeouts; nobody joins himself."""
    child.check(
        PATCH
        + """
        import itertools
        gates = []
        def make(native):
            gate = threading.Event()
            gates.append(gate)
            kind = roving.patch.NativeThread if native else threading.Thread
            thread = kind(target=gate.wait)
            thread.start()
            return thread
        ready = threading.Semaphore(0)
        def joins(thread, done):
            thread.join(0.01)
            assert thread.is_alive()
            ready.release()
            thread.join()
            assert not thread.is_alive()
            done.append(1)
        done, joiners = [], []
        for native, by_native in itertools.product([True, False], repeat=2):
            thread = make(native)
            for _ in range(3):
                kind = roving.patch.NativeThread if by_native else threading.Thread
                joiner = kind(target=joins, args=(thread, done))
                joiner.start()
                joiners.append(joiner)
        for _ in joiners:
            ready.acquire()
        time.sleep(0.01)
        for gate in gates:
            gate.set()
        for joiner in joiners:
            joiner.join()
        assert len(done) == 12
        errors = []
        def self_join():
            me = threading.current_thread()
            # As 3.13 calls it.
            handle = me._handle if sys.version_info < (3, 14) else me._os_thread_handle
            for join in (me.join, handle.join):
                try:
                    join()
                except RuntimeError as error:
                    errors.append(str(error))
        thread = threading.Thread(target=self_join)
        thread.start()
        thread.join()
        assert [error.lower() for error in errors] == ["cannot join current thread"] * 2, errors
        print("ok")
        """
    )


def test_a_join_parks() -> None:
    """One worker: what is joined could never end if its joiner held the worker."""
    child.check(
        PATCH
        + """
        turns = []
        def outer(depth):
            if depth:
                inner = threading.Thread(target=outer, args=(depth - 1,))
                inner.start()
                inner.join()
            turns.append(depth)
        thread = threading.Thread(target=outer, args=(50,))
        thread.start()
        thread.join()
        assert turns == list(range(51))
        # And of a native thread.
        gate = threading.Event()
        native = roving.patch.NativeThread(target=gate.wait)
        native.start()
        joiner = threading.Thread(target=native.join)
        joiner.start()
        opener = threading.Thread(target=gate.set)
        opener.start()
        joiner.join()
        assert not native.is_alive()
        print("ok")
        """,
        workers=1,
    )


def test_names_imported_before_and_subclasses() -> None:
    """In place, so nothing is too late."""
    child.check(
        """
        from threading import Thread, Timer
        from _thread import start_new_thread
        from concurrent.futures import ThreadPoolExecutor
        class Mine(Thread):
            def run(self):
                self.fiber = roving.current()
        mine, pool, kinds = Mine(), ThreadPoolExecutor(2), []
        start = mine.start
        import roving.patch
        roving.patch.all()
        start()
        mine.join()
        assert mine.fiber is not None
        timer = Timer(0.01, lambda: kinds.append(roving.current()))
        timer.start()
        timer.join()
        kinds.append(pool.submit(roving.current).result())
        event = threading.Event()
        ident = start_new_thread(lambda *, x: (kinds.append(roving.current()), event.set()), (), {"x": 1})
        event.wait()
        assert ident >> 62 == 1, ident
        assert len(kinds) == 3 and None not in kinds, kinds
        pool.shutdown()
        print("ok")
        """
    )


def test_native_by_choice() -> None:
    """One class, one block, or all."""
    child.check(
        """
        import roving.patch
        def kind(make=threading.Thread):
            seen = []
            thread = make(target=lambda: seen.append(roving.current()))
            thread.start()
            thread.join()
            return "thread" if seen == [None] else "fiber"
        assert kind() == "thread"
        roving.patch.all(thread="native")
        assert kind() == "thread" and roving.spawn(kind).join() == "thread"
        roving.patch.all()
        assert kind() == "fiber" and kind(roving.patch.NativeThread) == "thread"
        def block():
            with roving.patch.native_threads():
                inside = kind()
                beside = roving.spawn(kind).join()
            return inside, beside, kind()
        for call in (block, lambda: roving.spawn(block).join()):
            assert call() == ("thread", "fiber", "fiber"), call()
        assert "_thread.start_joinable_thread" in roving.patch.report()["thread"]
        roving.patch.undo()
        assert kind() == "thread" and roving.patch.report()["thread"] == ()
        roving.patch.all()
        assert kind() == "fiber"
        for bad in ("green", 2):
            try:
                roving.patch.all(thread=bad)
                raise SystemExit("taken")
            except ValueError as error:
                assert repr(bad) in str(error)
        print("ok")
        """
    )


def test_exceptions() -> None:
    """threading.excepthook, SystemExit, those of raw threads."""
    done = child.run(
        PATCH
        + """
        import _thread
        def fails():
            raise ValueError("from a thread")
        def run(target):
            thread = threading.Thread(target=target, name="bad")
            thread.start()
            thread.join()
        run(fails)
        run(sys.exit)
        hooked = []
        threading.excepthook = lambda args: hooked.append((args.exc_type, args.thread.name))
        run(fails)
        threading.excepthook = threading.__excepthook__
        assert hooked == [(ValueError, "bad")], hooked
        unraisable, ended = [], threading.Event()
        sys.unraisablehook = lambda args: (unraisable.append((args.exc_type, args.err_msg)), ended.set())
        _thread.start_new_thread(sys.exit, ())
        _thread.start_new_thread(fails, ())
        ended.wait()
        assert unraisable[0][0] is ValueError and "thread started by" in unraisable[0][1], unraisable
        roving.spawn(roving.sleep, 0.01).join()
        assert len(unraisable) == 1
        print("ok")
        """
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout == "ok\n", done.stdout + done.stderr
    assert done.stderr.count("Exception in thread bad:") == 1, done.stderr
    assert "from a thread" in done.stderr, done.stderr


def test_bad_calls() -> None:
    """As CPython refuses them; and a refused start leaves nothing behind."""
    child.check(
        PATCH
        + """
        import _thread
        def refuses(error, function, *args, **kwargs):
            try:
                function(*args, **kwargs)
            except error:
                return
            raise SystemExit(f"{function} {args} was taken")
        for function in (_thread.start_new_thread, _thread.start_new):
            refuses(TypeError, function, 1, ())
            refuses(TypeError, function, print, [])
            refuses(TypeError, function, print, (), [])
            refuses(TypeError, function, print, (), {1: 2})
            refuses(TypeError, function, print)
        refuses(TypeError, _thread.start_joinable_thread, 1)
        refuses(TypeError, _thread.start_joinable_thread, print, handle=1)
        refuses(TypeError, _thread.start_joinable_thread)
        handle = _thread._ThreadHandle()
        def in_fiber():
            refuses(RuntimeError, handle.join)
            _thread.start_joinable_thread(int, handle=handle)
            refuses(RuntimeError, _thread.start_joinable_thread, int, handle=handle)
            handle.join(None)
            handle.join(-1)
            handle.join(-5)
            refuses(TypeError, handle.join, "x")
            fresh = _thread._ThreadHandle()
            _thread.start_joinable_thread(threading.Event().wait, handle=fresh)
            refuses(TypeError, fresh.join, "x")
            refuses(OverflowError, fresh.join, 1e300)
            fresh.join(-5)
            fresh.join(0)
        roving.spawn(in_fiber).join()
        assert handle.is_done() and threading.enumerate() == [threading.main_thread()]
        print("ok")
        """
    )


def test_no_stack_is_an_error_of_start() -> None:
    """And not a start that never comes back."""
    child.check(
        PATCH
        + """
        import resource
        threading.stack_size(8 << 20)
        roving.spawn(int).join()
        gate = threading.Event()
        with open("/proc/self/statm") as file:
            used = int(file.read().split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + (256 << 20), resource.RLIM_INFINITY))
        threads = []
        try:
            for _ in range(100_000):
                thread = threading.Thread(target=gate.wait)
                thread.start()
                threads.append(thread)
        except RuntimeError as error:
            failed = str(error)
        resource.setrlimit(resource.RLIMIT_AS, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
        assert failed == "can't start new thread", failed
        assert thread not in threading.enumerate() and len(threading.enumerate()) == len(threads) + 1
        gate.set()
        for thread in threads:
            thread.join()
        print("ok")
        """
    )


def test_counts_and_what_is_left() -> None:
    """_count, thread-locals and dummies go with the thread, before join comes back."""
    child.check(
        PATCH
        + """
        import _thread, weakref
        local, gone = threading.local(), []
        class Value:
            def __del__(self):
                gone.append(1)
        here, go = threading.Semaphore(0), threading.Event()
        def body():
            local.value = Value()
            here.release()
            go.wait()
        threads = [threading.Thread(target=body) for _ in range(20)]
        for thread in threads:
            thread.start()
            here.acquire()
        assert _thread._count() == 20, _thread._count()
        go.set()
        for thread in threads:
            thread.join()
        assert len(gone) == 20 and _thread._count() == 0, (len(gone), _thread._count())
        def dummy():
            me = threading.current_thread()
            assert isinstance(me, threading._DummyThread) and me.daemon and me.is_alive()
            assert me.ident == threading.get_ident() and me is threading.current_thread()
            return weakref.ref(me)
        dead = [roving.spawn(dummy).join() for _ in range(100)]
        gc.collect()
        assert [ref() for ref in dead] == [None] * 100
        assert threading.enumerate() == [threading.main_thread()]
        print("ok")
        """
    )


def test_context_is_inherited_as_by_threads() -> None:
    """By the flag of 3.14; raw threads begin with an empty one."""
    source = (
        PATCH
        + """
        import _thread, contextvars
        variable = contextvars.ContextVar("variable", default=0)
        variable.set(1)
        seen = []
        thread = threading.Thread(target=lambda: seen.append(variable.get()))
        thread.start()
        thread.join()
        if sys.version_info >= (3, 14):
            context = contextvars.Context()
            context.run(variable.set, 2)
            thread = threading.Thread(target=lambda: seen.append(variable.get()), context=context)
            thread.start()
            thread.join()
        done = threading.Event()
        _thread.start_new_thread(lambda: (seen.append(variable.get()), done.set()), ())
        done.wait()
        inherits = int(getattr(sys.flags, "thread_inherit_context", 0))
        assert seen == ([inherits, 2, 0] if sys.version_info >= (3, 14) else [0, 0]), seen
        print("ok")
        """
    )
    for flag in ("0", "1"):
        child.check(source, options=("-X", f"thread_inherit_context={flag}"))


def test_exit_waits_for_threads_and_not_for_daemons() -> None:
    """In the order of CPython: threading's own atexit, threads, atexit."""
    done = child.run(
        PATCH
        + """
        import atexit
        atexit.register(print, "atexit", flush=True)
        threading._register_atexit(print, "threading", flush=True)
        stop = threading.Event()
        def late():
            stop.wait(0.2)
            threading.Thread(target=lambda: print("started late", flush=True)).start()
            native = roving.patch.NativeThread(target=from_native)
            native.daemon = False
            native.start()
        def from_native():
            thread = threading.Thread(target=lambda: (time.sleep(0.1), print("last", flush=True)))
            thread.daemon = False
            thread.start()
        threading.Thread(target=late).start()
        threading.Thread(target=threading.Event().wait, daemon=True).start()
        def quiet():
            try:
                threading.Event().wait()
            finally:
                sys.stderr.write("cleaned\\n")
        threading.Thread(target=quiet, daemon=True).start()
        print("main", flush=True)
        """
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.split("\n")[:-1] == ["main", "threading", "started late", "last", "atexit"], (
        done.stdout
    )
    assert done.stderr == "cleaned\n", done.stderr


def test_ctrl_c_while_threads_are_joined_at_exit() -> None:
    """It is told of, and the interpreter ends, as with threads."""
    done = child.run(
        PATCH
        + """
        import _thread, os, signal
        def interrupts():
            while threading._SHUTTING_DOWN is False:
                time.sleep(0.001)
            time.sleep(0.05)
            os.kill(os.getpid(), signal.SIGINT)
            threading.Event().wait()
        threading.Thread(target=interrupts).start()
        print("ok")
        """
    )
    assert done.returncode == 0, done
    assert done.stdout == "ok\n", done
    assert "KeyboardInterrupt" in done.stderr, done.stderr
    assert "_shutdown" in done.stderr, done.stderr


def test_interrupt_main() -> None:
    """From a thread that is a fiber, while the main thread waits."""
    child.check(
        PATCH
        + """
        import _thread
        def interrupt():
            time.sleep(0.05)
            _thread.interrupt_main()
        try:
            threading.Thread(target=interrupt).start()
            roving.spawn(threading.Event().wait, 20).join()
            raise SystemExit("not interrupted")
        except KeyboardInterrupt:
            pass
        print("ok")
        """
    )


def test_excepthook_without_a_thread() -> None:
    """What is printed then is the ident of the fiber, as get_ident gives it."""
    child.check(
        """
        import io, contextlib
        import roving.patch
        roving.patch.all()

        def work():
            try:
                1 / 0
            except ZeroDivisionError:
                args = threading.ExceptHookArgs((*sys.exc_info(), None))
            with contextlib.redirect_stderr(io.StringIO()) as stderr:
                threading.__excepthook__(args)
            return threading.get_ident(), stderr.getvalue()

        ident, text = roving.spawn(work).join()
        assert text.startswith(f"Exception in thread {ident}:"), text
        assert text.rstrip().endswith("ZeroDivisionError: division by zero"), text
        print("ok")
        """
    )
