"""psycopg 3 by itself, in pure Python over libpq, and its own pool."""

import contextlib
import os
import socket
from collections.abc import Iterator
from typing import Any

import pytest
import roving
from crowd import FIBERS, POOL, assert_parks, crowd, finish, parked, until
from servers import Server

os.environ["PSYCOPG_IMPL"] = "python"
try:
    import psycopg
    import psycopg_pool
except ImportError as missing:
    pytest.skip(f"psycopg: {missing}", allow_module_level=True)


@pytest.fixture
def pool(postgres: Server) -> Iterator[Any]:
    """psycopg's pool; its workers are threads, which under patch are fibers."""
    address = f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres"
    options = {"min_size": 5, "max_size": POOL, "timeout": 60}
    with psycopg_pool.ConnectionPool(address, open=True, **options) as pool:
        pool.wait(30)
        yield pool


@contextlib.contextmanager
def shielded(pool: Any) -> Iterator[Any]:
    """As pool.connection(), but who waits for the pool is not cancelled there: see below."""
    with roving.shield():
        connection = pool.getconn()
    try:
        with connection:
            yield connection
    finally:
        pool.putconn(connection)


def works(pool: Any) -> None:
    """Fail unless a thousand fibers each get their own answer."""

    def ask(number: int) -> list[Any]:
        with pool.connection() as connection:
            return [
                connection.execute("SELECT %s", [(number, turn)[turn]]).fetchone()[0] for turn in range(2)
            ]

    assert crowd(ask) == [[number, 1] for number in range(FIBERS)]


def test_everybody_gets_the_own_answer(pool: Any) -> None:
    """A thousand fibers over fifty connections."""
    works(pool)


def test_waits_hold_nobody_up(pool: Any) -> None:
    """Its waits go through select and poll, which are patched: nothing is to be plugged in."""

    def wait(_number: int) -> None:
        with pool.connection() as connection:
            connection.execute("SELECT pg_sleep(0.5)")

    crowd(lambda _: wait(0), 20)
    assert_parks(lambda: crowd(wait, 20))


def test_rows_as_they_come_and_copy(pool: Any) -> None:
    """A server-side cursor, COPY in and out: many waits in one call."""

    def exchange(number: int) -> int:
        with pool.connection() as connection:
            connection.execute("CREATE TEMPORARY TABLE IF NOT EXISTS numbers (a int, b text)")
            with connection.cursor().copy("COPY numbers FROM STDIN") as copy:
                for _ in range(2_000):
                    copy.write_row((number, "x" * 50))
            with connection.cursor("named") as cursor:
                cursor.execute("SELECT a FROM numbers")
                found: int = sum(row[0] for row in cursor)
            with connection.cursor().copy("COPY numbers TO STDOUT") as copy:
                size = sum(len(block) for block in copy)
            assert size > 2_000 * 50
            connection.execute("DROP TABLE numbers")
        return found

    assert crowd(exchange, 60) == [2_000 * number for number in range(60)]


def test_notifications(pool: Any) -> None:
    """Fibers that listen, and one that notifies."""
    listening = roving.Channel[None](POOL)

    def listen(_number: int) -> list[str]:
        with pool.connection() as connection:
            connection.autocommit = True
            connection.execute("LISTEN news")
            listening.send(None)
            found = [notify.payload for notify in connection.notifies(timeout=20, stop_after=2)]
            connection.execute("UNLISTEN news")
            connection.autocommit = False
            return found

    fibers = [roving.spawn(listen, number) for number in range(20)]
    for _ in fibers:
        listening.recv(20)
    with pool.connection() as connection:
        connection.execute("NOTIFY news, 'one'")
        connection.execute("NOTIFY news, 'two'")
    finish(fibers)
    assert [fiber.join() for fiber in fibers] == [["one", "two"]] * 20


def test_cancelled_in_the_middle(pool: Any) -> None:
    """The pool throws away connections that were in the middle of a query, and makes others."""

    def wait(_number: int) -> None:
        with shielded(pool) as connection:
            connection.execute("SELECT pg_sleep(60)")

    works(pool)
    # Half of them wait for the pool.
    fibers = [roving.spawn(wait, number) for number in range(2 * POOL)]
    until(lambda: parked(fibers) == POOL)
    for fiber in fibers:
        fiber.cancel()
    finish(fibers, 40)
    assert all(fiber.cancelled() for fiber in fibers), {repr(fiber.exception()) for fiber in fibers}
    works(pool)


def test_cancelled_while_waiting_for_the_pool(postgres: Server) -> None:
    """The pool then gives a connection to nobody, and it is lost.

    It minds exceptions that are an Exception; neither a Cancelled nor a KeyboardInterrupt. docs/DRIVERS.md
    says what to do; when this fails, it need not any more.
    """
    address = f"host=127.0.0.1 port={postgres.port} user=postgres dbname=postgres"
    with psycopg_pool.ConnectionPool(address, min_size=1, max_size=1, open=True) as pool:
        connection = pool.getconn(20)
        waiter = roving.spawn(pool.getconn, 60)
        until(lambda: pool.get_stats().get("requests_waiting") == 1)
        waiter.cancel()
        finish([waiter])
        assert waiter.cancelled()
        pool.putconn(connection)
        with pytest.raises(psycopg_pool.PoolTimeout):
            pool.getconn(0.3)


def test_a_query_of_another_fiber_is_cancelled(pool: Any) -> None:
    """`Connection.cancel` and `cancel_safe`, from another fiber."""
    with pool.connection() as connection:
        fiber = roving.spawn(connection.execute, "SELECT pg_sleep(60)")
        # The server forgets a request to cancel that comes before the query has begun.
        question = "SELECT wait_event FROM pg_stat_activity WHERE pid = %s"
        pid = connection.info.backend_pid
        with pool.connection() as other:
            other.autocommit = True
            until(lambda: other.execute(question, [pid]).fetchone() == ("PgSleep",))
            other.autocommit = False
        roving.spawn(connection.cancel_safe).join()
        finish([fiber], 20)
        assert isinstance(fiber.exception(), psycopg.errors.QueryCanceled)
        connection.rollback()


def test_connect_timeout(postgres: Server) -> None:
    """A server that takes the connection and says nothing."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]

        def attempt(_number: int) -> bool:
            try:
                psycopg.connect(f"host=127.0.0.1 port={port} user=postgres connect_timeout=2")
            except psycopg.errors.ConnectionTimeout:
                return True
            return False

        assert crowd(attempt, 20, 20) == [True] * 20
