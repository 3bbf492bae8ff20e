"""The interpreter exits whatever its fibers do: no crash, no hang, and not for long."""

import textwrap
import time

import child
import pytest

PROGRAMS = {
    "nothing spawned": "",
    "all done": "roving.spawn(int).join()",
    "parked": """
        fibers = [roving.spawn(roving.sleep, 1000) for _ in range(10_000)]
        while roving.stats()["started"] < 10_000:
            roving.yield_now()
    """,
    "parked in nested frames": """
        def down(depth, local):
            if depth:
                return down(depth - 1, lambda: local)
            roving.sleep(1000)
        fibers = [roving.spawn(down, 20, object()) for _ in range(1000)]
        while roving.stats()["started"] < 1000:
            roving.yield_now()
    """,
    "not started": "fibers = [roving.spawn(time.sleep, 0.0001) for _ in range(100_000)]",
    "busy in Python": """
        def spin():
            n = 0
            while True:
                n += 1
        fibers = [roving.spawn(spin) for _ in range(4)]
        while roving.stats()["started"] < roving.stats()["workers"]:
            roving.yield_now()
    """,
    "busy yielding": """
        def spin():
            while True:
                roving.yield_now()
        fibers = [roving.spawn(spin) for _ in range(100)]
        while roving.stats()["started"] < 100:
            roving.yield_now()
    """,
    "in a call that blocks": """
        started = []
        def block():
            started.append(True)
            time.sleep(1000)
        roving.spawn(int).join()
        # Counted before spares stand in for those that block.
        workers = roving.stats()["workers"]
        fibers = [roving.spawn(block) for _ in range(workers)]
        while len(started) < workers:
            time.sleep(0.001)
    """,
    "refusing to be cancelled": """
        def stubborn():
            while True:
                try:
                    roving.sleep(1000)
                except BaseException:
                    pass
        fibers = [roving.spawn(stubborn) for _ in range(100)]
        while roving.stats()["started"] < 100:
            roving.yield_now()
    """,
    "busy and refusing": """
        def stubborn():
            while True:
                try:
                    while True:
                        pass
                except BaseException:
                    pass
        fibers = [roving.spawn(stubborn) for _ in range(4)]
        while roving.stats()["started"] < roving.stats()["workers"]:
            roving.yield_now()
    """,
    "spawning from atexit": """
        import atexit
        roving.spawn(int).join()
        atexit.register(lambda: roving.spawn(int).join())
    """,
    "joining in a thread": """
        fiber = roving.spawn(roving.sleep, 1000)
        def join():
            try:
                fiber.join()
            except BaseException:
                pass
        threading.Thread(target=join, daemon=True).start()
        time.sleep(0.05)
    """,
    "sys.exit in a fiber": """
        try:
            roving.spawn(sys.exit, 5).join()
        except SystemExit:
            pass
    """,
}


@pytest.mark.parametrize("program", PROGRAMS, ids=str)
def test_exit(program: str) -> None:
    """Within seconds, and with nothing but success."""
    start = time.monotonic()
    child.check(textwrap.dedent(PROGRAMS[program]) + "\nprint('ok', flush=True)\n", timeout=30)
    assert time.monotonic() - start < 15


def test_clean_up_runs() -> None:
    """A parked fiber is told, and may wait in its clean-up."""
    output = child.check("""
        def work():
            try:
                roving.sleep(1000)
            finally:
                roving.sleep(0.01)
                print("cleaned up", flush=True)
        fiber = roving.spawn(work)
        while not roving.stats()["sleeping"] == roving.stats()["workers"]:
            roving.yield_now()
        import atexit
        atexit._run_exitfuncs()
        print("ok", flush=True)
    """)
    assert "cleaned up" in output


def test_spawning_too_late() -> None:
    """Says why it cannot."""
    child.check("""
        import atexit
        roving.spawn(int).join()
        atexit._run_exitfuncs()
        try:
            roving.spawn(int)
        except RuntimeError as error:
            assert "cannot spawn" in str(error), error
            print("ok")
    """)


def test_a_module_imported_twice() -> None:
    """Reloading changes nothing, and taking it out of sys.modules neither."""
    child.check("""
        import importlib
        assert roving.spawn(int).join() == 0
        assert importlib.reload(roving).spawn(int).join() == 0
        print("ok")
    """)


def test_ctrl_c_reaches_the_main_thread_in_join() -> None:
    """And leaves the fiber alone."""
    child.check("""
        import os, signal
        fiber = roving.spawn(roving.sleep, 1000)
        threading.Timer(0.2, os.kill, (os.getpid(), signal.SIGINT)).start()
        start = time.monotonic()
        try:
            fiber.join()
        except KeyboardInterrupt:
            assert not fiber.done()
            assert time.monotonic() - start < 5
            print("ok", flush=True)
    """)


@pytest.mark.skipif(not child.FREE_THREADED, reason="there is one worker, whatever is asked for")
def test_run() -> None:
    """Waits for all fibers, and gives the first one's result."""
    child.check("""
        done = []
        def late(n):
            roving.sleep(0.02)
            done.append(n)
        def main(n):
            for i in range(n):
                roving.spawn(late, i)
            return "result"
        assert roving.run(main, 10, workers=2) == "result"
        assert sorted(done) == list(range(10))
        try:
            roving.run(main, 0, workers=3)
        except RuntimeError as error:
            assert "2 workers already" in str(error)
        assert isinstance(roving.spawn(roving.run, int).exception(), RuntimeError)
        print("ok")
    """)


def test_a_call_on_the_pool_comes_back_while_the_interpreter_is_finalized() -> None:
    """Its thread has nowhere to go, and stays; before 3.14 it is unwound."""
    child.check(
        """
        import os
        reads, writes = os.pipe()
        class Late:
            def __del__(self, write=os.write, fd=writes, sleep=time.sleep):
                # The module is being cleared: threads that want the interpreter are ended from here on.
                write(fd, b"xxxx")
                sleep(0.3)
                write(1, b"ok")
        late = Late()
        for _ in range(4):
            roving.spawn(roving.blocking, os.read, reads, 1)
        while roving.stats()["blocking_threads"] < 4:
            roving.sleep(0.001)
        roving.sleep(0.01)
        """
    )
