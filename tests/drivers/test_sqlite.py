"""sqlite3: waits for its locks park, the rest of it blocks in C; how to use it from fibers."""

import sqlite3
import threading
import time
from pathlib import Path

import pytest
import roving
from crowd import FIBERS, crowd, finish, until


@pytest.fixture
def path(tmp_path: Path) -> str:
    """A database with one row."""
    path = str(tmp_path / "db")
    with sqlite3.connect(path) as connection:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("CREATE TABLE counts (value INTEGER)")
        connection.execute("INSERT INTO counts VALUES (0)")
    connection.close()
    return path


def test_a_connection_a_fiber(path: str) -> None:
    """Fibers stay on their worker, so a connection passes its check in the fiber that made it."""

    def add(_number: int) -> None:
        connection = sqlite3.connect(path, timeout=60)
        with connection:
            connection.execute("UPDATE counts SET value = value + 1")
        roving.yield_now()
        assert connection.execute("SELECT count(*) FROM counts").fetchone() == (1,)
        connection.close()

    crowd(add, 200)
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT value FROM counts").fetchone() == (200,)
    connection.close()


def test_the_check_asks_for_the_worker(path: str) -> None:
    """A connection of another worker's fiber is refused, of the same worker's it is not."""
    connection = sqlite3.connect(path)
    fibers = [roving.options(spread=True).spawn(connection.execute, "SELECT 1") for _ in range(4)]
    finish(fibers)
    assert all(isinstance(fiber.exception(), sqlite3.ProgrammingError) for fiber in fibers)
    connection.close()

    made: list[sqlite3.Connection] = []
    worker: list[int] = []
    over = threading.Event()

    def make() -> None:
        made.append(sqlite3.connect(path))
        worker.append(threading.get_native_id())
        over.wait(60)
        made[0].close()

    maker = roving.spawn(make)
    until(lambda: bool(worker))
    seen: set[tuple[bool, str]] = set()

    def use() -> None:
        same = threading.get_native_id() == worker[0]
        try:
            made[0].execute("SELECT 1")
            seen.add((same, "passes"))
        except sqlite3.ProgrammingError:
            seen.add((same, "refused"))

    finish([roving.options(spread=True).spawn(use) for _ in range(20)])
    over.set()
    finish([maker])
    assert seen <= {(True, "passes"), (False, "refused")}
    assert seen


def test_a_connection_for_all(path: str) -> None:
    """What to do: check_same_thread=False, and a lock around each transaction."""
    connection = sqlite3.connect(path, check_same_thread=False)
    lock = threading.Lock()

    def add(_number: int) -> None:
        with lock, connection:
            (value,) = connection.execute("SELECT value FROM counts").fetchone()
            roving.yield_now()
            connection.execute("UPDATE counts SET value = ?", (value + 1,))

    crowd(add)
    assert connection.execute("SELECT value FROM counts").fetchone() == (FIBERS,)
    connection.close()


def test_on_a_thread_of_the_pool(path: str) -> None:
    """What takes long goes to the pool: then nobody is held up, not by a locked database either."""

    def add(_number: int) -> None:
        connection = sqlite3.connect(path, timeout=60)
        try:
            with connection:
                connection.execute("UPDATE counts SET value = value + 1")
        finally:
            connection.close()

    writer = sqlite3.connect(path, isolation_level=None)
    writer.execute("BEGIN IMMEDIATE")
    fibers = [roving.spawn(roving.blocking, add, number) for number in range(8)]
    # They wait in C for the lock; fibers go on.
    assert crowd(lambda number: number, 100, 10) == list(range(100))
    assert not any(fiber.done() for fiber in fibers)
    writer.execute("COMMIT")
    finish(fibers)
    assert writer.execute("SELECT value FROM counts").fetchone() == (8,)
    writer.close()


def test_a_lock_of_the_database_held_while_parked(path: str) -> None:
    """A fiber may park in a transaction: whoever wants it, a neighbour too, gets it when it is over."""

    def add(_number: int) -> None:
        connection = sqlite3.connect(path, timeout=60, isolation_level=None)
        connection.execute("BEGIN IMMEDIATE")
        (value,) = connection.execute("SELECT value FROM counts").fetchone()
        roving.sleep(0.001)
        connection.execute("UPDATE counts SET value = ?", (value + 1,))
        connection.execute("COMMIT")
        connection.close()

    begin = time.monotonic()
    crowd(add, 200)
    # Not one timeout has been waited for.
    assert time.monotonic() - begin < 30
    connection = sqlite3.connect(path)
    assert connection.execute("SELECT value FROM counts").fetchone() == (200,)
    connection.close()


def test_sqlalchemy(path: str) -> None:
    """Its pool for files has check_same_thread off."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    engine = sqlalchemy.create_engine(f"sqlite:///{path}", pool_size=10, max_overflow=0, pool_timeout=60)

    def ask(number: int) -> int:
        with engine.connect() as connection:
            value: int = connection.execute(sqlalchemy.text("SELECT :n"), {"n": number}).scalar_one()
            return value

    assert crowd(ask) == list(range(FIBERS))
    engine.dispose()
