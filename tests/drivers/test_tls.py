"""The drivers over TLS: Python's own, patched, and libpq's, which asks to wait."""

import contextlib
import os
import ssl
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import roving
import tls
from crowd import FIBERS, POOL, assert_parks, crowd, finish, parked, until
from servers import Server

# Else psycopg prefers a C implementation, where there is one.
os.environ["PSYCOPG_IMPL"] = "python"

# What a driver can do: ask for a number and get it back; have the server take so many seconds.
Ask = Callable[[int], int]
Wait = Callable[[float], object]


def context() -> ssl.SSLContext:
    """Make what all connections of a test share; certificates and names are checked."""
    return tls.authority().client()


def sql(
    url: str, server: Server, arguments: dict[str, Any], cipher: str, sleep: str
) -> Iterator[tuple[Ask, Wait]]:
    """Give a driver under SQLAlchemy's pool."""
    sqlalchemy = pytest.importorskip("sqlalchemy")
    pool = {"pool_size": POOL, "max_overflow": 0, "pool_timeout": 60}
    engine = sqlalchemy.create_engine(url.format(server.port), connect_args=arguments, **pool)

    def value(statement: str, **values: object) -> Any:
        with engine.connect() as connection:
            return connection.execute(sqlalchemy.text(statement), values).scalar_one()

    assert value(cipher), "not over TLS"
    yield (
        lambda number: int(value("SELECT :number", number=str(number))),
        lambda seconds: value(sleep, t=seconds),
    )
    engine.dispose()


@contextlib.contextmanager
def with_pg8000(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, Wait]]:
    """PostgreSQL, in Python all of it."""
    pytest.importorskip("pg8000")
    url = "postgresql+pg8000://postgres@localhost:{}/postgres"
    yield from sql(
        url,
        request.getfixturevalue("postgres"),
        {"ssl_context": context()},
        OF_POSTGRES,
        "SELECT pg_sleep(:t)",
    )


@contextlib.contextmanager
def with_psycopg(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, Wait]]:
    """PostgreSQL, where libpq speaks TLS over sockets that do not block."""
    try:
        import psycopg  # noqa: F401
    except ImportError as missing:
        pytest.skip(f"psycopg: {missing}")
    url = "postgresql+psycopg://postgres@localhost:{}/postgres"
    arguments = {
        "sslmode": "verify-full",
        "sslrootcert": str(tls.authority().folder / "ca.pem"),
        "hostaddr": "127.0.0.1",
    }
    yield from sql(url, request.getfixturevalue("postgres"), arguments, OF_POSTGRES, "SELECT pg_sleep(:t)")


@contextlib.contextmanager
def with_pymysql(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, Wait]]:
    """MariaDB."""
    pytest.importorskip("pymysql")
    url = "mysql+pymysql://tests@127.0.0.1:{}/tests"
    cipher = "SELECT variable_value FROM information_schema.session_status WHERE variable_name = 'Ssl_cipher'"
    yield from sql(url, request.getfixturevalue("mariadb"), {"ssl": context()}, cipher, "SELECT SLEEP(:t)")


OF_POSTGRES = "SELECT cipher FROM pg_stat_ssl WHERE pid = pg_backend_pid()"


@contextlib.contextmanager
def with_redis(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, Wait]]:
    """Redis."""
    redis = pytest.importorskip("redis")
    server: Server = request.getfixturevalue("redis_server")
    pool = redis.BlockingConnectionPool(
        connection_class=redis.SSLConnection,
        host="localhost",
        port=server.tls_port,
        max_connections=POOL,
        timeout=60,
        ssl_ca_certs=str(tls.authority().folder / "ca.pem"),
        retry=redis.retry.Retry(redis.backoff.NoBackoff(), 0),
    )
    client = redis.Redis(connection_pool=pool)
    yield lambda number: int(client.echo(str(number))), lambda seconds: client.blpop(["nothing"], seconds)
    client.close()
    pool.disconnect()


@contextlib.contextmanager
def with_requests(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, Wait]]:
    """HTTPS, with requests over urllib3."""
    requests = pytest.importorskip("requests")
    server: Server = request.getfixturevalue("tls_origin")
    with requests.Session() as session:
        session.trust_env = False
        session.verify = str(tls.authority().folder / "ca.pem")
        session.mount("https://", requests.adapters.HTTPAdapter(pool_maxsize=POOL, pool_block=True))

        def get(path: str) -> str:
            answer = session.get(f"https://localhost:{server.port}{path}", timeout=60)
            answer.raise_for_status()
            text: str = answer.text
            return text

        yield (
            lambda number: int(get(f"/after/1/{number}").rpartition("/")[2]),
            lambda seconds: get(f"/after/{seconds * 1000:.0f}/"),
        )


@contextlib.contextmanager
def with_httpx(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, Wait]]:
    """HTTPS, with httpx."""
    httpx = pytest.importorskip("httpx")
    server: Server = request.getfixturevalue("tls_origin")
    limits = httpx.Limits(max_connections=POOL, max_keepalive_connections=POOL, keepalive_expiry=None)
    with httpx.Client(limits=limits, trust_env=False, verify=context()) as client:

        def get(path: str) -> str:
            answer = client.get(f"https://localhost:{server.port}{path}", timeout=httpx.Timeout(60))
            text: str = answer.raise_for_status().text
            return text

        yield (
            lambda number: int(get(f"/after/1/{number}").rpartition("/")[2]),
            lambda seconds: get(f"/after/{seconds * 1000:.0f}/"),
        )


DRIVERS = [with_pg8000, with_psycopg, with_pymysql, with_redis, with_requests, with_httpx]


@pytest.fixture(params=DRIVERS, ids=lambda driver: driver.__name__.removeprefix("with_"))
def driver(request: pytest.FixtureRequest) -> Iterator[tuple[Ask, Wait]]:
    """Each of them."""
    with request.param(request) as driver:
        yield driver


def test_everybody_gets_the_own_answer(driver: tuple[Ask, Wait]) -> None:
    """A thousand fibers over fifty connections."""
    ask, _ = driver
    assert crowd(ask) == list(range(FIBERS))


def test_waits_hold_nobody_up(driver: tuple[Ask, Wait]) -> None:
    """While twenty wait for half a second, every worker goes on."""
    ask, wait = driver
    crowd(ask, 20)
    assert_parks(lambda: crowd(lambda _: wait(0.5), 20))


def test_cancelled_in_the_middle(driver: tuple[Ask, Wait]) -> None:
    """Those that wait for an answer are cancelled; the pool is as good as new."""
    ask, wait = driver
    crowd(ask, POOL)
    fibers = [roving.spawn(wait, 60) for _ in range(POOL)]
    until(lambda: parked(fibers) == POOL)
    for fiber in fibers:
        fiber.cancel()
    finish(fibers, 20)
    assert all(fiber.cancelled() for fiber in fibers), {repr(fiber.exception()) for fiber in fibers}
    assert crowd(ask, 200) == list(range(200))
