"""queue.SimpleQueue in fibers, and the other queues: in child processes, as the patch is the process's."""

import child

# As far in as the programs below.
PATCH = """
        import queue
        import roving.patch
        roving.patch.all()
"""


def test_a_fiber_that_gets_parks() -> None:
    """One worker: nobody could put if the getter held it. Items in order, first come first served."""
    child.check(
        PATCH
        + """
        q, got = queue.SimpleQueue(), []
        getters = [roving.spawn(lambda: got.append(q.get())) for _ in range(3)]
        def put():
            for item in range(3):
                q.put(item)
            q.put_nowait(item=3)
            q.put(4, block=False, timeout=1)
        roving.spawn(put).join()
        for getter in getters:
            getter.join()
        assert sorted(got) == [0, 1, 2] and q.qsize() == 2 and not q.empty()
        assert roving.spawn(q.get_nowait).join() == 3 and roving.spawn(q.get, False).join() == 4
        assert q.empty()
        print("ok")
        """,
        workers=1,
    )


def test_what_exists_already() -> None:
    """Queues, bound methods and subclasses made before the patch."""
    child.check(
        """
        from queue import SimpleQueue
        class Mine(SimpleQueue):
            pass
        class Over(SimpleQueue):
            def put(self, item):
                super().put((item, item))
        first, mine, over = SimpleQueue(), Mine(), Over()
        get, put = first.get, first.put
        import roving.patch
        roving.patch.all()
        for take, give in ((get, put), (mine.get, mine.put), (over.get, over.put)):
            fiber = roving.spawn(take)
            assert not fiber.wait(0.01)
            give(1)
            assert fiber.join() in (1, (1, 1))
        print("ok")
        """,
        workers=1,
    )


def test_timeouts_and_bad_calls() -> None:
    """In a fiber as on a thread."""
    child.check(
        PATCH
        + """
        def refuses(error, *args, **kwargs):
            q = queue.SimpleQueue()
            try:
                q.get(*args, **kwargs)
            except error as raised:
                return type(raised), str(raised)
            raise SystemExit(f"{args} {kwargs} was taken")
        def calls():
            begun = time.monotonic()
            found = [
                refuses(queue.Empty, True, 0.05),
                refuses(queue.Empty, timeout=0.05),
                refuses(queue.Empty, False, -1),
                refuses(queue.Empty, block=0),
                refuses(queue.Empty, timeout=0),
                refuses(ValueError, True, -1),
                refuses(ValueError, timeout=float("nan")),
                refuses(OverflowError, timeout=1e300),
                refuses(TypeError, True, "x"),
                refuses(TypeError, 1, 2, 3),
                refuses(TypeError, 1, block=True),
                refuses(TypeError, wait=True),
            ]
            took = time.monotonic() - begun
            assert 0.1 <= took < 5, took
            return found
        in_fiber, on_thread = roving.spawn(calls).join(), calls()
        assert in_fiber == on_thread, (in_fiber, on_thread)
        # A timeout that does not fire.
        q = queue.SimpleQueue()
        fiber = roving.spawn(q.get, timeout=20)
        q.put("item")
        assert fiber.join() == "item"
        print("ok")
        """
    )


def test_fibers_and_threads_take_turns() -> None:
    """With both waiting, neither kind is starved; nothing is lost or doubled; nobody waits in vain."""
    child.check(
        PATCH
        + """
        q, taken, done = queue.SimpleQueue(), {"fiber": [], "thread": []}, object()
        def consume(kind):
            while (item := q.get()) is not done:
                taken[kind].append(item)
        kinds = {"fiber": threading.Thread, "thread": roving.patch.NativeThread}
        consumers = [make(target=consume, args=(kind,)) for kind, make in kinds.items() for _ in range(4)]
        def produce(base):
            for n in range(2000):
                q.put(base + n)
                if n % 50 == 0:
                    time.sleep(0.001)
        makes = list(kinds.values()) * 2
        producers = [make(target=produce, args=(i * 10_000,)) for i, make in enumerate(makes)]
        for thread in consumers + producers:
            thread.start()
        for thread in producers:
            thread.join()
        for _ in consumers:
            q.put(done)
        for thread in consumers:
            thread.join(30)
            assert not thread.is_alive(), "a consumer waits in vain"
        everything = taken["fiber"] + taken["thread"]
        assert len(everything) == 8000 == len(set(everything)) and q.empty()
        assert min(len(items) for items in taken.values()) > 100, {k: len(v) for k, v in taken.items()}
        print("ok")
        """
    )


def test_cancelled_getters_lose_nothing() -> None:
    """Getters are cancelled and time out while items come: each item is got once."""
    child.check(
        PATCH
        + """
        import random
        q, got = queue.SimpleQueue(), []
        random.seed(4)
        def getter():
            try:
                while True:
                    try:
                        got.append(q.get(timeout=0.002))
                    except queue.Empty:
                        pass
            except roving.Cancelled:
                raise
        fibers = [roving.spawn(getter) for _ in range(8)]
        put = 0
        for round in range(300):
            for _ in range(random.randrange(4)):
                q.put(put)
                put += 1
            index = random.randrange(8)
            fibers[index].cancel()
            fibers[index].wait()
            fibers[index] = roving.spawn(getter)
            roving.sleep(random.random() / 500)
        deadline = time.monotonic() + 20
        while len(got) < put and time.monotonic() < deadline:
            roving.sleep(0.001)
        for fiber in fibers:
            fiber.cancel()
        for fiber in fibers:
            fiber.wait()
        assert sorted(got) == list(range(put)) and put > 300, (len(got), put)
        waiting = roving.spawn(queue.SimpleQueue().get)
        assert not waiting.wait(0.01)
        waiting.cancel()
        assert waiting.wait(5) and waiting.cancelled()
        print("ok")
        """
    )


def test_switched_off_while_somebody_waits() -> None:
    """He is woken all the same."""
    child.check(
        PATCH
        + """
        q = queue.SimpleQueue()
        fiber = roving.spawn(q.get)
        assert not fiber.wait(0.01)
        roving.patch.undo()
        assert roving.patch.report()["queue"] == ()
        q.put(1)
        assert fiber.join() == 1
        print("ok")
        """
    )


def test_queue_family_with_shutdown() -> None:
    """Queue, LifoQueue and PriorityQueue stand on locks: sizes, join, task_done, shutdown, cancellation."""
    child.check(
        PATCH
        + """
        for make in (queue.Queue, queue.LifoQueue, queue.PriorityQueue):
            q, got = make(3), []
            kinds = [threading.Thread, roving.patch.NativeThread]
            def consume():
                try:
                    while True:
                        got.append(q.get())
                        q.task_done()
                except queue.ShutDown:
                    pass
            def produce(base):
                for n in range(300):
                    q.put(base + n)
            consumers = [kinds[i % 2](target=consume) for i in range(4)]
            producers = [kinds[i % 2](target=produce, args=(1000 * i,)) for i in range(4)]
            for thread in consumers + producers:
                thread.start()
            for thread in producers:
                thread.join()
            q.join()
            if hasattr(q, "shutdown"):
                q.shutdown()
                for thread in consumers:
                    thread.join(20)
                    assert not thread.is_alive()
            assert len(set(got)) == 1200 == len(got)
        full = queue.Queue(1)
        full.put(0)
        blocked = roving.spawn(full.put, 1)
        late = roving.spawn(full.put, 2, timeout=0.01)
        assert isinstance(late.exception(), queue.Full)
        blocked.cancel()
        assert blocked.wait(10) and blocked.cancelled()
        assert full.get() == 0 and full.empty() and not full.not_full._waiters
        print("ok")
        """
        if hasattr(__import__("queue"), "ShutDown")
        else "print('ok')"
    )


def test_puts_from_signal_handlers_and_destructors() -> None:
    """put() is reentrant, fibers waiting or not."""
    child.check(
        PATCH
        + """
        import os, signal
        q = queue.SimpleQueue()
        signal.signal(signal.SIGUSR1, lambda *_: q.put("signal"))
        class Thing:
            def __del__(self):
                q.put("gone")
        fibers = [roving.spawn(q.get) for _ in range(200)]
        for _ in range(100):
            os.kill(os.getpid(), signal.SIGUSR1)
            cycle = Thing()
            cycle.self = cycle
            del cycle
            if _ % 10 == 0:
                gc.collect()
        gc.collect()
        results = [fiber.join(30) for fiber in fibers]
        assert sorted(set(results)) == ["gone", "signal"] and results.count("gone") == 100, results
        print("ok")
        """
    )
