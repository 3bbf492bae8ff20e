"""Fibers that are threads, and plain threads, on the same locks and executors; forks. In child processes."""

import child

# As far in as the programs below.
PATCH = """
        import roving.patch
        roving.patch.all()
"""


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
