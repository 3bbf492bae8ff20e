"""What stays as it was with SQLite's locks waited for by fibers."""

import child
import pytest
from databases import PATCH

# What can be seen of a connection that had to wait: a fiber's, and a plain thread's.
SEEN = """
        def observe(before, wait_on):
            seen = []
            class Row(sqlite3.Row):
                pass
            class Mine(sqlite3.Connection):
                def execute(self, *args):
                    seen.append("execute")
                    return super().execute(*args)
            class Over(sqlite3.Cursor):
                pass
            c = connect(factory=Mine, **before)
            c.row_factory = Row
            c.create_function("twice", 1, lambda x: seen.append("twice") or 2 * x)
            cursor = c.cursor(Over)
            sqlite3.Connection.execute(c, "SELECT * FROM t").fetchall()
            c.commit()
            parameters = [4]
            holder = Holder("BEGIN EXCLUSIVE")
            waiter = wait_on(lambda: cursor.execute(
                "INSERT INTO t (n) VALUES (twice(?)) RETURNING id, n", parameters))
            if before.get("isolation_level") != "IMMEDIATE":
                # It has had its arguments, but for an implicit BEGIN that waits.
                parameters[0] = 1000
            holder.let_go()
            assert waiter() is cursor
            seen += [cursor.description, type(cursor.row_factory), c.in_transaction, c.isolation_level]
            row = cursor.fetchone()
            seen += [type(row).__name__, tuple(row), cursor.fetchone(), cursor.rowcount, cursor.lastrowid]
            seen += [c.total_changes, c.autocommit]
            seen.append(cursor.execute("SELECT changes(), last_insert_rowid()").fetchone()["changes()"])
            c.execute("DELETE FROM t WHERE id > 1")
            c.commit()
            c.close()
            return seen
"""


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_all_is_as_on_a_thread(mode: str) -> None:
    """Cursors, rows, functions called, counts: the same, whoever waited."""
    child.check(
        PATCH
        + SEEN
        + f"""
        make({mode!r})
        def parked(call):
            fiber = roving.spawn(call)
            until_parked()
            return fiber.join
        def blocked(call):
            result = []
            done = roving.Event()
            begun = threading.Event()
            def body():
                begun.set()
                result.append(call())
            thread = roving.patch.NativeThread(target=body)
            thread.start()
            begun.wait()
            time.sleep(0.05)
            return lambda: thread.join() or result[0]
        levels = [{{"isolation_level": level}} for level in ("", None, "IMMEDIATE")]
        for before in (*levels, {{"autocommit": False}}, {{"autocommit": True}}):
            before["check_same_thread"] = False
            one = roving.spawn(observe, before, parked).join()
            other = observe(before, blocked)
            assert one == other, (before, one, other)
            assert one.count("twice") == 1
        print("ok")
        """,
        workers=1,
    )


def test_on_plain_threads_nothing_changes() -> None:
    """They wait in SQLite's handler, and see the timeout that they have set."""
    child.check(
        PATCH
        + """
        make()
        roving.spawn(int).join()
        c = connect(0.2)
        holder = Holder("BEGIN IMMEDIATE")
        start = time.monotonic()
        refused(c.execute, "BEGIN IMMEDIATE")
        assert 0.19 < time.monotonic() - start < 4.5
        holder.let_go()
        c.execute("BEGIN IMMEDIATE")
        c.execute("ROLLBACK")
        c.close()
        print("ok")
        """,
        workers=1,
    )


def test_a_connection_for_threads_and_fibers() -> None:
    """One connection: calls of threads that meet a fiber's handler wait as they would have."""
    child.check(
        PATCH
        + """
        make()
        c = connect(20, check_same_thread=False)
        over = threading.Event()
        errors = []
        def use():
            try:
                while not over.is_set():
                    c.execute("UPDATE t SET n = n + 1")
            except BaseException as error:
                errors.append(error)
        threads = [roving.patch.NativeThread(target=use) for _ in range(2)]
        for thread in threads:
            thread.start()
        fibers = [roving.spawn(use) for _ in range(4)]
        other = connect(20)
        for _ in range(10):
            other.execute("BEGIN IMMEDIATE")
            time.sleep(0.005)
            other.execute("COMMIT")
            time.sleep(0.002)
        over.set()
        for waits in [*threads, *fibers]:
            waits.join()
        assert not errors, errors
        assert c.execute("PRAGMA busy_timeout").fetchone() == (20000,)
        other.close()
        c.close()
        print("ok")
        """,
        workers=2,
    )


def test_in_callbacks_it_waits_as_ever() -> None:
    """A function of SQL that uses its own connection, and another: nobody parks below SQLite."""
    child.check(
        PATCH
        + """
        make("wal")
        def outer():
            c, other = connect(), connect()
            def inside(n):
                c.execute("UPDATE t SET n = n + ?", (n,))
                other.execute("UPDATE t SET n = n + ?", (n,))
                return c.execute("SELECT count(*) FROM t").fetchone()[0]
            c.create_function("inside", 1, inside)
            holder = Holder("BEGIN IMMEDIATE")
            # The holder lets go by itself: everything here is held up.
            timer = roving.patch.NativeThread(target=lambda: (time.sleep(0.1), holder.let_go()))
            timer.start()
            assert c.execute("SELECT inside(5)").fetchone() == (1,)
            timer.join()
            c.close(), other.close()
        run(outer)
        assert ask("SELECT n FROM t") == 10
        print("ok")
        """,
        workers=1,
    )


def test_many_connections() -> None:
    """Opened, made to wait, closed: no memory is kept, and no descriptor."""
    child.check(
        PATCH
        + """
        import resource
        # They have memory and descriptors of their own.
        roving.configure(max_spares=0)
        make()
        def round():
            def one(_):
                c = connect()
                c.execute("BEGIN IMMEDIATE")
                roving.yield_now()
                c.executemany("UPDATE t SET n = n + ?", [(1,)])
                c.execute("COMMIT")
                c.close()
            fibers = [roving.spawn(one, n) for n in range(50)]
            for fiber in fibers:
                fiber.join()
            gc.collect()
        def opened(fd):
            try:
                return os.readlink(f"/proc/self/fd/{fd}").startswith(folder.name)
            except FileNotFoundError:
                return False
        def now():
            with open("/proc/self/statm") as statm:
                pages = int(statm.read().split()[1])
            return pages * resource.getpagesize(), sum(map(opened, os.listdir("/proc/self/fd")))
        for _ in range(8):
            round()
        before, fds = now()
        for _ in range(20):
            round()
        after, fds_after = now()
        assert (fds, fds_after) == (0, 0), (fds, fds_after)
        assert after - before < 4 << 20, (before, after)
        print("ok")
        """,
        workers=2,
        timeout=120,
    )


def test_undo() -> None:
    """The methods are CPython's again; connections that have been used keep their timeout."""
    child.check(
        PATCH
        + """
        make()
        made = []
        def use():
            c = connect(3, check_same_thread=False)
            c.execute("UPDATE t SET n = 1")
            made.append(c)
        run(use)
        assert "sqlite3.Cursor.execute" in roving.patch.report()["sqlite"]
        roving.patch.undo()
        assert roving.patch.report()["sqlite"] == ()
        holder = Holder("BEGIN IMMEDIATE")
        def again():
            ticks, places = [], roving.Channel()
            def tick():
                places.send(threading.get_native_id())
                for _ in range(20):
                    ticks.append(roving.sleep(0.001))
            # One that has started on this worker: one that has not may start on another meanwhile.
            while True:
                ticker = roving.spawn(tick)
                if places.recv() == threading.get_native_id():
                    break
                ticker.join()
                ticks.clear()
            c = connect(0.2)
            refused(c.execute, "BEGIN IMMEDIATE")
            assert len(ticks) < 5, len(ticks)
            c.close()
            ticker.join()
        run(again)
        holder.let_go()
        assert made[0].execute("PRAGMA busy_timeout").fetchone() == (3000,)
        made[0].close()
        roving.patch.all(**dict.fromkeys(roving.patch.report(), False) | {"sqlite": True})
        assert {part for part, names in roving.patch.report().items() if names} == {"sqlite"}
        print("ok")
        """,
        workers=1,
    )


def test_warnings_that_are_errors() -> None:
    """What the patch tries out, when it is put in place, warns of nothing."""
    child.check(
        PATCH
        + """
        make()
        run(lambda: connect().close())
        assert roving.patch.report()["sqlite"]
        print("ok")
        """,
        options=("-W", "error", "-X", "dev"),
    )
