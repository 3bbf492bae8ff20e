"""How plain threads wait: at no cost, and interruptible; and what is a deadlock and what is not."""

import child
import pytest


def test_run_waits_for_all_but_daemons() -> None:
    """However busy those are, and in a child of a fork too."""
    child.check(
        """
        import os
        ended = []
        def late(number):
            roving.sleep(0.02)
            ended.append(number)
        def main():
            for number in range(50):
                roving.spawn(late, number)
            # One that waits, and one that keeps a worker busy for ever.
            roving.options(daemon=True).spawn(roving.Event().wait)
            def busy():
                while True:
                    roving.yield_now()
            roving.options(daemon=True).spawn(busy)
            return "result"
        assert roving.run(main) == "result"
        assert len(ended) == 50, ended
        assert roving.stats()["daemons"] == 2
        # A child of a fork has daemons of its own.
        child = os.fork()
        if child == 0:
            ended.clear()
            roving.run(roving.spawn, late, 1)
            os._exit(0 if ended == [1] and roving.stats()["daemons"] == 0 else 1)
        assert os.waitpid(child, 0)[1] == 0
        print("ok")
        """
    )


def test_a_daemon_hides_nobody_from_run() -> None:
    """While a fiber spawns and ends daemons it is waited for, whenever one looks."""
    child.check(
        """
        daemon = roving.options(daemon=True)
        ended = []
        def storm():
            for _ in range(20):
                daemon.spawn(roving.yield_now)
                roving.yield_now()
            ended.append(1)
        def main():
            roving.spawn(storm)
        for turn in range(300):
            roving.run(main)
            assert len(ended) == turn + 1, (turn, len(ended))
        print("ok")
        """,
        workers=2,
    )


def test_ctrl_c_cancels_main_and_lets_it_clean_up() -> None:
    """Run waits until all have ended; a second one ends run."""
    child.check(
        """
        import os, signal
        ended = []
        started = roving.Event()
        def helper():
            started.set()
            try:
                roving.sleep(60)
            except roving.Cancelled:
                roving.sleep(0.05)
                ended.append("helper")
                raise
        def main():
            with roving.scope() as scope:
                scope.spawn(helper)
                started.wait()
                try:
                    roving.blocking(os.kill, os.getpid(), signal.SIGINT)
                    roving.sleep(60)
                finally:
                    ended.append("main")
        began = time.monotonic()
        try:
            roving.run(main)
        except KeyboardInterrupt:
            assert ended == ["main", "helper"], ended
        else:
            raise AssertionError("not interrupted")
        assert time.monotonic() - began < 20
        # Somebody who does not hear of it: the second one is for run itself.
        stubborn = roving.Event()
        def other():
            roving.spawn(stubborn.wait, 60)
            os.kill(os.getpid(), signal.SIGINT)
            kill = lambda: os.kill(os.getpid(), signal.SIGINT)
            roving.options(daemon=True).spawn(lambda: (roving.sleep(0.2), kill()))
            roving.sleep(60)
        try:
            roving.run(other)
        except KeyboardInterrupt:
            assert time.monotonic() - began < 20
        else:
            raise AssertionError("not interrupted")
        stubborn.set()
        print("ok")
        """
    )


def test_a_block_around_run_ends_it() -> None:
    """And main may clean up."""
    child.check(
        """
        ended = []
        def main():
            try:
                roving.sleep(60)
            finally:
                roving.sleep(0.05)
                ended.append(1)
        try:
            with roving.timeout(0.1):
                roving.run(main)
        except TimeoutError:
            assert ended == [1], ended
            print("ok")
        """
    )


def test_a_thread_that_waits_uses_no_cpu_and_is_interrupted_at_once() -> None:
    """Without looking for signals again and again."""
    child.check(
        """
        import os, resource, signal
        def busy():
            usage = resource.getrusage(resource.RUSAGE_SELF)
            return usage.ru_nvcsw
        fiber = roving.spawn(roving.sleep, 3)
        roving.spawn(int).join()
        time.sleep(0.1)
        before = busy()
        threads = [threading.Thread(target=wait) for wait in (fiber.join, lambda: roving.Event().wait(2.5))]
        for thread in threads:
            thread.start()
        fiber.join()
        # Looks at 50 ms, and then ever more seldom: slices of 50 ms were 60 in the join alone.
        assert busy() - before < 50, busy() - before
        for thread in threads:
            thread.join()
        sleeper = roving.options(daemon=True).spawn(roving.sleep, 60)
        for wait in (sleeper.join, roving.Event().wait, lambda: roving.run(roving.sleep, 60)):
            times = []
            for _ in range(5):
                at = []
                def kick():
                    time.sleep(0.05)
                    at.append(time.perf_counter())
                    os.kill(os.getpid(), signal.SIGINT)
                thread = threading.Thread(target=kick)
                try:
                    thread.start()
                    wait()
                except KeyboardInterrupt:
                    times.append(time.perf_counter() - at[0])
                thread.join()
            # Left to the look around it would be a second. The best of five: others may want the processors.
            assert min(times) < 0.5, times
        print("ok")
        """
    )


def test_a_scope_in_another_thread_is_cancelled_at_once() -> None:
    """A join there hears of it."""
    child.check(
        """
        opened = []
        began = threading.Event()
        seconds = []
        def body():
            with roving.scope() as scope:
                opened.append(scope)
                began.set()
                roving.spawn(roving.sleep, 30).join()
            seconds.append(time.monotonic())
        # One of them: others may want the processors.
        for _ in range(50):
            if seconds and seconds[-1] < 0.04:
                break
            began.clear()
            thread = threading.Thread(target=body)
            thread.start()
            began.wait()
            time.sleep(0.02)
            at = time.monotonic()
            opened.pop().cancel()
            thread.join(20)
            seconds[-1] -= at
        assert seconds[-1] < 0.04, seconds
        print("ok")
        """
    )


# Where a deadlock is found: `wait` is called with everybody else stuck for ever.
DEADLOCKS = {
    "join": "roving.spawn(roving.Event().wait).join()",
    "result of a fiber that joins": "roving.spawn(roving.spawn(roving.Channel().recv).join).result()",
    "run": "roving.run(roving.Lock().acquire) and roving.run(roving.Channel().recv)",
    "run, and not main": "roving.run(lambda: roving.spawn(roving.Channel().recv) and None)",
    "two fibers that join one another": (
        "(lambda box, full: (box.append(roving.spawn(lambda: (full.wait(), box[1].join()))),"
        " box.append(roving.spawn(lambda: box[0].join())), full.set(), box[1].join()))([], roving.Event())"
    ),
    "a daemon waits too": (
        "roving.options(daemon=True).spawn(roving.Event().wait); roving.spawn(roving.Event().wait).join()"
    ),
    "a thread waits too": (
        "threading.Thread(target=roving.Event().wait, daemon=True).start();"
        " roving.spawn(roving.Event().wait).join()"
    ),
    "a scope of a plain thread": "roving_scope()",
}


@pytest.mark.parametrize("what", DEADLOCKS)
def test_a_deadlock_is_found(what: str) -> None:
    """In every call that waits for fibers."""
    child.check(
        f"""
        def roving_scope():
            try:
                with roving.scope() as scope:
                    scope.spawn(roving.Event().wait)
            except BaseExceptionGroup as group:
                raise group.exceptions[0] from None
        try:
            {DEADLOCKS[what]}
        except roving.Deadlock as error:
            assert "wait for one another" in str(error), error
            print("ok")
        """,
        timeout=30,
    )


# Where there is none: somebody may still wake `event`, and does.
NO_DEADLOCKS = {
    "a timer": "roving.spawn(lambda: (roving.sleep(1), event.set()))",
    "a deadline": "roving.spawn(lambda: (roving.Event().wait(1), event.set()))",
    "a block's deadline": (
        "roving.spawn(lambda: (exec('with roving.move_on_after(1): roving.Event().wait()'), event.set()))"
    ),
    "a descriptor": (
        "ends = os.pipe(); roving.spawn(lambda: (roving.wait_readable(ends[0]), event.set()));"
        " subprocess.Popen(['sh', '-c', f'sleep 1; echo >&{ends[1]}'], pass_fds=[ends[1]])"
    ),
    "a call on the pool": "roving.spawn(lambda: (roving.blocking(time.sleep, 1), event.set()))",
    "a thread": "threading.Timer(1, event.set).start()",
    "a thread in a wait that ends": (
        "threading.Thread(target=lambda: (roving.Event().wait(1), event.set())).start()"
    ),
    "a fiber that computes": "roving.spawn(lambda: (spin(1), event.set()))",
    "a signal's handler": (
        "signal.signal(signal.SIGALRM, lambda *_: event.set()); signal.setitimer(signal.ITIMER_REAL, 1)"
    ),
    "one of the standard library's locks": (
        "lock = threading.Lock(); lock.acquire(); roving.spawn(lambda: (lock.acquire(), event.set()));"
        " subprocess.Popen(['sh', '-c', f'sleep 1; kill -USR1 {os.getpid()}'])"
        " if signal.signal(signal.SIGUSR1, lambda *_: lock.release()) is not None else None"
    ),
}


@pytest.mark.parametrize("what", NO_DEADLOCKS)
def test_it_is_no_deadlock_while_there_is(what: str) -> None:
    """Somebody who may still wake somebody."""
    child.check(
        f"""
        import os, signal, subprocess
        def spin(seconds):
            end = time.monotonic() + seconds
            while time.monotonic() < end:
                pass
        event = roving.Event()
        {NO_DEADLOCKS[what]}
        roving.spawn(event.wait).join()
        print("ok")
        """,
        timeout=30,
    )
