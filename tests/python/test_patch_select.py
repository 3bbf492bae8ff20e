"""select, poll, epoll, selectors and asyncio in fibers."""

import asyncio
import errno
import os
import select
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

import patched
import pytest
import roving
from patched import in_fiber, pair, tcp_pair, until_parked


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    with patched.everything():
        yield


def with_select(s: socket.socket, timeout: float | None) -> bool:
    """Ask select."""
    return select.select([s], [], [s], timeout) == ([s], [], [])


def with_poll(s: socket.socket, timeout: float | None) -> bool:
    """Ask a poll object."""
    poll = select.poll()
    poll.register(s, select.POLLIN | select.POLLPRI)
    found = poll.poll(None if timeout is None else timeout * 1000)
    return found == [(s.fileno(), select.POLLIN)]


def with_epoll(s: socket.socket, timeout: float | None) -> bool:
    """Ask an epoll object."""
    with select.epoll() as epoll:
        epoll.register(s, select.EPOLLIN)
        return epoll.poll(timeout=timeout, maxevents=5) == [(s.fileno(), select.EPOLLIN)]


def with_selector(
    kind: Callable[[], selectors.BaseSelector],
) -> Callable[[socket.socket, float | None], bool]:
    """Ask a selector."""

    def ask(s: socket.socket, timeout: float | None) -> bool:
        with kind() as selector:
            selector.register(s, selectors.EVENT_READ)
            return len(selector.select(timeout)) == 1

    return ask


# Its own type has too many variables.
ask_select: Callable[..., Any] = select.select

WAYS: dict[str, Callable[[socket.socket, float | None], bool]] = {
    "select": with_select,
    "poll": with_poll,
    "epoll": with_epoll,
    "SelectSelector": with_selector(selectors.SelectSelector),
    "PollSelector": with_selector(selectors.PollSelector),
    "EpollSelector": with_selector(selectors.EpollSelector),
}


@pytest.mark.parametrize("timeout", [None, 30])
@pytest.mark.parametrize("name", WAYS)
def test_it_parks_until_something_is_ready(name: str, timeout: float | None) -> None:
    """And asks for what is ready already without parking."""
    with pair() as (a, b):
        fiber = roving.spawn(WAYS[name], a, timeout)
        until_parked(fiber)
        b.send(b"x")
        assert fiber.join()
        for _ in range(2):
            # Level-triggered: it is still there.
            assert in_fiber(WAYS[name], a, timeout)


@pytest.mark.parametrize("name", WAYS)
def test_timeouts(name: str) -> None:
    """Zero and more; and those of roving."""

    def ask() -> None:
        with pair() as (a, _):
            assert not WAYS[name](a, 0)
            start = time.monotonic()
            assert not WAYS[name](a, 0.03)
            assert 0.03 <= time.monotonic() - start < 5
            with pytest.raises(TimeoutError), roving.timeout(0.01):
                WAYS[name](a, None)

    in_fiber(ask)


def test_several_of_several_kinds() -> None:
    """Readers, writers, pipes and files together; iterators are looked at once."""

    def ask() -> None:
        reader, writer = os.pipe()
        with pair() as (a, b), open(__file__) as file:
            ready = select.select((fd for fd in (reader, a)), {b}, iter([]), 10)
            assert ready == ([], [b], [])
            several: list[Any] = [reader, a, file]
            assert select.select(several, [], [], 10) == ([file], [], [])
            waiting = roving.spawn(ask_select, iter([reader, a]), [], iter([a]), 10)
            os.write(writer, b"x")
            assert waiting.join() == ([reader], [], [])
        os.close(reader)
        os.close(writer)
        start = time.monotonic()
        assert select.select([], [], [], 0.02) == ([], [], [])
        assert time.monotonic() - start >= 0.02

    in_fiber(ask)


def test_urgent_data() -> None:
    """What only select's third list, and POLLPRI, tell of."""
    with tcp_pair() as (a, b):
        fiber = roving.spawn(ask_select, [], [], [a], 10)
        b.send(b"plain")
        assert not fiber.wait(0.03)
        b.send(b"!", socket.MSG_OOB)
        assert fiber.join() == ([], [], [a])


BAD_CALLS: dict[str, Callable[[], Any]] = {
    "select timeout": lambda: select.select([], [], [], "x"),  # type: ignore[arg-type]
    "select negative": lambda: select.select([], [], [], -1),
    "select number": lambda: select.select(1, [], [], 1),  # type: ignore[arg-type]
    "select file": lambda: select.select(["x"], [], [], 1),
    "select closed": lambda: select.select([700], [], [], 1),
    "select big": lambda: select.select([70000], [], [], 1),
    "select few": lambda: select.select([], []),  # type: ignore[call-arg]
    "poll timeout": lambda: select.poll().poll("x"),  # type: ignore[arg-type]
    "poll many": lambda: select.poll().poll(1, 2),  # type: ignore[call-arg]
    "poll overflow": lambda: select.poll().poll(1 << 40),
    "epoll timeout": lambda: select.epoll().poll("x"),  # type: ignore[arg-type]
    "epoll maxevents": lambda: select.epoll().poll(1, -5),
    "epoll name": lambda: select.epoll().poll(time=1),  # type: ignore[call-arg]
    "epoll overflow": lambda: select.epoll().poll(1e20),
}


@pytest.mark.parametrize("name", BAD_CALLS)
def test_errors_are_those_of_a_thread(name: str) -> None:
    """The same type, the same text."""

    def outcome() -> str:
        try:
            return repr(BAD_CALLS[name]())
        except Exception as error:
            return f"{type(error)} {error}"

    assert in_fiber(outcome) == outcome()


def test_poll_objects_are_polled_by_one_at_a_time() -> None:
    """As with threads."""
    with pair() as (a, b):
        poll = select.poll()
        poll.register(a, select.POLLIN)
        fiber = roving.spawn(poll.poll)
        until_parked(fiber)
        for run in (in_fiber, lambda f: f()):
            with pytest.raises(RuntimeError, match="concurrent poll"):
                run(poll.poll)
        b.send(b"x")
        assert fiber.join() == [(a.fileno(), select.POLLIN)]


def test_a_closed_descriptor_ends_poll() -> None:
    """With POLLNVAL, and select with EBADF; an epoll that is closed is an error."""
    a, b = socket.socketpair()
    number = a.fileno()
    with b:
        poll = select.poll()
        poll.register(a, select.POLLIN)
        polling = roving.spawn(poll.poll)
        selecting = roving.spawn(ask_select, [number], [], [])
        until_parked(polling, selecting)
        a.close()
        assert polling.join() == [(number, select.POLLNVAL)]
        with pytest.raises(OSError, match="Bad file") as caught:
            selecting.join()
        assert caught.value.errno == errno.EBADF
    epoll = select.epoll()
    fiber = roving.spawn(epoll.poll)
    until_parked(fiber)
    epoll.close()
    with pytest.raises((OSError, ValueError)):
        fiber.join()
    with pytest.raises(ValueError, match="closed"):
        in_fiber(epoll.poll)


def test_two_wait_for_one_epoll() -> None:
    """Both see what is ready; an event added while they wait counts."""
    with pair() as (a, b), select.epoll() as epoll:
        fibers = [roving.spawn(epoll.poll) for _ in range(2)]
        until_parked(*fibers)
        b.send(b"x")
        epoll.register(a, select.EPOLLIN)
        for fiber in fibers:
            assert fiber.join() == [(a.fileno(), select.EPOLLIN)]


async def _server(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while data := await reader.read(100):
        writer.write(data)
        await writer.drain()
    writer.close()


async def _both(number: int) -> int:
    server = await asyncio.start_server(_server, "127.0.0.1", 0)
    _, port = server.sockets[0].getsockname()

    async def client(count: int) -> int:
        reader, writer = await asyncio.open_connection("localhost", port)
        for index in range(count):
            writer.write(b"%d" % index)
            await reader.readexactly(len(b"%d" % index))
            await asyncio.sleep(0.0001)
        writer.close()
        await writer.wait_closed()
        return count

    async with server:
        counts = await asyncio.gather(*[client(number) for _ in range(5)])
        return sum(counts) + await asyncio.get_running_loop().run_in_executor(None, pow, 2, 3)


def test_asyncio_loops_cooperate() -> None:
    """Several on each worker, beside plain fibers: none holds up another."""
    fibers = [roving.spawn(asyncio.run, _both(number)) for number in (5, 6, 7, 8, 9, 10)]
    sleepers = [roving.spawn(time.sleep, 0.05) for _ in range(20)]
    assert [fiber.join() for fiber in fibers] == [5 * number + 8 for number in (5, 6, 7, 8, 9, 10)]
    for fiber in sleepers:
        fiber.join()


def test_two_asyncio_loops_on_one_worker_talk() -> None:
    """Each waits for what the other one does."""
    with pair() as (a, b):

        async def play(s: socket.socket, first: bool) -> int:
            loop = asyncio.get_running_loop()
            s.setblocking(False)
            count = 0
            if first:
                await loop.sock_sendall(s, b"x")
            while count < 100:
                assert await loop.sock_recv(s, 1) == b"x"
                await loop.sock_sendall(s, b"x")
                count += 1
            return count

        def both() -> list[int]:
            fibers = [roving.spawn(asyncio.run, play(s, first)) for s, first in ((a, True), (b, False))]
            return [fiber.join() for fiber in fibers]

        assert in_fiber(both) == [100, 100]


class Asked:
    """Something with a descriptor that counts how often it is asked for it."""

    def __init__(self, s: socket.socket, others: list["Asked"] | None = None) -> None:
        """With a socket's."""
        self.socket = s
        self.count = 0
        self.others = others

    def fileno(self) -> int:
        """Give the descriptor; take the last of a list."""
        self.count += 1
        if self.others is not None:
            del self.others[-1]
        return self.socket.fileno()


def test_select_asks_for_descriptors_once() -> None:
    """However often it waits; it gives back the very objects, in order, twice if they are there twice."""
    with pair() as (a, b), pair() as (c, d):
        first, second, third = Asked(a), Asked(c), Asked(a)
        fiber = roving.spawn(ask_select, [first, second, first, third], [], [second], 20)
        until_parked(fiber)
        b.sendall(b"x")
        assert fiber.join() == ([first, first, third], [], [])
        assert (first.count, second.count, third.count) == (2, 2, 1)
        d.close()


def test_select_of_a_list_that_shrinks() -> None:
    """As CPython has it: what is still there when its turn comes."""
    with pair() as (a, _):
        objects: list[Asked] = []
        objects += [Asked(a, objects) for _ in range(10)]
        kept = objects[:5]
        assert in_fiber(ask_select, [], objects, []) == ([], kept, [])
        assert objects == kept
        assert in_fiber(ask_select, (), (a,), iter([])) == ([], [a], [])
        for bad in ([a, object()], [-1], 5, [1 << 30]):
            raised = ["", "?"]
            for i, call in enumerate([ask_select, lambda *args: in_fiber(ask_select, *args)]):
                with pytest.raises((TypeError, ValueError)) as caught:
                    call(bad, [], [], 1)
                raised[i] = str(caught.value)
            assert raised[0] == raised[1]
