"""What looks at thread states from outside: asynchronous exceptions, frames of all threads, the GIL."""

import child
import pytest


def test_an_asynchronous_exception_reaches_the_worker() -> None:
    """By the number of its thread, which the anchor does not share."""
    child.check("""
        import ctypes
        # The thread's: get_ident is the fiber's.
        thread_ident = ctypes.pythonapi.PyThread_get_thread_ident
        thread_ident.restype = ctypes.c_ulong
        spinning = []
        def spin():
            spinning.append(thread_ident())
            while True:
                pass
        parked = [roving.spawn(roving.sleep, 1000) for _ in range(10)]
        fiber = roving.spawn(spin)
        while not spinning:
            roving.yield_now()
        number = ctypes.c_ulong(spinning[0])
        reached = ctypes.pythonapi.PyThreadState_SetAsyncExc(number, ctypes.py_object(KeyError))
        assert reached == 1
        assert isinstance(fiber.exception(10), KeyError)
        assert not any(f.done() for f in parked)
        print("ok", flush=True)
    """)


def test_the_frames_of_all_threads() -> None:
    """Parked fibers hang on their worker's anchor; every walk ends."""
    child.check("""
        def inner():
            roving.sleep(1000)
        def outer():
            inner()
        fibers = [roving.spawn(outer) for _ in range(100)]
        while roving.stats()["started"] < 100:
            roving.yield_now()
        for number, frame in sys._current_frames().items():
            names = []
            while frame is not None:
                names.append(frame.f_code.co_name)
                frame = frame.f_back
            assert len(names) <= 3, names
            if number == 0:
                assert names == ["inner", "outer", "<fiber>"]
        faulthandler.dump_traceback(sys.stderr)
        print("ok", flush=True)
    """)


def test_monitoring_reaches_parked_frames() -> None:
    """Tools that are switched on while a fiber is parked see the rest of its run."""
    child.check("""
        lines = []
        stop = []
        def work():
            while not stop:
                roving.yield_now()
            a = 1
            return a
        fiber = roving.spawn(work)
        while roving.stats()["started"] < 1:
            roving.yield_now()
        tool = sys.monitoring.PROFILER_ID
        sys.monitoring.use_tool_id(tool, "test")
        events = sys.monitoring.events
        sys.monitoring.register_callback(tool, events.LINE, lambda code, line: lines.append(code.co_name))
        sys.monitoring.set_local_events(tool, work.__code__, events.LINE)
        stop.append(True)
        assert fiber.join() == 1
        assert "work" in lines
        sys.monitoring.free_tool_id(tool)
        print("ok", flush=True)
    """)


def test_the_same_object_in_many_fibers() -> None:
    """Counts of references stay right: what everybody used is freed once nobody does."""
    child.check("""
        import weakref
        class Thing: pass
        def use(thing, depth):
            if depth:
                return use(thing, depth - 1)
            roving.yield_now()
            return [thing] * 10
        thing = Thing()
        gone = weakref.ref(thing)
        def drive(thing):
            for _ in range(20):
                fibers = [roving.spawn(use, thing, 5) for _ in range(200)]
                assert all(f.join()[0] is thing for f in fibers)
        roving.spawn(drive, thing).join()
        del thing
        gc.collect()
        assert gone() is None
        print("ok", flush=True)
    """)


def test_nothing_leaks() -> None:
    """Fibers that ended leave nothing, whatever they kept."""
    child.check("""
        import contextvars
        variable = contextvars.ContextVar("variable")
        local = threading.local()
        def work(n):
            variable.set([n])
            local.value = [n]
            try:
                raise ValueError(n)
            except ValueError:
                roving.yield_now()
        def wave():
            for fiber in [roving.spawn(work, n) for n in range(2000)]:
                fiber.join()
        def objects():
            for _ in range(3):
                gc.collect()
            return len(gc.get_objects())
        for _ in range(3):
            roving.spawn(wave).join()
        before = objects()
        for _ in range(10):
            roving.spawn(wave).join()
        assert objects() - before < 500, (before, objects())
        print("ok", flush=True)
    """)


@pytest.mark.skipif(not child.FREE_THREADED, reason="it is always on here")
def test_with_the_gil_on() -> None:
    """One worker, and everything works."""
    child.check(
        """
        assert sys._is_gil_enabled()
        def work(n):
            roving.yield_now()
            return n
        def drive():
            return [f.join() for f in [roving.spawn(work, n) for n in range(1000)]]
        assert roving.spawn(drive).join() == list(range(1000))
        assert [f.join() for f in [roving.spawn(work, n) for n in range(1000)]] == list(range(1000))
        gc.collect()
        assert roving.stats()["workers"] == 1
        print("ok", flush=True)
        """,
        env={"PYTHON_GIL": "1"},
    )


def test_a_subinterpreter() -> None:
    """Cannot import it, and says so."""
    child.check("""
        import _interpreters
        number = _interpreters.create()
        failed = _interpreters.exec(number, "import roving")
        assert failed is not None and failed.type.__name__ == "ImportError", failed
        _interpreters.destroy(number)
        print("ok", flush=True)
    """)
