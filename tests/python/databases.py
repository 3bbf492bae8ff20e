"""What programs that wait for SQLite's locks have in common: to be run by `child`."""

# As far in as the programs below.
PATCH = """
        import os, sqlite3, tempfile, threading
        import roving.patch
        roving.patch.all()
        folder = tempfile.TemporaryDirectory()
        path = os.path.join(folder.name, "db")
        def make(mode="wal", rows=1):
            with sqlite3.connect(path) as c:
                assert c.execute(f"PRAGMA journal_mode = {mode}").fetchone() == (mode,)
                c.execute("CREATE TABLE t (id INTEGER PRIMARY KEY, n INTEGER)")
                c.executemany("INSERT INTO t (n) VALUES (?)", [(0,)] * rows)
            c.close()
        def connect(timeout=20, **options):
            return sqlite3.connect(path, timeout=timeout, **{"isolation_level": None, **options})
        def ask(sql):
            c = sqlite3.connect(path)
            row = c.execute(sql).fetchone()
            c.close()
            return row if len(row) != 1 else row[0]
        def run(*functions):
            # All on one worker, where there is one.
            fibers = [roving.spawn(f) for f in functions]
            return [fiber.join() for fiber in fibers]
        def refused(call, *args, text="locked"):
            try:
                call(*args)
            except sqlite3.OperationalError as error:
                assert text in str(error), error
                assert error.sqlite_errorcode & 0xff == sqlite3.SQLITE_BUSY, error.sqlite_errorname
                return error
            raise AssertionError("it was not refused")
        def until_parked(count=1):
            from roving._roving import _dump
            while sum(why == "sqlite" for _, _, why, _ in _dump()) < count:
                roving.sleep(0.001)
        class Holder:
            # A plain thread that holds a transaction until it is told to let go.
            def __init__(self, *statements):
                self.ready, self.go = threading.Event(), threading.Event()
                self.thread = roving.patch.NativeThread(target=self.hold, args=statements)
                self.thread.start()
                assert self.ready.wait(20)
            def hold(self, *statements):
                c = connect()
                for statement in statements:
                    c.execute(statement).fetchone()
                self.ready.set()
                assert self.go.wait(30)
                c.execute("COMMIT")
                c.close()
            def let_go(self):
                self.go.set()
                self.thread.join()
"""
