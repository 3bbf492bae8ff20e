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
            for join in (threading.current_thread().join, threading.current_thread()._os_thread_handle.join):
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
        threading.Thread(target=interrupt).start()
        try:
            roving.spawn(threading.Event().wait, 20).join()
            raise SystemExit("not interrupted")
        except KeyboardInterrupt:
            pass
        print("ok")
        """
    )


def test_condition_and_its_like_in_fibers_and_threads_at_once() -> None:
    """Everybody waits and wakes everybody; nobody is left."""
    child.check(
        PATCH
        + """
        import random
        native = roving.patch.NativeThread
        def crowd(body, count=12):
            threads = [(native if i % 2 else threading.Thread)(target=body, args=(i,)) for i in range(count)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join(30)
                assert not thread.is_alive(), f"{body.__name__} hangs"
        # Condition: a bounded buffer.
        condition, buffer, got = threading.Condition(), [], []
        def produce_or_consume(i):
            for n in range(200):
                with condition:
                    if i % 4 < 2:
                        assert condition.wait_for(lambda: len(buffer) < 3, 20)
                        buffer.append((i, n))
                    else:
                        assert condition.wait_for(lambda: buffer, 20)
                        got.append(buffer.pop())
                    condition.notify_all() if n % 2 else condition.notify(12)
        crowd(produce_or_consume)
        assert len(set(got)) == 1200 and not buffer and not condition._waiters, len(got)
        # Semaphores: never more than three inside.
        semaphore, inside, most = threading.BoundedSemaphore(3), [], []
        def enter(i):
            random.seed(i)
            for n in range(100):
                if n % 5 == 0 and not semaphore.acquire(timeout=0.0005):
                    continue
                elif n % 5:
                    semaphore.acquire()
                inside.append(i)
                most.append(len(inside))
                if random.random() < 0.2:
                    time.sleep(0.0001)
                inside.remove(i)
                semaphore.release()
        crowd(enter)
        assert max(most) <= 3 and semaphore._value == 3, (max(most), semaphore._value)
        # Barrier: nobody passes before all have come.
        barrier, rounds = threading.Barrier(12), [0] * 12
        def meet(i):
            for n in range(50):
                barrier.wait(20)
                rounds[i] += 1
                assert max(rounds) - min(rounds) <= 1
                barrier.wait(20)
        crowd(meet)
        assert rounds == [50] * 12
        # Event.
        event, woken = threading.Event(), threading.Semaphore(0)
        def await_it(i):
            assert not event.wait(0.001 if i % 3 else 0) or event.is_set()
            assert event.wait(20)
            woken.release()
        opener = native(target=lambda: (time.sleep(0.05), event.set()))
        opener.start()
        crowd(await_it)
        assert woken._value == 12
        print("ok")
        """
    )


def test_cancelled_waits_leave_the_books_right() -> None:
    """Of conditions, events, semaphores, barriers; and of joins."""
    child.check(
        PATCH
        + """
        condition, semaphore, event = threading.Condition(), threading.Semaphore(0), threading.Event()
        gate = threading.Event()
        thread = threading.Thread(target=gate.wait)
        thread.start()
        native = roving.patch.NativeThread(target=gate.wait)
        native.start()
        def wait_for_condition():
            with condition:
                condition.wait()
        barrier = threading.Barrier(2)
        waits = [wait_for_condition, semaphore.acquire, event.wait, thread.join, native.join, barrier.wait]
        for _ in range(20):
            fibers = [roving.spawn(wait) for wait in waits]
            roving.sleep(0.002)
            for fiber in fibers:
                fiber.cancel()
            for fiber in fibers:
                assert fiber.wait(10), roving.dump()
                assert fiber.cancelled(), (fiber, fiber.exception())
            assert not condition._waiters and not event._cond._waiters and not semaphore._cond._waiters
            assert barrier.n_waiting == 0 and not barrier.broken
        with condition:
            condition.notify_all()
        semaphore.release()
        assert semaphore._value == 1 and semaphore.acquire(timeout=0)
        gate.set()
        thread.join()
        native.join()
        print("ok")
        """
    )


def test_executor_of_threads() -> None:
    """ThreadPoolExecutor: its workers are fibers; map, nested submits, shutdown, exit."""
    child.check(
        PATCH
        + """
        from concurrent.futures import ThreadPoolExecutor, as_completed, wait
        with ThreadPoolExecutor(200, initializer=time.sleep, initargs=(0,)) as pool:
            begun = time.monotonic()
            list(pool.map(time.sleep, [0.1] * 200))
            assert time.monotonic() - begun < 5
            futures = [pool.submit(pow, 2, n) for n in range(100)]
            assert sum(f.result() for f in as_completed(futures)) == 2**100 - 1
            outer = pool.submit(lambda: pool.submit(lambda: roving.current() is not None).result())
            assert outer.result() is True
            failed = pool.submit(divmod, 1, 0)
            assert isinstance(failed.exception(), ZeroDivisionError)
            assert roving.spawn(lambda: pool.submit(int).result()).join() == 0
        late = ThreadPoolExecutor(1)
        late.submit(time.sleep, 0.1)
        late.submit(print, "ok")
        """
    )


def test_fork() -> None:
    """The child of a plain thread has none of the threads, and may start its own; that of a fiber ends."""
    child.check(
        PATCH
        + """
        import os
        gate = threading.Event()
        threads = [threading.Thread(target=gate.wait, daemon=True) for _ in range(3)]
        for thread in threads:
            thread.start()
        def child():
            assert not any(thread.is_alive() for thread in threads)
            assert threading.enumerate() == [threading.main_thread()]
            for thread in threads:
                thread.join()
            seen = []
            mine = threading.Thread(target=lambda: seen.append(roving.current()))
            mine.start()
            mine.join()
            assert seen[0] is not None
        pid = os.fork()
        if not pid:
            child()
            os._exit(7)
        assert os.waitpid(pid, 0)[1] == 7 << 8
        def forks():
            pid = os.fork()
            if not pid:
                assert threading.current_thread() is threading.main_thread()
                os._exit(3)
            return os.waitpid(pid, 0)[1]
        codes = []
        thread = threading.Thread(target=lambda: codes.append(forks()))
        thread.start()
        thread.join()
        assert codes == [3 << 8] and roving.spawn(forks).join() == 3 << 8
        assert all(thread.is_alive() for thread in threads)
        gate.set()
        print("ok")
        """,
        options=("-W", "ignore::DeprecationWarning"),
    )


def test_logging_and_weakref_callbacks() -> None:
    """Handlers, their locks and a listener's thread; a callback that joins nobody but logs."""
    child.check(
        PATCH
        + """
        import io, logging, logging.handlers, queue, weakref
        stream = io.StringIO()
        records = queue.SimpleQueue()
        listener = logging.handlers.QueueListener(records, logging.StreamHandler(stream))
        listener.start()
        log = logging.getLogger("fibers")
        log.setLevel(logging.INFO)
        log.propagate = False
        log.addHandler(logging.handlers.QueueHandler(records))
        log.addHandler(logging.StreamHandler(stream))
        class Thing:
            pass
        def body(i):
            for n in range(50):
                thing = Thing()
                ref = weakref.ref(thing, lambda _: log.info("gone %d", i))
                del thing
                log.info("%d %d", i, n)
        kinds = [threading.Thread, roving.patch.NativeThread]
        threads = [kinds[i % 2](target=body, args=(i,)) for i in range(10)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            assert not thread.is_alive()
        listener.stop()
        assert stream.getvalue().count("\\n") == 2 * 2 * 500, stream.getvalue().count("\\n")
        print("ok")
        """
    )


def test_the_workers_keep_their_names() -> None:
    """A thread's name is not given to the worker that it runs on."""
    child.check(
        PATCH
        + """
        names = set()
        def look():
            with open("/proc/thread-self/comm") as file:
                names.add(file.read().strip())
            threading.current_thread().name = "renamed"
            with open("/proc/thread-self/comm") as file:
                names.add(file.read().strip())
        threads = [threading.Thread(target=look, name="mine") for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert not names & {"mine", "renamed"}, names
        print("ok")
        """
    )


def test_stack_size() -> None:
    """threading.stack_size is that of the fiber."""
    child.check(
        PATCH
        + """
        import json
        def depth(size):
            threading.stack_size(size)
            text, reached = "[" * 100_000, []
            def measure():
                low, high = 1, 100_000
                while low + 1 < high:
                    middle = (low + high) // 2
                    try:
                        json.loads("[" * middle + "]" * middle)
                        low = middle
                    except RecursionError:
                        high = middle
                reached.append(low)
            thread = threading.Thread(target=measure)
            thread.start()
            thread.join()
            return reached[0]
        sys.setrecursionlimit(1_000_000)
        small, large = depth(128 << 10), depth(4 << 20)
        assert large > 8 * small, (small, large)
        print("ok")
        """
    )
