"""Waits for SQLite's locks in fibers: in child processes, as the patch is the process's, and may hang."""

import child
import pytest
from databases import PATCH


@pytest.mark.parametrize("mode", ["wal", "delete"])
@pytest.mark.parametrize("begin", ["IMMEDIATE", "DEFERRED", "EXCLUSIVE"])
def test_the_holder_is_a_neighbour(mode: str, begin: str) -> None:
    """The trouble: one worker, and the lock's holder is parked on it."""
    child.check(
        PATCH
        + f"""
        make({mode!r})
        order = []
        held = roving.Event()
        def hold():
            c = connect()
            c.execute("BEGIN IMMEDIATE")
            order.append("held")
            held.set()
            roving.sleep(0.05)
            c.execute("UPDATE t SET n = n + 1")
            c.execute("COMMIT")
            order.append("let go")
            c.close()
        def want():
            held.wait()
            c = connect()
            cursor = c.cursor()
            cursor.execute("BEGIN {begin}")
            # A deferred one gets the lock here.
            cursor.execute("UPDATE t SET n = n + 1")
            order.append("got")
            cursor.execute("COMMIT")
            c.close()
        start = time.monotonic()
        run(hold, want)
        assert time.monotonic() - start < 5
        assert order == ["held", "let go", "got"], order
        assert ask("SELECT n FROM t") == 2
        print("ok")
        """,
        workers=1,
    )


@pytest.mark.parametrize("how", ["commit", "with", "execute"])
def test_a_readers_cursor_against_a_commit(how: str) -> None:
    """A rollback journal: the commit waits for the reader, a neighbour, and is made once."""
    child.check(
        PATCH
        + f"""
        make("delete", 1000)
        order = []
        def read():
            c = connect()
            rows = c.execute("SELECT n FROM t")
            assert next(rows) == (0,)
            until_parked()
            order.append("read")
            assert len(rows.fetchall()) == 999
            c.close()
        def write():
            c = connect(isolation_level="")
            if {how!r} == "with":
                with c:
                    c.execute("INSERT INTO t (n) VALUES (7)")
            else:
                c.execute("INSERT INTO t (n) VALUES (7)")
                c.commit() if {how!r} == "commit" else c.execute("COMMIT")
            order.append("written")
            assert not c.in_transaction
            c.close()
        run(read, write)
        assert order == ["read", "written"], order
        assert ask("SELECT count(*), sum(n) FROM t") == (1001, 7)
        print("ok")
        """,
        workers=1,
    )


def test_a_statement_that_commits_by_itself() -> None:
    """It finds the reader at its end, is undone, and made anew: once in all, for SQLite's counts too."""
    child.check(
        PATCH
        + """
        make("delete", 100)
        def read():
            c = connect()
            rows = c.execute("SELECT n FROM t")
            next(rows)
            until_parked()
            rows.fetchall()
            c.close()
        def write():
            c = connect()
            cursor = c.cursor()
            cursor.execute("INSERT INTO t (n) VALUES (7), (8)")
            assert (cursor.rowcount, cursor.lastrowid, c.total_changes) == (2, 102, 2)
            c.close()
        run(read, write)
        assert ask("SELECT count(*), sum(n) FROM t") == (102, 15)
        print("ok")
        """,
        workers=1,
    )


@pytest.mark.parametrize("workers", [1, 2])
@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_200_fibers_add(workers: int, mode: str) -> None:
    """Transactions that park in the middle: nothing is lost, nothing done twice."""
    child.check(
        PATCH
        + f"""
        make({mode!r}, 4)
        def add(number):
            c = connect(60)
            c.execute("BEGIN IMMEDIATE")
            row = number % 4 + 1
            (n,) = c.execute("SELECT n FROM t WHERE id = ?", (row,)).fetchone()
            roving.sleep(0.0005)
            c.execute("UPDATE t SET n = ? WHERE id = ?", [n + 1, row])
            roving.yield_now()
            c.execute("COMMIT")
            c.close()
        fibers = [roving.spawn(add, number) for number in range(200)]
        for fiber in fibers:
            fiber.join()
        assert ask("SELECT count(*), min(n), max(n) FROM t") == (4, 50, 50)
        print("ok")
        """,
        workers=workers,
    )


def test_with_threads_and_another_process() -> None:
    """All against all, preempted all the while; a rollback journal, where readers stand in the way too."""
    child.check(
        PATCH
        + """
        import subprocess, textwrap
        make("delete", 2)
        roving.configure(preempt=0.001)
        program = '''
        import sqlite3, sys
        for _ in range(30):
            c = sqlite3.connect(sys.argv[1], timeout=60, isolation_level="IMMEDIATE")
            with c:
                c.execute("UPDATE t SET n = n + 1 WHERE id = 1")
                c.execute("INSERT INTO t (n) VALUES (-1)")
            c.close()
        '''
        other = subprocess.Popen([sys.executable, "-c", textwrap.dedent(program), path])
        def add(times):
            for _ in range(times):
                c = connect(60, isolation_level="IMMEDIATE")
                with c:
                    c.execute("UPDATE t SET n = n + 1 WHERE id = 1")
                    sum(range(20000))
                    c.execute("INSERT INTO t (n) VALUES (-1)")
                assert c.execute("SELECT n FROM t WHERE id = 2").fetchone() == (0,)
                c.close()
        threads = [roving.patch.NativeThread(target=add, args=(20,)) for _ in range(2)]
        for thread in threads:
            thread.start()
        fibers = [roving.spawn(add, 2) for _ in range(60)]
        for waits in [*threads, *fibers]:
            waits.join()
        assert other.wait() == 0
        made = 30 + 40 + 120
        assert ask("SELECT n FROM t WHERE id = 1") == made
        assert ask("SELECT count(*) FROM t") == made + 2
        print("ok")
        """,
        workers=2,
    )


def test_the_timeout_ends_in_time() -> None:
    """SQLITE_BUSY when it is over, of connect and of PRAGMA, and others run meanwhile; zero is at once."""
    child.check(
        PATCH
        + """
        make()
        holder = Holder("BEGIN IMMEDIATE")
        ticks = []
        def tick():
            while not ticks or ticks[-1] is not None:
                ticks.append(1)
                roving.sleep(0.005)
        def timed(c):
            start = time.monotonic()
            refused(c.execute, "BEGIN IMMEDIATE")
            return time.monotonic() - start
        def want():
            c = connect(0.3)
            assert 0.29 < timed(c) < 20
            assert c.execute("PRAGMA busy_timeout").fetchone() == (300,)
            # Nobody waits for the longer ones.
            for milliseconds in 100, 0:
                c.execute("PRAGMA busy_timeout = 60000")
                assert c.execute(f"PRAGMA busy_timeout = {milliseconds}").fetchone() == (milliseconds,)
                assert 0.9 * milliseconds < 1000 * timed(c) < 30000
                assert c.execute("PRAGMA Busy_Timeout").fetchone() == (milliseconds,)
            c.close()
            assert len(ticks) > 10, len(ticks)
            ticks.append(None)
        run(tick, want)
        holder.let_go()
        print("ok")
        """,
        workers=1,
    )


def test_what_looks_at_the_handler() -> None:
    """A checkpoint does not fail when it does not get the lock: it must wait as it did."""
    child.check(
        PATCH
        + """
        make()
        holder = Holder("BEGIN", "SELECT * FROM t")
        def write():
            c = connect(0.2)
            c.execute("UPDATE t SET n = 1")
            start = time.monotonic()
            assert c.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()[0] == 1
            assert time.monotonic() - start > 0.19
            c.close()
        run(write)
        holder.let_go()
        print("ok")
        """,
        workers=1,
    )


@pytest.mark.parametrize("mode", ["wal", "delete"])
def test_a_deadlock_fails_at_once(mode: str) -> None:
    """Two that have read and want to write: one of them is told at once, and not after its timeout."""
    child.check(
        PATCH
        + f"""
        make({mode!r})
        def both():
            start = time.monotonic()
            first, second = connect(10), connect(10)
            for c in (first, second):
                c.execute("BEGIN")
                c.execute("SELECT * FROM t").fetchall()
            first.execute("UPDATE t SET n = n + 1")
            refused(second.execute, "UPDATE t SET n = n + 1")
            second.execute("ROLLBACK")
            first.execute("COMMIT")
            first.close(), second.close()
            assert time.monotonic() - start < 5
        run(both)
        assert ask("SELECT n FROM t") == 1
        print("ok")
        """,
        workers=1,
    )


def test_cancelled_and_timed_out_waits() -> None:
    """They end at once, in every method that waits, and leave the connection fit for use."""
    child.check(
        PATCH
        + """
        make("delete")
        holder = Holder("BEGIN EXCLUSIVE")
        calls = {
            "execute": lambda c: c.execute("INSERT INTO t (n) VALUES (?)", [1]),
            "cursor": lambda c: c.cursor().execute("INSERT INTO t (n) VALUES (:n)", {"n": 1}),
            "many": lambda c: c.executemany("INSERT INTO t (n) VALUES (?)", iter([(1,), (2,)])),
            "read": lambda c: c.execute("SELECT * FROM t").fetchall(),
            "blob": lambda c: c.blobopen("t", "n", 1),
        }
        made = []
        ends = []
        def wait(name, by):
            c = connect(60, isolation_level="")
            made.append(c)
            try:
                if by == "timeout":
                    with roving.timeout(0.05):
                        calls[name](c)
                else:
                    calls[name](c)
            except (TimeoutError, roving.Cancelled) as error:
                ends.append(type(error).__name__)
                # Not over: what was begun is undone as on a thread.
                c.rollback()
                with roving.shield():
                    until_free.wait(20)
                    calls["execute"](c)
                    c.commit()
                    assert c.execute("SELECT count(*) FROM t").fetchone()[0] > 1
                c.close()
                raise
        until_free = roving.Event()
        start = time.monotonic()
        timed = [roving.spawn(wait, name, "timeout") for name in calls]
        cancelled = [roving.spawn(wait, name, "cancel") for name in calls]
        roving.spawn(until_parked, 1).join()
        while len(ends) < len(calls):
            time.sleep(0.001)
        for fiber in cancelled:
            fiber.cancel()
        while len(ends) < 2 * len(calls):
            time.sleep(0.001)
        assert time.monotonic() - start < 10
        holder.let_go()
        until_free.set()
        for fiber in timed + cancelled:
            assert fiber.wait(20)
        assert all(isinstance(fiber.exception(), TimeoutError) for fiber in timed)
        assert all(fiber.cancelled() for fiber in cancelled)
        assert ask("SELECT count(*) FROM t") == 1 + 2 * len(calls)
        print("ok")
        """,
        workers=1,
    )


def test_a_with_block_whose_commit_is_cancelled() -> None:
    """It rolls back, as one whose commit fails; one whose commit times out too."""
    child.check(
        PATCH
        + """
        make("delete", 10)
        holder = Holder("BEGIN", "SELECT * FROM t")
        made = []
        def write(timeout):
            c = connect(timeout, isolation_level="")
            try:
                with c:
                    c.execute("INSERT INTO t (n) VALUES (1)")
            finally:
                made.append(c.in_transaction)
                c.close()
        fiber = roving.spawn(write, 60)
        roving.spawn(until_parked).join()
        fiber.cancel()
        assert fiber.wait(10) and fiber.cancelled()
        roving.spawn(refused, write, 0.1).join()
        assert made == [False, False], made
        holder.let_go()
        assert ask("SELECT count(*) FROM t") == 10
        print("ok")
        """,
        workers=1,
    )


def test_many_rows() -> None:
    """executemany waits for its first row, parked, and gives none twice; later it waits as on a thread."""
    child.check(
        PATCH
        + """
        make("delete")
        taken = []
        def rows():
            for n in range(5):
                taken.append(n)
                yield (n,)
        for level in ("", "IMMEDIATE", None):
            taken.clear()
            c = connect(isolation_level=level, check_same_thread=False)
            # It has read the schema: what waits is the first row, or the BEGIN before it.
            c.execute("SELECT * FROM t").fetchall()
            holder = Holder("BEGIN EXCLUSIVE")
            def write():
                cursor = c.cursor()
                assert cursor.executemany("INSERT INTO t (n) VALUES (?)", rows()) is cursor
                assert (cursor.rowcount, c.total_changes) == (5, 5), cursor.rowcount
                c.commit()
                c.close()
            fiber = roving.spawn(write)
            roving.spawn(until_parked).join()
            holder.let_go()
            fiber.join()
            assert taken == [0, 1, 2, 3, 4], taken
            assert ask("SELECT count(*), sum(n) FROM t") == (6, 10)
            c = connect()
            c.execute("DELETE FROM t WHERE id > 1")
            c.close()
        # What a row's own code raises, and what is no row.
        def wrong():
            c = connect()
            def bad():
                yield (1,)
                raise KeyError("mine")
            for what, error in ((bad(), KeyError), (5, TypeError), ([5], sqlite3.ProgrammingError)):
                try:
                    c.executemany("INSERT INTO t (n) VALUES (?)", what)
                except error:
                    continue
                raise AssertionError(what)
            c.close()
        run(wrong)
        # The lock is lost between rows that commit by themselves: what is done is not done, or counted, anew.
        before = ask("SELECT count(*) FROM t")
        def interrupted():
            for n in range(5):
                if n == 2:
                    holder = Holder("BEGIN EXCLUSIVE")
                    roving.patch.NativeThread(target=lambda: (time.sleep(0.1), holder.let_go())).start()
                yield (n,)
        def write():
            c = connect()
            assert c.executemany("INSERT INTO t (n) VALUES (?)", interrupted()).rowcount == 5
            c.close()
        run(write)
        assert ask("SELECT count(*) FROM t") == before + 5
        print("ok")
        """,
        workers=1,
    )
