"""sys.settrace and sys.setprofile: each fiber has its own."""

import sys
import sysconfig

import pytest
from child import check

# 3.13t does not export what stops the world.
REACHES_ALL = sys.version_info >= (3, 14) or not sysconfig.get_config_var("Py_GIL_DISABLED")

BEGIN = """
import dis
import roving.patch
seen = []

def called():
    pass

def watch(frame, event, argument):
    if event == "call" and frame.f_code is called.__code__:
        seen.append(roving.current())
    return watch

def unwatched_again():
    # CPython changes the code back when it next runs, once nobody is counted any more.
    called()
    return not any("INSTRUMENTED" in i.opname for i in dis.get_instructions(called, adaptive=True))

def of(kind):
    return (sys.settrace, sys.gettrace) if kind == "trace" else (sys.setprofile, sys.getprofile)
"""


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_each_fiber_has_its_own(kind: str) -> None:
    """One that is set goes where its fiber goes, and into no other of its worker, nor into later ones."""
    check(
        BEGIN
        + f"""
set, get = of({kind!r})

def watched():
    set(watch)
    for _ in range(20):
        roving.yield_now()
        assert get() is watch
        called()
    # It does not take it away.

def unwatched():
    for _ in range(20):
        assert get() is None
        called()
        roving.yield_now()

fibers = [roving.spawn(f) for f in (watched, unwatched, watched, unwatched)]
for fiber in fibers:
    fiber.join()
roving.spawn(unwatched).join()
assert [seen.count(fiber) for fiber in fibers] == [20, 0, 20, 0], seen
assert get() is None
print("ok")
""",
        workers=1,
    )


@pytest.mark.parametrize("kind", ["trace", "profile"])
def test_it_ends_with_its_fiber(kind: str) -> None:
    """The function goes, and when none is left nothing is watched any more."""
    check(
        BEGIN
        + f"""
import weakref
set, get = of({kind!r})

class Watch:
    def __call__(self, *_):
        return self

def watched():
    watch = Watch()
    set(watch)
    gone.append(weakref.ref(watch))
    roving.yield_now()

gone = []
for fiber in [roving.spawn(watched) for _ in range(50)]:
    fiber.join()
gc.collect()
assert len(gone) == 50 and not any(ref() for ref in gone)

# Whoever sets one now has the interpreter count: with one left over it would go on.
set(watch)
called()
assert not unwatched_again()
set(None)
assert unwatched_again()
print("ok")
""",
        workers=2,
    )


def test_threads_that_are_fibers_are_traced_each_for_itself() -> None:
    """threading.settrace, under patch."""
    check(
        BEGIN
        + """
roving.patch.all()
names = []
arrived = []

def watch(frame, event, argument):
    if event == "call" and frame.f_code is called.__code__:
        names.append(threading.current_thread().name)

def work():
    arrived.append(None)
    while going:
        roving.yield_now()
    called()

for set in (threading.settrace, threading.setprofile):
    names.clear()
    arrived.clear()
    going = True
    set(watch)
    threads = [threading.Thread(target=work, name=str(i)) for i in range(5)]
    for thread in threads:
        thread.start()
    # A thread takes the function after start() has returned.
    while len(arrived) < 5:
        roving.yield_now()
    set(None)
    going = False
    threads += [threading.Thread(target=work, name="none") for i in range(5)]
    for thread in threads[5:]:
        thread.start()
    roving.spawn(work).join()
    for thread in threads:
        thread.join()
    assert sorted(names) == list("01234"), names
print("ok")
""",
        workers=1,
    )


@pytest.mark.skipif(not REACHES_ALL, reason="reaches running fibers only")
def test_for_all_threads() -> None:
    """settrace_all_threads and its kin reach fibers that are parked, and take away what they set."""
    check(
        BEGIN
        + """
roving.patch.all()

def waits():
    for _ in range(2):
        wait.acquire()
        called()

trace = threading.settrace_all_threads, sys.gettrace
profile = threading.setprofile_all_threads, sys.getprofile
for set, get in (trace, profile):
    seen.clear()
    wait = threading.Semaphore(0)
    fibers = [roving.spawn(waits) for _ in range(6)]
    while len([f for f, _, why, _ in roving._roving._dump() if why == "lock"]) < 6:
        time.sleep(0.001)
    set(watch)
    assert get() is watch
    wait.release(6)
    while len(seen) < 6:
        time.sleep(0.001)
    assert roving.spawn(get).join() is None
    set(None)
    assert get() is None
    wait.release(6)
    for fiber in fibers:
        fiber.join()
    assert len(seen) == 6, seen
    assert unwatched_again()
print("ok")
""",
        workers=2,
    )


def test_torture() -> None:
    """Everybody sets and takes away, and switches, while all are set and collected."""
    check(
        BEGIN
        + f"""
import random
roving.patch.all()
stop = False

def work(seed):
    chance = random.Random(seed)
    mine = {{"trace": None, "profile": None}}
    while not stop:
        kind = chance.choice(["trace", "profile"])
        set, get = of(kind)
        assert get() is None or getattr(get(), "owner", seed) in (seed, "all"), get()
        if chance.random() < 0.5:
            def own(*_):
                return None
            own.owner = seed
            set(chance.choice([own, None]))
        called()
        (roving.yield_now, lambda: time.sleep(0.0001), lambda: None)[chance.randrange(3)]()

def everybody(*_):
    return None
everybody.owner = "all"

fibers = [roving.spawn(work, seed) for seed in range(40)]
end = time.monotonic() + 1.5
while time.monotonic() < end:
    if {REACHES_ALL}:
        threading.settrace_all_threads(everybody)
        threading.setprofile_all_threads(everybody)
        threading.settrace_all_threads(None)
        threading.setprofile_all_threads(None)
    gc.collect()
    roving.spawn(called).join()
stop = True
for fiber in fibers:
    fiber.join()
for set in (sys.settrace, sys.setprofile):
    set(watch)
    set(None)
assert unwatched_again()
print("ok")
""",
        workers=2,
    )
