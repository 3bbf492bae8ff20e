"""Exit, signals and what looks at all threads, while fibers wait for locks."""

import textwrap
import time
from pathlib import Path

import child
import pytest

EXITS = {
    "waiting for locks": """
        lock, rlock = threading.Lock(), threading.RLock()
        event, condition = threading.Event(), threading.Condition()
        lock.acquire(); rlock.acquire()
        def on_condition():
            with condition:
                condition.wait()
        waits = [lock.acquire, rlock.acquire, event.wait, on_condition, lambda: lock.acquire(timeout=1000)]
        fibers = [roving.spawn(wait) for wait in waits * 100]
        while roving.stats()["started"] < 500:
            roving.yield_now()
    """,
    "holding locks that threads wait for": """
        locks = [threading.Lock() for _ in range(3)]
        def hold(lock):
            with lock:
                roving.sleep(1000)
        fibers = [roving.spawn(hold, lock) for lock in locks]
        while not all(lock.locked() for lock in locks):
            roving.yield_now()
        for lock in locks:
            threading.Thread(target=lock.acquire, daemon=True).start()
        time.sleep(0.02)
    """,
    "held by the main thread for ever": """
        lock = threading.Lock()
        lock.acquire()
        def stubborn():
            while True:
                try:
                    with lock:
                        pass
                except BaseException:
                    pass
        fibers = [roving.spawn(stubborn) for _ in range(50)]
        while roving.stats()["started"] < 50:
            roving.yield_now()
    """,
    "importing": """
        import os, tempfile
        folder = tempfile.mkdtemp()
        sys.path.insert(0, folder)
        with open(os.path.join(folder, "parks_for_ever.py"), "w") as file:
            file.write("import roving; roving.sleep(1000)")
        fibers = [roving.spawn(__import__, "parks_for_ever") for _ in range(20)]
        while roving.stats()["started"] < 20:
            roving.yield_now()
        time.sleep(0.02)
    """,
    "logging and printing": """
        import logging
        logging.basicConfig(stream=open("/dev/null", "w"), level=logging.INFO)
        def work():
            while True:
                logging.info("text")
                print("", end="")
                roving.yield_now()
        fibers = [roving.spawn(work) for _ in range(50)]
        thread = threading.Thread(target=work, daemon=True)
        thread.start()
        time.sleep(0.05)
    """,
    "daemon threads that join": """
        fibers = [roving.spawn(roving.sleep, 1000) for _ in range(3)]
        def join(fiber):
            try:
                fiber.join()
            except BaseException:
                pass
        for fiber in fibers:
            threading.Thread(target=join, args=(fiber,), daemon=True).start()
        time.sleep(0.02)
    """,
    "a thread started in a fiber": """
        def start():
            thread = threading.Thread(target=time.sleep, args=(0.05,))
            thread.start()
            return thread
        roving.spawn(start).join()
    """,
}


@pytest.mark.parametrize("program", EXITS, ids=str)
def test_exit(program: str) -> None:
    """Within seconds, and with nothing but success."""
    start = time.monotonic()
    child.check(textwrap.dedent(EXITS[program]) + "\nprint('ok', flush=True)\n", timeout=30)
    assert time.monotonic() - start < 15


def test_ctrl_c_while_the_main_thread_waits_for_a_lock() -> None:
    """That a fiber holds: it is interrupted, as ever, and the fiber goes on."""
    child.check(
        child.INTERRUPT
        + textwrap.dedent("""
        lock, go = threading.Lock(), threading.Event()
        def hold():
            with lock:
                go.wait()
        fiber = roving.spawn(hold)
        while not lock.locked():
            time.sleep(0.001)
        interrupt_in(sys._getframe().f_lineno + 2)
        try:
            lock.acquire()
        except KeyboardInterrupt:
            go.set()
            fiber.join(10)
            assert lock.acquire(timeout=1)
            print("ok", flush=True)
        """)
    )


def test_handlers_run_in_the_main_thread() -> None:
    """Whatever runs in fibers meanwhile."""
    child.check("""
        import os, signal
        seen = []
        signal.signal(signal.SIGUSR1, lambda *_: seen.append(threading.current_thread()))
        def spin():
            os.kill(os.getpid(), signal.SIGUSR1)
            end = time.monotonic() + 10
            while not seen and time.monotonic() < end:
                roving.yield_now()
        roving.spawn(spin).join()
        assert seen == [threading.main_thread()], seen
        print("ok")
    """)


def test_the_frames_of_all_threads() -> None:
    """The fiber that asks is there under its own ident; parked ones do no harm to who walks the stacks."""
    child.check("""
        import traceback
        lock = threading.Lock()
        lock.acquire()
        def down(depth):
            return down(depth - 1) if depth else lock.acquire()
        fibers = [roving.spawn(down, 10) for _ in range(200)]
        stop = False
        def look():
            while not stop:
                for ident, frame in sys._current_frames().items():
                    assert ident != 0
                    traceback.extract_stack(frame)
                faulthandler.dump_traceback(sink, all_threads=True)
        sink = open("/dev/null", "w")
        thread = threading.Thread(target=look)
        thread.start()
        def here():
            frame = sys._current_frames()[threading.get_ident()]
            return frame.f_code.co_name
        assert roving.spawn(here).join() == "here"
        assert "here" not in {frame.f_code.co_name for frame in sys._current_frames().values()}
        for n in range(200):
            lock.release()
            while sum(fiber.done() for fiber in fibers) <= n:
                time.sleep(0.0002)
        for fiber in fibers:
            fiber.join(20)
        roving.spawn(faulthandler.dump_traceback, sink).join()
        stop = True
        thread.join()
        print("ok")
    """)


def test_a_subinterpreter() -> None:
    """Cannot import roving, is told so, and locks there work as ever."""
    child.check("""
        import _interpreters
        roving.spawn(int).join()
        interpreter = _interpreters.create()
        error = _interpreters.exec(interpreter, "import roving._roving")
        assert error is not None and error.type.__name__ == "ImportError", error
        error = _interpreters.exec(interpreter, '''if True:
            import threading
            lock = threading.RLock()
            with lock, lock:
                thread = threading.Thread(target=lock.acquire, kwargs={"timeout": 0.01})
                thread.start()
                thread.join()
        ''')
        assert error is None, error
        _interpreters.destroy(interpreter)
        print("ok")
    """)


def test_what_a_program_leaves_behind() -> None:
    """Does not hold up the test that ran it, though it has its output, and is ended."""
    start = time.monotonic()
    output = child.check("""
        import os
        number = os.fork()
        if number == 0:
            time.sleep(1000)
        print(number, "ok", flush=True)
    """)
    assert time.monotonic() - start < 30
    state = Path("/proc", output.split()[0], "stat")
    until = time.monotonic() + 10
    # Killed it may have to be reaped yet.
    while state.exists() and state.read_text().rsplit(")", 1)[1].split()[0] != "Z":
        assert time.monotonic() < until, "it lives"
        time.sleep(0.001)
