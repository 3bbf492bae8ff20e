"""Fibers, threads that are fibers and plain threads on the same locks, queues and sockets, under patch.

In child processes; ROVING_TORTURE_SECONDS and ROVING_SEED as in test_torture.py.
"""

import child
import pytest
from test_torture import LENGTH_AND_SEED, ROUNDS, SECONDS

MIXED = """
    import queue, select, socket, traceback
    import roving.patch
    roving.patch.all()
    chance, end = random, END

    lock, rlock, condition = threading.Lock(), threading.RLock(), threading.Condition()
    gate, event = threading.BoundedSemaphore(3), threading.Event()
    bounded, simple = queue.Queue(2), queue.SimpleQueue()
    # Datagrams: what is cancelled on the way was sent whole or not at all.
    here, there = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    reads, writes = os.pipe()
    for end_of in here, there:
        end_of.settimeout(0.005)
    for fd in reads, writes:
        os.set_blocking(fd, False)
    # Lists, as nobody can interrupt appending: who is inside of what; what was put and what was taken.
    inside = {id(what): [] for what in (lock, rlock, condition)}
    put, taken = {}, {}
    for what in bounded, simple, here, reads:
        put[what], taken[what] = [], []

    def exclusive(what):
        with what:
            others = inside[id(what)]
            others.append(threading.get_ident())
            assert len(others) == 1, others
            try:
                if chance.random() < 0.3:
                    time.sleep(0.0002)
            finally:
                others.clear()

    def again():
        with rlock:
            exclusive(rlock)

    def wait():
        with condition:
            condition.wait(0.005)

    def notify():
        with condition:
            condition.notify(2)

    def enter():
        with gate:
            time.sleep(0.0002)

    def put_in(what):
        what.put(None, timeout=0.005)
        put[what].append(None)

    def take_from(what):
        what.get(timeout=0.005)
        taken[what].append(None)

    def send():
        here.sendall(b"x" * 1000)
        put[here].append(None)

    def receive():
        assert there.recv(2000) == b"x" * 1000
        taken[here].append(None)

    def write():
        os.write(writes, b"x")
        put[reads].append(None)

    def read():
        if select.select([reads], [], [], 0.005)[0]:
            os.read(reads, 1)
            taken[reads].append(None)

    def with_threads():
        kinds = chance.choices([threading.Thread, roving.patch.NativeThread], k=2)
        threads = [kind(target=act) for kind in kinds]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    acts = [
        lambda: exclusive(lock), lambda: exclusive(rlock), lambda: exclusive(condition), again,
        wait, notify, enter, lambda: event.wait(0.002), event.set, event.clear,
        lambda: put_in(bounded), lambda: take_from(bounded),
        lambda: put_in(simple), lambda: take_from(simple),
        send, receive, write, read, with_threads, lambda: time.sleep(0.0005),
    ]
    failures = []
    def act():
        if time.monotonic() < end:
            try:
                chance.choice(acts)()
            except (TimeoutError, queue.Empty, queue.Full, BlockingIOError):
                pass
            except Exception:
                failures.append(traceback.format_exc())

    def some():
        for _ in range(20):
            act()

    def collect():
        while time.monotonic() < end:
            gc.collect()
            time.sleep(0.01)

    others = [kind(target=some) for kind in [threading.Thread, roving.patch.NativeThread] * 4]
    others.append(roving.patch.NativeThread(target=collect))
    for other in others:
        other.start()
    cancel_at_random(some)
    for other in others:
        other.join(20)
        assert not other.is_alive(), roving.dump()
    # Threads whose starter was cancelled.
    while roving.fibers() or threading.active_count() > 1:
        assert time.monotonic() < end + 20, roving.dump()
        roving.sleep(0.001)
    assert not failures, failures[0]
    # Everything was given back.
    for what in lock, rlock, condition:
        assert what.acquire(False)
    assert gate._value == 3 and not condition._waiters, (gate, condition)
    # Nothing was lost, nothing is there twice.
    there.setblocking(False)
    try:
        while True:
            there.recv(2000)
            taken[here].append(None)
    except BlockingIOError:
        pass
    try:
        taken[reads] += [None] * len(os.read(reads, 1 << 20))
    except BlockingIOError:
        pass
    for what in bounded, simple:
        taken[what] += [None] * what.qsize()
    counts = [(len(put[what]), len(taken[what])) for what in put]
    assert all(one == other for one, other in counts), counts
    print(counts, "ok")
"""


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_fibers_and_threads_on_the_same_things(workers: int) -> None:
    """Cancelled at random: whatever was taken is given back, nothing is lost, and nobody waits for ever."""
    child.check(LENGTH_AND_SEED + ROUNDS + MIXED, workers=workers, timeout=60 + SECONDS)
