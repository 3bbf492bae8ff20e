"""The benches: what one operation is, and on how many workers it is measured."""

from dataclasses import dataclass

BATCH = 1_000
RIVALS = 4
BUFFER = 64
SLEEPERS = 10_000
SLEEP = 0.1
FIB = 21


@dataclass(frozen=True)
class Bench:
    """One bench."""

    op: str
    # "both": on one worker and on all; "scale": on 1, 2, 4 ... and all.
    workers: str = "both"
    # A fixed number of operations a sample, where length has no say.
    fixed: int | None = None


BENCHES = {
    "spawn_join": Bench("spawn a no-op function and join it, one at a time"),
    "spawn_batch": Bench(f"the same, {BATCH:,} spawned, then {BATCH:,} joined"),
    "spawn_batch_main": Bench("spawn_batch from the main thread"),
    "yield": Bench("yield, two taking turns"),
    "channel": Bench("one item to one that waits for it (queues: one place)"),
    "channel_buffered": Bench(f"one item through a buffer of {BUFFER}"),
    "lock": Bench("with lock, nobody else wants it"),
    "thread_lock": Bench("with threading.Lock, in a fiber and in a thread"),
    "lock_rivals": Bench(f"with lock: count; {RIVALS} rivals"),
    "lock_handed_on": Bench(f"with lock: yield; {RIVALS} rivals, so that all wait each time"),
    "sleepers": Bench(
        f"one of {SLEEPERS:,} calls that sleep {SLEEP * 1000:.0f} ms, all at once", fixed=SLEEPERS
    ),
    "cpu": Bench(f"all of 64 x fib({FIB})", "scale"),
    "words": Bench("count the words of 64 texts of 8,000 and add up", "scale"),
}
