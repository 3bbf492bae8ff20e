"""`--thread-locals pooled`: values of threading.local outlive their request, for others after it."""

import contextlib
import contextvars
import gc
import sqlite3
import threading
import weakref
from collections.abc import Callable
from typing import Any

import child
import pytest
import roving
from serving import Environ, Serving, StartResponse, quiet_log, request

__all__ = ["quiet_log"]


class Client:
    """What an application keeps per thread: a connection of sqlite3's, and whose it is."""

    def __init__(self) -> None:
        """Connect, and note who did."""
        # It checks the system's thread itself, but then nobody else may close it.
        self.database = sqlite3.connect(":memory:", check_same_thread=False)
        self.ident = threading.get_ident()
        self.thread = threading.get_native_id()
        self.cycle = self
        self.users = 0

    def __del__(self) -> None:
        """Close it."""
        self.database.close()


def application(use: Callable[[Client], object]) -> tuple[Any, list[weakref.ref[Client]]]:
    """Make an application with a client per thread, and the list of clients that were made."""
    local = threading.local()
    made: list[weakref.ref[Client]] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        client = getattr(local, "client", None)
        if client is None:
            client = local.client = Client()
            made.append(weakref.ref(client))
        client.users += 1
        assert client.users == 1
        # As Django checks, and as sqlite3 does.
        assert (client.ident, client.thread) == (threading.get_ident(), threading.get_native_id())
        client.database.execute("select 1")
        use(client)
        assert local.client is client
        client.users -= 1
        start_response("200 OK", [])
        return [str(id(client)).encode()]

    return app, made


def alive(made: list[weakref.ref[Client]]) -> int:
    """Count those that there are still."""
    # What goes on another thread than its own is merged by a collection, and so on down to the client.
    for _ in range(4):
        gc.collect()
    return sum(each() is not None for each in made)


def test_a_client_is_used_again() -> None:
    """By request after request; contexts and fibers are each request's own all the same."""
    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    seen: list[tuple[Any, ...]] = []

    def use(client: Client) -> None:
        fiber = roving.current()
        seen.append((fiber and fiber.id, variable.get(0), threading.current_thread()))
        variable.set(1)
        roving.yield_now()

    app, made = application(use)
    with Serving(app, thread_locals="pooled") as server:
        with contextlib.closing(server.client()) as client:
            for _ in range(50):
                assert client.get().status == 200
                gc.collect()
        # One for each worker that has answered.
        workers = roving.stats()["workers"]
        assert 1 <= len(made) <= workers
        assert alive(made) == len(made)
        assert server.handle.close()
        assert alive(made) == 0
    assert len({fiber for fiber, _, _ in seen}) == 50
    assert {value for _, value, _ in seen} == {0}
    assert len({id(thread) for _, _, thread in seen}) <= workers


def test_no_two_requests_have_the_same(quiet_log: None) -> None:
    """Each of many at once has its own; those after them have one of theirs."""
    count = 40
    inside, gate = threading.Semaphore(0), threading.Event()

    def use(client: Client) -> None:
        inside.release()
        gate.wait()
        client.database.execute("select 1")

    app, made = application(use)
    with Serving(app, thread_locals="pooled") as server, contextlib.ExitStack() as stack:
        for round in range(3):
            gate.clear()
            clients = [stack.enter_context(contextlib.closing(server.client())) for _ in range(count)]
            for client in clients:
                client.send(request())
            for _ in clients:
                assert inside.acquire(timeout=20)
            gate.set()
            used = {client.response().body for client in clients}
            assert len(used) == count, round
        # By the second round each worker may have had to answer all of them.
        assert count <= len(made) <= count * roving.stats()["workers"]
        assert server.log == []
        assert alive(made) <= 64


def test_only_so_many_are_kept() -> None:
    """Of more, those that were not used for longest go; none is kept when the server has ended."""
    count = 10
    inside, gate = threading.Semaphore(0), threading.Event()

    def use(client: Client) -> None:
        inside.release()
        gate.wait()

    app, made = application(use)
    with (
        Serving(app, thread_locals="pooled", thread_locals_kept=2) as server,
        contextlib.ExitStack() as stack,
    ):
        clients = [stack.enter_context(contextlib.closing(server.client())) for _ in range(count)]
        for client in clients:
            client.send(request("/", "Connection: close"))
        for _ in clients:
            assert inside.acquire(timeout=20)
        gate.set()
        for client in clients:
            assert client.response().status == 200
        assert server.handle.close()
        assert len(made) == count
        assert alive(made) == 0


def test_what_goes_may_wait() -> None:
    """A destructor that parks, with thread-locals of its own, is not taken for the next request."""
    child.check(
        """
        from http.client import HTTPConnection
        local = threading.local()
        idents = []
        inside, leave, waits, gate = (threading.Event() for _ in range(4))

        class Slow:
            def __del__(self):
                idents.append(threading.get_ident())
                local.other = not hasattr(local, "kept")
                waits.set()
                gate.wait()
                idents.append(threading.get_ident() if local.other else 0)

        def app(environ, start_response):
            start_response("200 OK", [])
            if environ["PATH_INFO"] == "/slow":
                local.slow = Slow()
            elif environ["PATH_INFO"] == "/hold":
                local.kept = True
                inside.set()
                leave.wait()
            return [str(threading.get_ident()).encode()]

        server = roving.serve(app, bind="127.0.0.1:0", thread_locals="pooled", thread_locals_kept=1)
        slow, hold, last = (HTTPConnection("127.0.0.1", server.port, timeout=20) for _ in range(3))
        def read(connection):
            return int(connection.getresponse().read())
        hold.request("GET", "/hold")
        assert inside.wait(20)
        slow.request("GET", "/slow")
        found = [read(slow)]
        # There is room for one: that of the first goes, in the fiber of the second.
        leave.set()
        found.append(read(hold))
        assert waits.wait(20)
        last.request("GET", "/")
        found.append(read(last))
        assert found[2] == found[1] != found[0], found
        gate.set()
        assert server.close()
        for fiber in roving.fibers():
            assert fiber.wait(20)
        assert len(idents) == 2 and idents[0] == idents[1], idents
        assert idents[0] not in found
        print("ok")
        """,
        workers=1,
    )


def test_a_request_that_raises_gives_its_own_back(quiet_log: None) -> None:
    """Whatever the application has come to."""
    local = threading.local()
    made: list[int] = []

    def app(environ: Environ, start_response: StartResponse) -> list[bytes]:
        if not hasattr(local, "number"):
            local.number = len(made)
            made.append(local.number)
        raise KeyError("missing")

    with Serving(app, thread_locals="pooled") as server, contextlib.closing(server.client()) as client:
        for _ in range(20):
            assert client.get().status == 500
        # A response comes before its fiber gives back what it has: the next request may be too early.
        assert 1 <= len(made) < 20


def test_without_it_they_end_with_the_request() -> None:
    """Which is the default, and may be asked for."""
    app, made = application(lambda client: None)
    for options in ({}, {"thread_locals": "request"}):
        made.clear()
        with Serving(app, **options) as server, contextlib.closing(server.client()) as client:
            for _ in range(5):
                assert client.get().status == 200
            assert len(made) == 5


def test_what_makes_no_sense_is_refused() -> None:
    """With what would."""
    app, _ = application(lambda client: None)
    for options, what in (
        ({"thread_locals": "forever"}, "must be request or pooled"),
        ({"thread_locals_kept": 3}, "only with thread_locals"),
        ({"thread_locals": "pooled", "thread_locals_kept": 0}, "must be from 1 on"),
    ):
        with pytest.raises(ValueError, match=what):
            roving.serve(app, bind="127.0.0.1:0", **options)
