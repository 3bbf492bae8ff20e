"""Channels and select."""

import functools
import gc
import threading
import weakref
from collections.abc import Callable
from typing import Any

import pytest
import roving
from roving import testing
from test_scope import Place, timed_places


@timed_places
@pytest.mark.parametrize("capacity", [0, 1, 7])
def test_all_arrive_in_order(place: Place, capacity: int) -> None:
    """Once each, the very objects."""

    def body() -> None:
        channel: roving.Channel[object] = roving.Channel(capacity)
        things = [object() for _ in range(500)]

        def produce() -> None:
            with channel:
                for thing in things:
                    channel.send(thing)

        producer = roving.spawn(produce)
        assert all(one is other for one, other in zip(channel, things, strict=True))
        producer.join()

    place(body)


def test_many_senders_and_receivers() -> None:
    """Nothing is lost, nothing doubled; fibers and threads."""
    channel: roving.Channel[int] = roving.Channel(3)
    got: list[int] = []

    def receive() -> None:
        got.extend(channel)

    def send(start: int) -> None:
        for number in range(start, start + 100):
            channel.send(number)

    receivers = [roving.spawn(receive) for _ in range(5)]
    threads = [threading.Thread(target=receive) for _ in range(2)]
    senders = [threading.Thread(target=send, args=(n * 100,)) for n in range(2)]
    for thread in threads + senders:
        thread.start()
    with roving.scope() as scope:
        for n in range(2, 10):
            scope.spawn(send, n * 100)
    for thread in senders:
        thread.join()
    channel.close()
    for fiber in receivers:
        fiber.join()
    for thread in threads:
        thread.join()
    assert sorted(got) == list(range(1000))


@timed_places
def test_what_need_not_wait(place: Place) -> None:
    """try_ does it, or says that it would."""

    def body() -> None:
        channel: roving.Channel[int] = roving.Channel(1)
        with pytest.raises(roving.WouldBlock):
            channel.try_recv()
        channel.try_send(1)
        assert len(channel) == 1
        with pytest.raises(roving.WouldBlock):
            channel.try_send(2)
        assert channel.try_recv() == 1
        with pytest.raises(TimeoutError):
            channel.recv(timeout=2)
        channel.send(3, timeout=2)
        with pytest.raises(TimeoutError):
            channel.send(4, timeout=2)
        channel.close()
        channel.close()
        assert channel.closed
        assert channel.recv() == 3
        for operation in (
            channel.recv,
            channel.try_recv,
            lambda: channel.send(5),
            lambda: channel.try_send(5),
        ):
            with pytest.raises(roving.Closed):
                operation()

    place(body)


def test_closing_wakes_all() -> None:
    """Those who send, those who receive, and those who select."""
    for act in ("recv", "send", "select"):
        channel: roving.Channel[int] = roving.Channel()
        waits: dict[str, Callable[[], Any]] = {
            "recv": channel.recv,
            "send": functools.partial(channel.send, 1),
            "select": functools.partial(roving.select, channel.recv_op()),
        }
        fibers = [roving.spawn(waits[act]) for _ in range(3)]
        testing.wait_all_parked(20)
        channel.close()
        for fiber in fibers:
            with pytest.raises(roving.Closed):
                fiber.join(10)


def test_a_receiver_that_gives_up_takes_nothing() -> None:
    """A cancelled one, or one out of time."""
    channel: roving.Channel[int] = roving.Channel()
    fiber = roving.spawn(channel.recv)
    testing.wait_all_parked(20)
    fiber.cancel()
    fiber.wait()
    with testing.clock() as clock, pytest.raises(TimeoutError):
        channel.recv(timeout=2)
    assert clock.time() == 2
    other = roving.spawn(channel.recv)
    channel.send(7, timeout=10)
    assert other.join(10) == 7


def test_nothing_is_lost_when_receivers_are_cancelled() -> None:
    """At whatever moment: a value is received once, or still to be had."""
    channel: roving.Channel[int] = roving.Channel(2)
    got: list[int] = []

    def receive() -> None:
        while True:
            got.append(channel.recv())

    def send() -> None:
        for number in range(2000):
            channel.send(number)

    sender = roving.spawn(send)
    while not sender.done():
        fibers = [roving.spawn(receive) for _ in range(3)]
        roving.yield_now()
        for fiber in fibers:
            fiber.cancel()
        for fiber in fibers:
            assert fiber.wait(10)
    while True:
        try:
            got.append(channel.try_recv())
        except roving.WouldBlock:
            break
    assert sorted(got) == list(range(2000))


@timed_places
def test_select_does_exactly_one(place: Place) -> None:
    """Of receiving and sending, over and over."""

    def body() -> None:
        source: roving.Channel[int] = roving.Channel()
        sink: roving.Channel[int] = roving.Channel()
        with roving.scope() as scope:
            scope.spawn(lambda: list(map(source.send, range(300))))
            taken = scope.spawn(lambda: [sink.recv() for _ in range(300)])
            got: list[int] = []
            sent = 0
            while len(got) < 300 and sent < 300:
                index, value = roving.select(source.recv_op(), sink.send_op(sent), timeout=10)
                if index == 0:
                    got.append(value)
                else:
                    assert value is None
                    sent += 1
            got.extend(source.recv() for _ in range(300 - len(got)))
            for number in range(sent, 300):
                sink.send(number)
        assert got == list(range(300))
        assert taken.join() == list(range(300))

    place(body)


def test_selects_that_meet() -> None:
    """Two selects on the same channels find each other, and nobody finds itself."""
    a: roving.Channel[int] = roving.Channel()
    b: roving.Channel[int] = roving.Channel()
    with pytest.raises(TimeoutError):
        roving.select(a.recv_op(), a.send_op(1), timeout=0.005)

    def party(mine: int) -> list[int]:
        values = []
        for _ in range(200):
            index, value = roving.select(a.send_op(mine), b.send_op(mine), timeout=10)
            assert value is None
            values.append(index)
        return values

    def other() -> list[int]:
        return [roving.select(a.recv_op(), b.recv_op(), timeout=10)[1] for _ in range(400)]

    with roving.scope() as scope:
        parties = [scope.spawn(party, 1), scope.spawn(party, 2)]
        received = scope.spawn(other)
    assert sorted(received.join()) == [1] * 200 + [2] * 200
    assert len({index for fiber in parties for index in fiber.join()}) == 2


def test_bad_input() -> None:
    """Is refused."""
    with pytest.raises(ValueError, match="negative"):
        roving.Channel(-1)
    with pytest.raises(ValueError, match="nothing to choose"):
        roving.select()
    with pytest.raises(TypeError, match="recv_op"):
        roving.select(3)  # type: ignore[arg-type]
    channel: roving.Channel[int] = roving.Channel()
    for timeout in (-1.0, float("nan")):
        with pytest.raises(ValueError, match="timeout"):
            channel.recv(timeout=timeout)
        with pytest.raises(ValueError, match="timeout"):
            channel.send(1, timeout=timeout)


def test_the_collector_sees_what_is_in_a_channel() -> None:
    """A cycle through its buffer is freed."""

    class Node:
        channel: Any = None

    channel: roving.Channel[Node] = roving.Channel(1)
    node = Node()
    node.channel = channel
    gone = weakref.ref(node)
    channel.send(node)
    del node, channel
    gc.collect()
    assert gone() is None


def test_values_go_with_a_channel() -> None:
    """And with an offer that is given up."""

    class Thing:
        pass

    thing = Thing()
    gone = weakref.ref(thing)
    channel: roving.Channel[Thing] = roving.Channel()
    with pytest.raises(TimeoutError):
        channel.send(thing, timeout=0.002)
    with pytest.raises(TimeoutError):
        roving.select(channel.send_op(thing), timeout=0.002)
    del thing
    gc.collect()
    assert gone() is None
