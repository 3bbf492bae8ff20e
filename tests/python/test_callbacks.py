"""C code that calls back into Python may hold locks of its own: nothing parks there, nobody is preempted."""

import shutil

import child
import pytest

PASSWORD = """
    import ssl, subprocess, tempfile
    folder = tempfile.mkdtemp()
    key, certificate = folder + "/key.pem", folder + "/certificate.pem"
    command = "openssl req -x509 -newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -passout pass:right -days 2"
    subprocess.run([*command.split(), "-subj", "/CN=example.org", "-keyout", key, "-out", certificate],
                   check=True, capture_output=True)
"""

# `enter(body)` calls `body()` in a callback of C code, in the fiber or thread that calls `enter`.
SQLITE = """
    import sqlite3
    def connected(install, sql):
        def enter(body):
            connection = sqlite3.connect(":memory:")
            connection.execute("create table t as select 3 as x union select 1 union select 2")
            install(connection, body)
            try:
                connection.execute(sql).fetchall()
            finally:
                connection.close()
        return enter
    class Sum:
        def __init__(self): pass
        def step(self, x): body_of_sum()
        def finalize(self): return 1
    def aggregate(connection, body):
        global body_of_sum
        body_of_sum = body
        connection.create_aggregate("total_of", 1, Sum)
"""

CALLBACKS = {
    "sqlite-function": SQLITE
    + """
    enter = connected(lambda c, body: c.create_function("f", 0, lambda: body() or 1), "select f()")
    """,
    "sqlite-collation": SQLITE
    + """
    def collate(c, body):
        c.create_collation("mine", lambda a, b: body() or (a > b) - (a < b))
    enter = connected(collate, "select cast(x as text) as y from t order by y collate mine")
    """,
    "sqlite-progress": SQLITE
    + """
    many = "with recursive c(x) as (select 1 union all select x + 1 from c limit 100) select sum(x) from c"
    enter = connected(lambda c, body: c.set_progress_handler(lambda: body() and 0, 100), many)
    """,
    "sqlite-trace": SQLITE
    + """
    enter = connected(lambda c, body: c.set_trace_callback(lambda _: body()), "select 1")
    """,
    "sqlite-authorizer": SQLITE
    + """
    def authorize(c, body):
        c.set_authorizer(lambda *_: body() or sqlite3.SQLITE_OK)
    enter = connected(authorize, "select x from t")
    """,
    "sqlite-aggregate": SQLITE
    + """
    enter = connected(aggregate, "select total_of(x) from t")
    """,
    "ctypes": """
    import ctypes
    def enter(body):
        ctypes.CFUNCTYPE(None)(body)()
    """,
    "ctypes-qsort": """
    import ctypes
    libc = ctypes.CDLL(None)
    compare = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    def enter(body):
        numbers = (ctypes.c_int * 5)(3, 1, 4, 1, 5)
        libc.qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), compare(lambda a, b: body() or a[0] - b[0]))
        assert list(numbers) == [1, 1, 3, 4, 5]
    """,
    # Without letting go of the interpreter: the callback is one all the same.
    "ctypes-pydll": """
    import ctypes
    libc = ctypes.PyDLL(None)
    compare = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_int), ctypes.POINTER(ctypes.c_int))
    def enter(body):
        numbers = (ctypes.c_int * 5)(3, 1, 4, 1, 5)
        libc.qsort(numbers, 5, ctypes.sizeof(ctypes.c_int), compare(lambda a, b: body() or a[0] - b[0]))
        assert list(numbers) == [1, 1, 3, 4, 5]
    """,
    "ssl-server-name": """
    import ssl
    def enter(body):
        server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        server.sni_callback = lambda *_: body()
        a, b, c, d = ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO(), ssl.MemoryBIO()
        try:
            client.wrap_bio(b, a, server_hostname="example.org").do_handshake()
        except ssl.SSLWantReadError:
            pass
        # It has no certificate, but hears of the name first.
        try:
            server.wrap_bio(a, d, server_side=True).do_handshake()
        except ssl.SSLError:
            pass
    """,
    "ssl-message": """
    import ssl
    def enter(body):
        client = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        client._msg_callback = lambda *_: body()
        try:
            client.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO(), server_hostname="example.org").do_handshake()
        except ssl.SSLWantReadError:
            pass
    """,
}

if shutil.which("openssl"):
    # Whether `ssl` was there when the runtime started or not.
    for when, first in {"before": "", "after": "roving.spawn(int).join()"}.items():
        CALLBACKS[f"ssl-password-{when}"] = f"""
    {first}
    {PASSWORD}
    def enter(body):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate, key, lambda: body() or "right")
    """

# What waits for other fibers is refused; what waits for nobody is done as in a thread; a free lock is taken.
WAITS = """
    import os
    held, channel = roving.Lock(), roving.Channel()
    outcomes = []
    def refused(wait):
        try:
            wait()
        except RuntimeError as error:
            assert "callback of C code" in str(error), error
            return True
        return False
    def parking():
        with roving.scope() as scope:
            pass
    def condition():
        own = roving.Condition()
        with own:
            own.wait()
    def body():
        if not outcomes:
            outcomes.append("entered")
            try:
                wait_for_all()
            except BaseException as error:
                # C code may make something else of it.
                outcomes.append(error)
    def wait_for_all():
        others = [lambda: counter.join(0.01), forever.join, held.acquire, channel.recv,
                  lambda: channel.send(1), parking, condition, roving.Event().wait, roving.Queue().get,
                  lambda: roving.select(channel.recv_op()), lambda: list(roving.map(abs, [1, 2])),
                  lambda: roving.wait_readable(reader)]
        outcomes.extend(n for n, wait in enumerate(others) if not refused(wait))
        # A thread would wait: so does the whole worker.
        before = seen[0]
        start = time.monotonic()
        roving.sleep(0.002)
        assert time.monotonic() - start >= 0.002
        roving.yield_now()
        roving.checkpoint()
        assert roving.blocking(pow, 2, 3) == 8
        assert seen[0] == before, "another fiber ran"
        with threading.Lock(), threading.RLock(), roving.Lock(), roving.RLock():
            assert finished.join() == 7
        channel_with_room.send(1)
        assert channel_with_room.recv() == 1
        spawned.append(roving.spawn(pow, 3, 2))
    reader, writer = os.pipe()
    seen, spawned, channel_with_room = [0], [], roving.Channel(1)
    held.acquire()
    def count():
        while True:
            seen[0] += 1
            roving.yield_now()
    finished = roving.spawn(lambda: 7)
    finished.join()
    counter = roving.spawn(count)
    forever = roving.spawn(threading.Event().wait)
    def main():
        enter(body)
        # It can wait again as soon as the callback is over.
        roving.sleep(0.001)
        assert spawned[0].join() == 9
    error = roving.spawn(main).exception()
    assert outcomes == ["entered"] and error is None, (outcomes, error)
    for fiber in (counter, forever):
        fiber.cancel()
    # Not in a fiber there is nothing to refuse.
    outcomes.clear()
    def plain():
        roving.sleep(0.001)
        assert roving.spawn(pow, 2, 5).join() == 32
        outcomes.append("plain")
    enter(plain)
    assert "plain" in outcomes
    print("ok")
"""

PREEMPTION = """
    roving.configure(preempt=0.001)
    inside, seen, ends = [0], [], []
    def body():
        inside[0] += 1
        end = time.monotonic() + 0.02
        while time.monotonic() < end:
            pass
        inside[0] -= 1
    def main():
        for _ in range(3):
            enter(body)
            # Until it is preempted, and the other one has its turn.
            before, end = len(seen), time.monotonic() + 10
            while len(seen) == before and time.monotonic() < end:
                pass
        ends.append(True)
    def other():
        while not ends:
            seen.append(inside[0])
            roving.yield_now()
    def both():
        for fiber in [roving.spawn(main), roving.spawn(other)]:
            fiber.join()
    roving.spawn(both).join()
    assert 0 in seen and not any(seen), (len(seen), sum(seen))
    assert roving.stats()["preemptions"] > 0
    print("ok")
"""


@pytest.mark.parametrize("callback", CALLBACKS)
def test_nothing_parks(callback: str) -> None:
    """What would wait for other fibers is refused clearly; the worker's other fibers do not run meanwhile."""
    child.check(CALLBACKS[callback] + WAITS, workers=1)


@pytest.mark.parametrize("callback", ["sqlite-function", "ctypes", "ssl-server-name"])
def test_without_the_protection(callback: str) -> None:
    """The test above would notice."""
    done = child.run(CALLBACKS[callback] + WAITS, workers=1, faults="callbacks", timeout=10)
    assert done.returncode == 1, done.stderr
    assert "TimeoutError" in done.stderr


@pytest.mark.parametrize("callback", CALLBACKS)
def test_nobody_is_preempted(callback: str) -> None:
    """However long the callback takes."""
    # A spare would run the other one at the same time.
    no_spares = "\n    roving.configure(max_spares=0)\n"
    child.check(no_spares + CALLBACKS[callback] + PREEMPTION, workers=1)


def test_a_contended_lock() -> None:
    """Is waited for as a thread waits. Not for ever: its holder may be a fiber of this very worker."""
    child.check(
        CALLBACKS["sqlite-function"]
        + """
    for make in (threading.Lock, threading.RLock):
        lock, wanted, got = make(), threading.Event(), []
        def hold():
            with lock:
                held.set()
                wanted.wait()
        held = threading.Event()
        thread = threading.Thread(target=hold)
        thread.start()
        held.wait()
        def take():
            wanted.set()
            with lock:
                got.append(1)
        roving.spawn(enter, take).join()
        thread.join()
        assert got == [1]

        parked = roving.spawn(lambda: (lock.acquire(), threading.Event().wait()))
        while not lock.locked() if make is threading.Lock else lock.acquire(False):
            if make is threading.RLock:
                lock.release()
            time.sleep(0.001)
        def try_to():
            assert not lock.acquire(False)
            assert not lock.acquire(timeout=0.01)
            try:
                lock.acquire()
            except RuntimeError as error:
                got.append(str(error))
        roving.spawn(enter, try_to).join()
        assert len(got) == 2 and "callback of C code" in got[1], got
        parked.cancel()
    print("ok")
    """,
        workers=1,
    )
