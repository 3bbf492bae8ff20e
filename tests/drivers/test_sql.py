"""SQLAlchemy's pools of 50 over pg8000, psycopg 3 and PyMySQL, a thousand fibers at once."""

import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import roving
from crowd import FIBERS, POOL, assert_parks, crowd, finish, parked, until
from servers import Server

# Else psycopg prefers a C implementation, where there is one.
os.environ["PSYCOPG_IMPL"] = "python"
sqlalchemy = pytest.importorskip("sqlalchemy")
text = sqlalchemy.text
DRIVERS = {
    "pg8000": ("pg8000", "postgres", "postgresql+pg8000://postgres@127.0.0.1:{}/postgres"),
    "psycopg": ("psycopg", "postgres", "postgresql+psycopg://postgres@127.0.0.1:{}/postgres"),
    "pymysql": ("pymysql", "mariadb", "mysql+pymysql://tests@127.0.0.1:{}/tests"),
}
# Each connection would make a TLS context of its own, and read all certificates of the system for it: 25 ms.
NO_TLS = {"pg8000": {"ssl_context": False}, "psycopg": {}, "pymysql": {"ssl_disabled": True}}


class Database:
    """An engine, and how its dialect says what the tests want."""

    def __init__(self, driver: str, server: Server) -> None:
        """Make an engine with a pool."""
        self.driver = driver
        self.server = server
        self.url = DRIVERS[driver][2].format(server.port)
        self.engine = self.make()
        self.sleep = text("SELECT SLEEP(:t)" if driver == "pymysql" else "SELECT pg_sleep(:t)")

    def make(self, **options: Any) -> Any:
        """Make an engine whose fibers wait for a connection when there is none."""
        options = {"pool_size": POOL, "max_overflow": 0, "pool_timeout": 60, **options}
        options["connect_args"] = NO_TLS[self.driver]
        return sqlalchemy.create_engine(self.url, **options)

    def wait(self, seconds: float) -> None:
        """Have the server take its time."""
        with self.engine.connect() as connection:
            connection.execute(self.sleep, {"t": seconds})

    def ask(self, number: int) -> list[Any]:
        """Ask for what only this fiber asks for."""
        with self.engine.connect() as connection:
            question = text("SELECT :a, :b")
            rows = [
                connection.execute(question, {"a": str(number), "b": str(turn)}).one() for turn in range(2)
            ]
            return [tuple(row) for row in rows]

    def works(self) -> None:
        """Fail unless a thousand fibers each get their own answer."""
        expected = [[(str(number), "0"), (str(number), "1")] for number in range(FIBERS)]
        assert crowd(self.ask) == expected
        assert self.engine.pool.checkedout() == 0


@pytest.fixture(params=DRIVERS)
def database(request: pytest.FixtureRequest) -> Iterator[Database]:
    """Each of the databases, with each of its drivers."""
    module, server, _ = DRIVERS[request.param]
    try:
        __import__(module)
    except ImportError as error:
        pytest.skip(f"{request.param}: {error}")
    database = Database(request.param, request.getfixturevalue(server))
    yield database
    database.engine.dispose()


def test_everybody_gets_the_own_answer(database: Database) -> None:
    """Several queries in a transaction."""
    database.works()


def test_transactions(database: Database) -> None:
    """A thousand transactions add to rows; some fail, and are rolled back."""
    with database.engine.begin() as connection:
        connection.execute(text("DROP TABLE IF EXISTS counts"))
        connection.execute(text("CREATE TABLE counts (name INTEGER PRIMARY KEY, value INTEGER)"))
        rows = [{"name": name} for name in range(20)]
        connection.execute(text("INSERT INTO counts VALUES (:name, 0)"), rows)

    def add(number: int) -> None:
        with database.engine.begin() as connection:
            update = text("UPDATE counts SET value = value + 1 WHERE name = :name")
            connection.execute(update, {"name": number % 20})
            if number % 10 == 3:
                raise ZeroDivisionError

    def attempt(number: int) -> bool:
        try:
            add(number)
        except ZeroDivisionError:
            return False
        return True

    assert sum(crowd(attempt)) == FIBERS - FIBERS // 10
    with database.engine.connect() as connection:
        values = dict(connection.execute(text("SELECT name, value FROM counts")).all())
    assert values == {name: 0 if name in (3, 13) else FIBERS // 20 for name in range(20)}


def test_waits_hold_nobody_up(database: Database) -> None:
    """While twenty queries take half a second, every worker goes on."""
    crowd(lambda _: database.wait(0.01), 20)
    assert_parks(lambda: crowd(lambda _: database.wait(0.5), 20))


def test_connecting_holds_nobody_up(database: Database) -> None:
    """So do twenty that connect to somebody who accepts, and says nothing."""
    with socket.create_server(("127.0.0.1", 0), backlog=256) as silent:
        url = database.url.replace(str(database.server.port), str(silent.getsockname()[1]))
        engine = sqlalchemy.create_engine(url, pool_size=20, connect_args=NO_TLS[database.driver])

        def attempt() -> None:
            fibers = [roving.spawn(engine.connect) for _ in range(20)]
            until(lambda: parked(fibers) == 20)
            roving.spawn(roving.sleep, 0.5).join()
            for fiber in fibers:
                fiber.cancel()
            finish(fibers, 20)
            assert all(fiber.cancelled() for fiber in fibers), {repr(fiber.exception()) for fiber in fibers}

        assert_parks(attempt)
        engine.dispose()


def test_waiting_for_the_pool(database: Database) -> None:
    """It gives up after its time; and does not when somebody comes back before."""
    database.engine.dispose()
    database.engine = database.make(pool_size=2, pool_timeout=0.3)
    holders = [roving.spawn(database.wait, 1.0) for _ in range(2)]
    until(lambda: database.engine.pool.checkedout() == 2 and parked(holders) == 2)

    def attempt(number: int) -> str:
        try:
            database.ask(number)
        except sqlalchemy.exc.TimeoutError:
            return "no connection"
        return "an answer"

    assert crowd(attempt, 20) == ["no connection"] * 20
    finish(holders)
    assert crowd(attempt, 2) == ["an answer"] * 2


def test_cancelled_in_the_middle(database: Database) -> None:
    """Queries are cancelled, by the fiber and by a timeout; so are fibers that wait for the pool."""
    database.works()
    fibers = [roving.spawn(database.wait, 60) for _ in range(2 * POOL)]
    until(lambda: parked(fibers) == POOL)
    for fiber in fibers:
        fiber.cancel()
    finish(fibers, 20)
    assert all(fiber.cancelled() for fiber in fibers), {repr(fiber.exception()) for fiber in fibers}

    def soon(_number: int) -> bool:
        try:
            with roving.timeout(0.1):
                database.wait(0.5)
        except TimeoutError:
            return True
        return False

    assert crowd(soon, POOL, 30) == [True] * POOL
    database.works()


def test_errors_of_the_server(database: Database) -> None:
    """What a database refuses is an exception of the fiber that asked."""

    def ask(number: int) -> object:
        if number % 2:
            return database.ask(number)[0][0]
        with database.engine.connect() as connection:
            try:
                connection.execute(text(f"SELECT nothing_{number} FROM nowhere"))
            except sqlalchemy.exc.DBAPIError as error:
                return "nowhere" in str(error)
        return False

    assert crowd(ask, 400) == [str(number) if number % 2 else True for number in range(400)]


def test_reconnects(database: Database) -> None:
    """The server goes amid queries and comes back; pool_pre_ping finds connections that were lost."""
    database.engine.dispose()
    database.engine = database.make(pool_pre_ping=True)
    database.works()
    fibers = [roving.spawn(database.wait, 60) for _ in range(POOL)]
    until(lambda: parked(fibers) == POOL)
    database.server.stop()
    finish(fibers, 20)
    assert all(isinstance(fiber.exception(), sqlalchemy.exc.DBAPIError) for fiber in fibers)
    database.server.start()
    database.works()
