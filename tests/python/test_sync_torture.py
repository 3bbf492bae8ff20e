"""Everything at once, in child processes; ROVING_TORTURE_SECONDS and ROVING_SEED as in test_torture.py."""

import child
import pytest
from test_torture import LENGTH_AND_SEED, ROUNDS, SECONDS

EVERYTHING = """
    chance, end = random, END
    lock, rlock, gate = roving.Lock(), roving.RLock(), roving.Semaphore(2)
    channels = [roving.Channel(capacity) for capacity in (0, 1, 3)]
    condition, event, jobs = roving.Condition(), roving.Event(), roving.Queue(2)

    class Cycle:
        def __init__(self, channel):
            self.me, self.channel = self, channel
        def __del__(self):
            roving.stats()

    def hold(what):
        with what:
            roving.yield_now()

    def wait():
        with condition:
            condition.wait(0.01)

    def notify():
        with condition:
            condition.notify(2)

    def shielded():
        with roving.shield():
            roving.sleep(0.001)

    def nested():
        with roving.scope() as scope:
            for _ in range(3):
                scope.spawn(act)

    def timed():
        with roving.move_on_after(chance.random() / 500):
            act()
            roving.sleep(60)

    def clean():
        try:
            act()
        finally:
            with roving.move_on_after(0.001):
                roving.sleep(0.002)

    def select():
        a, b = chance.sample(channels, 2)
        roving.select(a.recv_op(), b.send_op(Cycle(b)), timeout=0.005)

    acts = [
        lambda: hold(lock), lambda: hold(rlock), lambda: hold(gate),
        wait, notify, shielded, nested, timed, clean, select,
        lambda: chance.choice(channels).send(Cycle(channels[0]), timeout=0.005),
        lambda: chance.choice(channels).recv(timeout=0.005),
        lambda: event.wait(0.002), event.set, event.clear,
        lambda: jobs.put(Cycle(channels[1]), timeout=0.005), lambda: jobs.get(timeout=0.005),
        lambda: list(roving.map(roving.sleep, [0.001] * 4, limit=2)),
        lambda: roving.blocking(time.sleep, 0.001), roving.yield_now,
    ]
    import queue
    def act():
        if time.monotonic() < end:
            try:
                chance.choice(acts)()
            except (TimeoutError, queue.Empty, queue.Full):
                pass

    def some():
        for _ in range(20):
            act()

    def watch():
        while time.monotonic() < end:
            gc.collect()
            roving.dump()
            time.sleep(0.01)

    watcher = threading.Thread(target=watch)
    watcher.start()
    plain = [threading.Thread(target=lambda: [act() for _ in range(200)]) for _ in range(2)]
    for thread in plain:
        thread.start()
    cancel_at_random(some)
    for thread in [watcher, *plain]:
        thread.join(20)
        assert not thread.is_alive()
    # Everything was given back.
    assert not lock.locked() and not rlock.locked()
    assert gate.acquire(False) and gate.acquire(False) and not gate.acquire(False)
    assert not roving.fibers()
    print("ok")
"""


@pytest.mark.parametrize("workers", [1, 2, 4])
def test_everything_at_once(workers: int) -> None:
    """Channels, locks, scopes and timeouts, cancelled at random, with collections and dumps beside them."""
    child.check(
        LENGTH_AND_SEED + ROUNDS + EVERYTHING,
        workers=workers,
        timeout=60 + SECONDS,
    )


def test_exit_with_everything_waiting() -> None:
    """No crash, no hang."""
    child.check(
        """
        lock = roving.Lock(); lock.acquire()
        channel, condition = roving.Channel(), roving.Condition()
        def wait():
            with condition:
                condition.wait()
        def nest():
            with roving.scope() as scope:
                scope.spawn(roving.sleep, 60)
        def iterate():
            return list(roving.map(roving.sleep, [60] * 4))
        for one in (lock.acquire, channel.recv, wait, nest, iterate, roving.Event().wait, roving.Queue().get,
                    lambda: channel.send(1), lambda: roving.select(channel.recv_op()),
                    lambda: roving.blocking(time.sleep, 0.2)):
            for _ in range(50):
                roving.spawn(one)
        threading.Thread(target=lock.acquire, daemon=True).start()
        threading.Thread(target=channel.recv, daemon=True).start()
        roving.sleep(0.1)
        print("ok")
        """,
        timeout=30,
    )
