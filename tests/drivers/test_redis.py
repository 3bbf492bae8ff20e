"""redis-py over a BlockingConnectionPool of 50, a thousand fibers at once."""

from collections.abc import Iterator
from typing import Any

import pytest
import roving
from crowd import FIBERS, POOL, assert_parks, crowd, finish, parked, until
from servers import Server

redis = pytest.importorskip("redis")


def make_client(port: int, **options: Any) -> Any:
    """Make a client whose fibers wait for a connection when there is none."""
    # With retries it would ask again by itself, and hide what a first failure does.
    options = {"retry": redis.retry.Retry(redis.backoff.NoBackoff(), 0), **options}
    pool = redis.BlockingConnectionPool(
        host="127.0.0.1", port=port, max_connections=POOL, timeout=60, decode_responses=True, **options
    )
    return redis.Redis(connection_pool=pool)


@pytest.fixture
def client(redis_server: Server) -> Iterator[Any]:
    """A client that all fibers share, and an empty database."""
    client = make_client(redis_server.port)
    client.flushall()
    yield client
    client.close()
    client.connection_pool.disconnect()


def works(client: Any) -> None:
    """Fail unless a thousand fibers each get their own answer."""

    def ask(number: int) -> list[Any]:
        client.set(f"key {number}", number)
        pipe = client.pipeline()
        pipe.incr("count").get(f"key {number}").echo(str(number))
        return [client.get(f"key {number}"), *pipe.execute()[1:]]

    client.delete("count")
    assert crowd(ask) == [[str(number)] * 3 for number in range(FIBERS)]
    assert client.get("count") == str(FIBERS)


def test_everybody_gets_the_own_answer(client: Any) -> None:
    """Commands, pipelines."""
    works(client)


def test_waits_hold_nobody_up(client: Any) -> None:
    """BLPOP waits for half a second, or for somebody to push."""
    crowd(lambda number: client.get(str(number)), 20)
    assert_parks(lambda: crowd(lambda number: client.blpop([f"list {number}"], 0.5), 20))
    fibers = [roving.spawn(client.blpop, [f"list {number}"], 30) for number in range(20)]
    until(lambda: parked(fibers) == 20)
    crowd(lambda number: client.rpush(f"list {number}", number), 20)
    finish(fibers)
    assert [fiber.join() for fiber in fibers] == [(f"list {n}", str(n)) for n in range(20)]


def test_a_lock_of_redis(client: Any) -> None:
    """Its lock, whose token is kept per thread: a fiber counts as one."""
    value = 0

    def add(_number: int) -> None:
        nonlocal value
        with client.lock("lock", timeout=60, sleep=0.002):
            before = value
            roving.yield_now()
            value = before + 1

    crowd(add, POOL)
    assert value == POOL


def test_publish_and_subscribe(client: Any) -> None:
    """Fifty that listen hear everything; `run_in_thread` starts a fiber."""
    heard: list[Any] = []
    subscribed = roving.Channel[None](POOL)

    def listen(_number: int) -> list[Any]:
        with client.pubsub(ignore_subscribe_messages=False) as pubsub:
            pubsub.subscribe("news")
            found: list[str] = []
            for message in pubsub.listen():
                if message["type"] == "subscribe":
                    subscribed.send(None)
                elif message["data"] == "end":
                    return found
                else:
                    found.append(message["data"])
        raise AssertionError("it ended early")

    fibers = [roving.spawn(listen, number) for number in range(POOL - 2)]
    for _ in fibers:
        subscribed.recv(20)
    pubsub = client.pubsub(ignore_subscribe_messages=True)
    pubsub.subscribe(news=lambda message: heard.append(message["data"]))
    thread = pubsub.run_in_thread(sleep_time=0.5)
    for text in ["one", "two", "end"]:
        client.publish("news", text)
    finish(fibers)
    assert [fiber.join() for fiber in fibers] == [["one", "two"]] * (POOL - 2)
    until(lambda: len(heard) == 3)
    thread.stop()
    thread.join(20)
    assert heard == ["one", "two", "end"]


def test_timeouts(redis_server: Server) -> None:
    """A socket's timeout amid a command; what comes late is nobody's answer."""
    client = make_client(redis_server.port, socket_timeout=0.2)

    def slow(number: int) -> bool:
        try:
            client.blpop([f"never {number}"], 0.6)
        except redis.TimeoutError:
            return True
        return False

    assert crowd(slow, POOL) == [True] * POOL
    client.connection_pool.disconnect()
    client = make_client(redis_server.port)
    works(client)
    client.connection_pool.disconnect()


def test_cancelled_in_the_middle(client: Any) -> None:
    """All connections are waited at, and as many fibers wait for one: all cancelled."""
    fibers = [roving.spawn(client.blpop, ["never"], 60) for _ in range(2 * POOL)]
    until(lambda: parked(fibers) == POOL)
    for fiber in fibers:
        fiber.cancel()
    finish(fibers, 20)
    assert all(fiber.cancelled() for fiber in fibers)

    def soon(number: int) -> bool:
        try:
            with roving.timeout(0.1):
                client.blpop([f"late {number}"], 0.4)
        except TimeoutError:
            return True
        return False

    assert crowd(soon, POOL, 20) == [True] * POOL
    works(client)


def test_reconnects(client: Any, redis_server: Server) -> None:
    """The server goes while fibers wait for it, and comes back."""
    works(client)
    fibers = [roving.spawn(client.blpop, ["never"], 60) for _ in range(POOL)]
    until(lambda: parked(fibers) == POOL)
    redis_server.stop()
    finish(fibers, 20)
    assert all(isinstance(fiber.exception(), redis.ConnectionError) for fiber in fibers)
    with pytest.raises(redis.ConnectionError):
        client.get("key")
    redis_server.start()
    works(client)


def test_killed_connections(client: Any) -> None:
    """Redis throws all its clients out while a thousand fibers ask; with a retry, nobody notices."""
    retry = redis.retry.Retry(redis.backoff.NoBackoff(), 5)
    port = client.connection_pool.connection_kwargs["port"]
    patient = make_client(port, retry=retry)

    def ask(number: int) -> Any:
        if number % 300 == 150:
            client.client_kill_filter(_type="normal", skipme=True)
        return patient.echo(str(number))

    assert crowd(ask) == [str(number) for number in range(FIBERS)]
    patient.connection_pool.disconnect()
