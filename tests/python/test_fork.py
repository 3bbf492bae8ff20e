"""fork with a running runtime, in plain threads and in fibers; multiprocessing and subprocess."""

import os

import child
import pytest

COMMON = """
    import os, subprocess, warnings
    warnings.simplefilter("ignore")
    parked = [roving.spawn(roving.sleep, 1000) for _ in range(100)]
    held = threading.Lock()
    held.acquire()
    waiting = [roving.spawn(held.acquire) for _ in range(5)]
    while sum(roving.stats()["live"]) < 105:
        time.sleep(0.001)
    def status(pid):
        return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
"""


def test_in_a_plain_thread() -> None:
    """The child has a runtime of its own, at its first spawn; the parent goes on with its own."""
    child.check(
        COMMON
        + """
    pid = os.fork()
    if pid == 0:
        assert roving.stats() == {}
        lock, count = threading.Lock(), 0
        def work():
            global count
            for _ in range(50):
                with lock:
                    seen = count
                    roving.yield_now()
                    count = seen + 1
        fibers = [roving.spawn(work) for _ in range(20)]
        threads = [threading.Thread(target=work) for _ in range(2)]
        for thread in threads:
            thread.start()
        for thing in fibers + threads:
            thing.join(20)
        assert count == 22 * 50
        gc.collect()
        for fiber in (parked[0], waiting[0]):
            try:
                fiber.join()
            except RuntimeError as error:
                assert "forked" in str(error), error
            else:
                raise AssertionError("joined what is not there")
        # What the dead wait for is free once it is released.
        held.release()
        assert held.acquire(timeout=1)
        assert roving.spawn(held.acquire, timeout=0.01).join() is False
        grandchild = os.fork()
        if grandchild == 0:
            assert roving.spawn(pow, 2, 3).join() == 8
            sys.exit(3)
        assert status(grandchild) == 3
        sys.exit(7)
    assert status(pid) == 7
    held.release()
    while not any(fiber.done() for fiber in waiting):
        time.sleep(0.001)
    assert roving.spawn(pow, 2, 3).join() == 8
    print("ok")
    """
    )


ENDS = {
    "return 1": 0,
    "sys.exit()": 0,
    "sys.exit(5)": 5,
    "sys.exit('a text')": 1,
    "raise ValueError": 1,
    "os._exit(6)": 6,
    "os.execv(sys.executable, [sys.executable, '-c', 'import sys; sys.exit(9)'])": 9,
}


@pytest.mark.parametrize(("end", "code"), ENDS.items(), ids=list(ENDS))
def test_in_a_fiber(end: str, code: int) -> None:
    """The child may finish or exec, and nothing of the scheduler's runs on."""
    child.check(
        COMMON
        + f"""
    rlock = threading.RLock()
    def fork():
        me = threading.get_ident()
        rlock.acquire()
        pid = os.fork()
        if pid == 0:
            spawn, sleep = lambda: roving.spawn(int), lambda: roving.sleep(0)
            for what in (spawn, sleep, roving.yield_now, parked[0].join):
                try:
                    what()
                except RuntimeError as error:
                    assert "forked" in str(error), error
                else:
                    os._exit(99)
            assert threading.get_ident() == me and threading.current_thread() is threading.main_thread()
            assert rlock._is_owned()
            rlock.release()
            lock = threading.Lock()
            with lock:
                start = time.monotonic()
                assert not lock.acquire(timeout=0.02) and time.monotonic() - start >= 0.02
            thread = threading.Thread(target=gc.collect)
            thread.start()
            thread.join()
            import colorsys
            {end}
        rlock.release()
        roving.yield_now()
        return status(pid)
    neighbours = [roving.spawn(roving.yield_now) for _ in range(50)]
    forks = [roving.spawn(fork) for _ in range(3)]
    assert [fiber.join(30) for fiber in forks] == [{code}] * 3
    held.release()
    print("ok")
    """
    )


def test_subprocess() -> None:
    """In fibers, many at once, with and without a function to call in the child."""
    child.check(
        COMMON
        + """
    def run(n):
        function = (lambda: None) if n % 2 else None
        command = [sys.executable, "-S", "-c", f"print({n})"]
        done = subprocess.run(command, capture_output=True, preexec_fn=function)
        return int(done.stdout)
    fibers = [roving.spawn(run, n) for n in range(8)]
    assert [fiber.join(50) for fiber in fibers] == list(range(8))
    print("ok")
    """
    )


@pytest.mark.parametrize("method", ["fork", "spawn"])
def test_multiprocessing(method: str, tmp_path: os.PathLike[str]) -> None:
    """From a plain thread and from a fiber; children of a plain thread may use fibers."""
    program = os.path.join(tmp_path, "program.py")
    with open(program, "w", encoding="utf-8") as file:
        file.write(f"""
import multiprocessing, warnings
import roving

warnings.simplefilter("ignore")

def work(queue, fibers):
    queue.put(roving.spawn(pow, 2, 5).join() if fibers else 32)

def go(fibers):
    context = multiprocessing.get_context("{method}")
    queue = context.SimpleQueue()
    process = context.Process(target=work, args=(queue, fibers))
    process.start()
    result = queue.get()
    process.join()
    return result, process.exitcode

if __name__ == "__main__":
    assert roving.spawn(int).join() == 0
    assert go(True) == (32, 0)
    assert roving.spawn(go, {method == "spawn"}).join() == (32, 0)
    print("ok")
""")
    child.check(f"import runpy; sys.argv = [{program!r}]; runpy.run_path({program!r}, run_name='__main__')")


def test_while_others_import_and_lock() -> None:
    """Forks one after the other beside fibers that import, lock and park: all children are well."""
    child.check(
        COMMON
        + """
    stop, lock = False, threading.RLock()
    def busy():
        import _imp, importlib
        while not stop:
            importlib.import_module("json.decoder")
            _imp.acquire_lock()
            _imp.release_lock()
            with lock:
                roving.yield_now()
    fibers = [roving.spawn(busy) for _ in range(10)]
    for n in range(15):
        pid = os.fork()
        if pid == 0:
            os._exit(roving.spawn(pow, 2, n).join() != 2**n)
        assert status(pid) == 0
    stop = True
    for fiber in fibers:
        fiber.join(30)
    print("ok")
    """,
        timeout=90,
    )


def test_nothing_to_do_before_the_first_spawn() -> None:
    """A fork without a runtime is a fork."""
    child.check("""
        import os
        pid = os.fork()
        if pid == 0:
            os._exit(roving.spawn(int).join())
        assert os.waitpid(pid, 0)[1] == 0
        assert roving.spawn(int).join() == 0
        print("ok")
    """)


def test_what_the_parent_counted() -> None:
    """Is not the child's: `run` waits for all fibers there, and those that sleep are no deadlock."""
    child.check("""
        import os
        event = threading.Event()
        own = roving.Event()
        parents = [roving.options(daemon=True).spawn(event.wait) for _ in range(2)]
        parents += [roving.spawn(own.wait) for _ in range(2)]
        while roving.stats()["started"] < 4:
            roving.yield_now()
        roving.sleep(0.05)
        waits = threading.Thread(target=roving.spawn(event.wait).join, daemon=True)
        waits.start()
        number = os.fork()
        if number == 0:
            try:
                assert roving.stats() == {}
                done = []
                def slow():
                    roving.sleep(0.1)
                    done.append(1)
                roving.run(lambda: [roving.spawn(slow) for _ in range(2)] and None)
                assert done == [1, 1], done
                assert roving.stats()["daemons"] == 0
                # As many as waited in the parent, and for longer than a look for a deadlock takes.
                fibers = [roving.spawn(roving.sleep, 0.5) for _ in range(2)]
                for fiber in fibers:
                    fiber.join()
                # Those that do wait for one another are one.
                stuck = roving.Event()
                try:
                    roving.spawn(stuck.wait).join()
                except roving.Deadlock:
                    os._exit(0)
                os._exit(3)
            except BaseException as error:
                print(repr(error), file=sys.stderr, flush=True)
                os._exit(2)
        assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
        own.set()
        event.set()
        print("ok")
    """)
