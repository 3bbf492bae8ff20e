"""Locks of all sorts under thousands of fibers, some threads, cancellations, timeouts and a collector.

In child processes, for a second or so each; ROVING_TORTURE_SECONDS and ROVING_SEED as in test_torture.py.
"""

import child
import pytest
from test_torture import LENGTH_AND_SEED, SECONDS

COMMON = (
    LENGTH_AND_SEED
    + """
    import queue, logging, collections
    stop = False
    def collect():
        while not stop:
            gc.collect()
            time.sleep(0.001)
    collector = threading.Thread(target=collect, daemon=True)
    collector.start()
    def finish(things, seconds=60):
        global stop
        end = time.monotonic() + seconds
        for thing in things:
            if isinstance(thing, roving.Fiber):
                assert thing.wait(max(0.1, end - time.monotonic())), thing
                if not thing.cancelled() and (error := thing.exception()) is not None:
                    raise error
            else:
                thing.join(max(0.1, end - time.monotonic()))
                assert not thing.is_alive(), thing
        stop = True
        collector.join()
"""
)

EXCLUSION = """
    class Guarded:
        def __init__(self, lock):
            self.lock, self.holder, self.turns = lock, None, 0
        def turn(self, chance):
            me = object()
            if chance < 0.3:
                if not self.lock.acquire(timeout=chance / 300):
                    return
            elif chance < 0.4:
                if not self.lock.acquire(False):
                    return
            else:
                self.lock.acquire()
            try:
                assert self.holder is None, "two hold one lock"
                self.holder = me
                if chance > 0.8:
                    roving.yield_now()
                elif chance > 0.79:
                    roving.sleep(0.0005)
                assert self.holder is me
            finally:
                self.holder = None
                self.turns += 1
                self.lock.release()
    guarded = [Guarded(make()) for make in (threading.Lock, threading.RLock, threading.Lock, threading.RLock)]
    guarded[3].lock = threading.Condition(guarded[3].lock)
    def work(seed):
        random_ = random.Random(seed)
        while more():
            random_.choice(guarded).turn(random_.random())
            if random_.random() < 0.1:
                roving.yield_now()
    fibers = [roving.spawn(work, n) for n in range(FIBERS)]
    threads = [threading.Thread(target=work, args=(-n,)) for n in range(1, 4)]
    for thread in threads:
        thread.start()
    random_ = random.Random(7)
    while more():
        random_.choice(fibers).cancel()
        time.sleep(0.001)
    finish(fibers + threads)
    for one in guarded:
        assert one.holder is None and one.lock.acquire(timeout=5)
        assert one.turns > 20, one.turns
    print("ok", [one.turns for one in guarded], sum(f.cancelled() for f in fibers), file=sys.stderr)
    print("ok", flush=True)
"""

QUEUES = """
    N = 20
    box, results = queue.Queue(5), collections.Counter()
    events = [threading.Event() for _ in range(10)]
    barrier_lock = threading.Condition()
    semaphore = threading.BoundedSemaphore(3)
    lost = threading.Lock()
    def produce(n):
        i = 0
        while more() or i < 3:
            box.put((n, i))
            events[i % 10].set()
            i += 1
        return i
    def consume():
        count = 0
        while (item := box.get()) is not None:
            count += 1
            box.task_done()
            if random.random() < 0.2:
                with semaphore:
                    roving.yield_now()
        return count
    def waiter(n):
        while more():
            events[n % 10].wait(0.001)
            events[n % 10].clear()
            with barrier_lock:
                barrier_lock.wait(0.0005)
    def notifier():
        while more():
            with barrier_lock:
                barrier_lock.notify(2)
            roving.yield_now()
    producers = [roving.spawn(produce, n) for n in range(N)]
    consumers = [roving.spawn(consume) for _ in range(N)]
    counted = []
    threads = [threading.Thread(target=lambda: counted.append(produce(99))),
               threading.Thread(target=lambda: counted.append(-consume()))]
    others = [roving.spawn(waiter, n) for n in range(50)] + [roving.spawn(notifier) for _ in range(2)]
    for thread in threads:
        thread.start()
    while more():
        # Waiters that are cancelled take nothing with them.
        victim = random.choice(others)
        victim.cancel()
        time.sleep(0.002)
    produced = sum(fiber.join(60) for fiber in producers)
    threads[0].join(60)
    for _ in range(N + 1):
        box.put(None)
    consumed = sum(fiber.join(60) for fiber in consumers)
    threads[1].join(60)
    assert produced + sum(counted) == consumed, (produced, counted, consumed)
    finish(others)
    assert [semaphore.acquire(timeout=1) for _ in range(3)] == [True] * 3
    print("ok", flush=True)
"""

LOGGING = """
    lines = []
    class Handler(logging.Handler):
        def emit(self, record):
            text = self.format(record)
            roving.yield_now()
            lines.append(text)
    logging.basicConfig(handlers=[Handler()], level=logging.INFO, format="%(threadName)s %(message)s")
    # On a busy machine it may have calls to report that took long.
    logging.getLogger("roving").setLevel(logging.CRITICAL)
    sent = [0] * 301
    def work(n):
        while more():
            logging.info("from %d", n)
            sent[n] += 1
            roving.yield_now()
    fibers = [roving.spawn(work, n) for n in range(300)]
    thread = threading.Thread(target=work, args=(300,))
    thread.start()
    finish([*fibers, thread])
    assert len(lines) == sum(sent)
    assert len(threading._active) == 1, threading._active
    print("ok", flush=True)
"""


PROGRAMS = {"exclusion": EXCLUSION.replace("FIBERS", "2000"), "queues": QUEUES, "logging": LOGGING}


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_exclusion(workers: int) -> None:
    """Nobody is in a lock with another, nobody is lost, and cancelled waiters leave it usable."""
    child.check(COMMON + PROGRAMS["exclusion"], workers=workers, timeout=120 + SECONDS)


@pytest.mark.parametrize("workers", [1, 2])
def test_queues(workers: int) -> None:
    """queue.Queue, Event, Condition and Semaphore: every item arrives once."""
    child.check(COMMON + QUEUES, workers=workers, timeout=120 + SECONDS)


@pytest.mark.parametrize("workers", [1, 2])
def test_logging(workers: int) -> None:
    """Every record is written, and no stand-in for a thread is left behind."""
    child.check(COMMON + LOGGING, workers=workers, timeout=120 + SECONDS)
