"""PEP 3333 over real sockets: environ, start_response, bodies and their ends."""

import contextlib
import sys
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest
import roving
from serving import Application, Environ, Serving, StartResponse, plain, request
from serving import quiet_log as quiet_log

pytestmark = pytest.mark.usefixtures("quiet_log")


TEXT = [("Content-Type", "text/plain")]


def environ_of(data: bytes, **options: Any) -> Environ:
    """Send a request, and give the environ it makes."""
    seen: list[Environ] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append(dict(environ))
        return plain()(environ, start_response)  # type: ignore[return-value]

    with Serving(application, **options) as server, contextlib.closing(server.client()) as client:
        client.send(data)
        assert client.response().status == 200
        assert seen[0]["SERVER_PORT"] == str(server.handle.port)
        return seen[0]


def test_environ() -> None:
    """All that PEP 3333 asks for, and of the right types."""
    environ = environ_of(
        b"POST /caf%C3%A9/a%2Fb;c?x=%41&y HTTP/1.1\r\nHost: shop:80\r\nContent-Type: text/plain\r\n"
        b"Content-Length: 2\r\nAccept: a\r\nX-Twice: 1\r\nACCEPT: b\r\nx-twice: 2\r\nCookie: a=1\r\n"
        b"Cookie: b=2\r\nProxy: evil\r\nX_Under: 1\r\nX-Latin: \xe9\r\n\r\nhi"
    )
    expected = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "",
        "PATH_INFO": "/caf\xc3\xa9/a/b;c",
        "QUERY_STRING": "x=%41&y",
        "RAW_URI": "/caf%C3%A9/a%2Fb;c?x=%41&y",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_NAME": "127.0.0.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "text/plain",
        "CONTENT_LENGTH": "2",
        "HTTP_HOST": "shop:80",
        "HTTP_ACCEPT": "a,b",
        "HTTP_X_TWICE": "1,2",
        "HTTP_COOKIE": "a=1; b=2",
        "HTTP_X_LATIN": "\xe9",
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "http",
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
    }
    assert {name: environ.get(name) for name in expected} == expected
    assert type(environ["wsgi.version"]) is tuple
    assert not {"HTTP_PROXY", "HTTP_X_UNDER", "HTTP_CONTENT_TYPE", "HTTP_CONTENT_LENGTH"} & set(environ)
    assert int(environ["REMOTE_PORT"]) > 0


def test_environ_of_a_bare_request() -> None:
    """Neither a query nor fields: they are empty, or not there."""
    environ = environ_of(b"GET / HTTP/1.0\r\n\r\n")
    assert environ["QUERY_STRING"] == ""
    assert environ["SERVER_PROTOCOL"] == "HTTP/1.0"
    assert "CONTENT_TYPE" not in environ
    assert "HTTP_HOST" not in environ


def test_environs_are_their_own() -> None:
    """What one application writes into its environ is not seen by the next request."""
    seen = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        seen.append("mine" in environ)
        environ["mine"] = environ["HTTP_X"] = 1
        environ.pop("wsgi.errors")
        start_response("200 OK", TEXT)
        return []

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        for _ in range(10):
            assert client.get().status == 200
    assert seen == [False] * 10


def test_an_absolute_target() -> None:
    """As one to the path; Host says the same, or the request is refused."""
    environ = environ_of(b"GET http://example.org:81/a?b HTTP/1.1\r\nHost: example.org:81\r\n\r\n")
    assert (environ["HTTP_HOST"], environ["PATH_INFO"], environ["QUERY_STRING"]) == (
        "example.org:81",
        "/a",
        "b",
    )


def test_the_server_as_a_whole() -> None:
    """`OPTIONS *` has no path."""
    assert environ_of(b"OPTIONS * HTTP/1.1\r\nHost: example.org\r\n\r\n")["PATH_INFO"] == ""


@pytest.mark.parametrize(
    ("path", "script", "rest"),
    [("/app/x", "/app", "/x"), ("/app", "/app", ""), ("/apple", "", "/apple"), ("/%61pp/", "/app", "/")],
)
def test_root_path(path: str, script: str, rest: str) -> None:
    """Where the application is mounted is taken from the path."""
    environ = environ_of(request(path), root_path="/app")
    assert (environ["SCRIPT_NAME"], environ["PATH_INFO"]) == (script, rest)


def test_percent_signs_that_say_nothing_stay() -> None:
    """In a query, which browsers send as it was typed; in a path they are refused."""
    assert environ_of(request("/?100%/%zz/%4"))["QUERY_STRING"] == "100%/%zz/%4"


def checked(application: Application) -> Application:
    """Have wsgiref check both sides."""
    return validator(application)


def everything(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
    """Use all of WSGI that there is."""
    source = environ["wsgi.input"]
    parts = [source.readline(), source.read(3), *source.readlines(4), *source]
    environ["wsgi.errors"].write("noted\n")
    environ["wsgi.errors"].flush()
    start_response("200 OK", [*TEXT, ("X-Parts", str(len(parts)))])
    yield b"|".join(parts)
    yield b""
    yield b"end"


def test_the_validator_is_content() -> None:
    """It checks environ, input, errors, start_response, the iterable and its close."""
    body = b"one\ntwo\nthree\nfour\nfive"
    with Serving(checked(everything)) as server:
        for _ in range(3):
            found = server.get("/path?query", "Content-Type: text/plain", method="POST", body=body)
            assert (found.status, found.body) == (200, b"one\n|two|\n|three\n|four\n|fiveend")
        assert server.logged(3) == ["noted"] * 3


def test_the_validator_sees_what_is_wrong() -> None:
    """Else the test above would prove little."""

    def wrong(environ: Environ, start_response: StartResponse) -> list[bytes]:
        start_response("200 OK", [*TEXT, ("X-Wrong-", "a")])
        return [b""]

    with Serving(checked(wrong)) as server:
        assert server.get().status == 500
        assert "AssertionError" in server.logged()[0]


# What an application gives back: what the client then has.
BODIES: dict[str, tuple[Any, bytes]] = {
    "a list of one": ([b"abc"], b"abc"),
    "a list of some": ([b"a", b"", b"bc"], b"abc"),
    "a tuple": ((b"a", b"bc"), b"abc"),
    "an empty list": ([], b""),
    "a list of nothing": ([b""], b""),
    "a large one": ([b"x" * 1_000_000], b"x" * 1_000_000),
    "many": ([b"x" * 1000] * 1000, b"x" * 1_000_000),
    "a set": ({b"abc"}, b"abc"),
}


@pytest.mark.parametrize("what", BODIES)
@pytest.mark.parametrize("announced", [True, False])
def test_bodies(what: str, announced: bool) -> None:
    """Whole, whatever they are in, with and without a length that the application says."""
    body, expected = BODIES[what]

    def application(environ: Environ, start_response: StartResponse) -> Any:
        length = [("Content-Length", str(len(expected)))] if announced else []
        start_response("200 OK", [*TEXT, *length])
        return body

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        for _ in range(2):
            found = client.get()
            assert (found.status, found.body, found.whole) == (200, expected, True)
            if announced or what == "a list of one":
                assert found["content-length"] == str(len(expected))
        assert client.get(method="HEAD").body == b""
        assert client.get().body == expected


class Watched:
    """An iterable that notes when it is asked and closed."""

    def __init__(self, *chunks: Any, error: BaseException | None = None) -> None:
        """Give these, then raise or end."""
        self.chunks = chunks
        self.error = error
        self.given = 0
        self.closed = 0

    def __iter__(self) -> Iterator[bytes]:
        """Give the chunks."""
        for chunk in self.chunks:
            self.given += 1
            yield chunk
        if self.error is not None:
            raise self.error

    def close(self) -> None:
        """Note it."""
        self.closed += 1


def watched(iterable: Watched, status: str = "200 OK", *headers: tuple[str, str]) -> Application:
    """Make an application that gives this back."""

    def application(environ: Environ, start_response: StartResponse) -> Watched:
        start_response(status, [*TEXT, *headers])
        return iterable

    return application


def test_an_iterable_is_streamed_and_closed() -> None:
    """In chunks, since nobody knows its length; a 1.0 client is told by the end of the connection."""
    iterable = Watched(b"a", b"", b"bc")
    with Serving(watched(iterable)) as server:
        found = server.get()
        assert (found.body, found["transfer-encoding"], found.whole) == (b"abc", "chunked", True)
        with contextlib.closing(server.client()) as client:
            client.send(b"GET / HTTP/1.0\r\n\r\n")
            old = client.response()
            assert (old.body, old.all("transfer-encoding"), old.all("content-length")) == (b"abc", [], [])
    assert (iterable.given, iterable.closed) == (6, 2)


@pytest.mark.parametrize("status", ["204 No Content", "304 Not Modified"])
def test_responses_without_a_body(status: str) -> None:
    """Whatever the application gives is not sent, and the connection goes on; it is closed all the same."""
    iterable = Watched(b"abc")
    with Serving(watched(iterable, status)) as server, contextlib.closing(server.client()) as client:
        for _ in range(2):
            found = client.get()
            assert (found.status, found.all("transfer-encoding")) == (int(status[:3]), [])
            assert not found.all("content-length")
    assert iterable.closed == 2


def test_head() -> None:
    """The head that GET would have, and no body; an endless one is not even begun on."""
    iterable = Watched(*[b"abc"] * 1000)
    with Serving(watched(iterable, "200 OK", ("Content-Length", "3000"))) as server:
        with contextlib.closing(server.client()) as client:
            assert client.get(method="HEAD")["content-length"] == "3000"
            assert client.get().body == b"abc" * 1000
    assert (iterable.given, iterable.closed) == (1001, 2)
    with Serving(plain(b"12345")) as server:
        assert server.get(method="HEAD")["content-length"] == "5"


def test_write() -> None:
    """The callable that start_response returns, and what is returned after it."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"one ")
        write(b"")
        write(b"two ")
        with pytest.raises(TypeError, match="write takes bytes, not str"):
            write("three")  # type: ignore[arg-type]
        return [b"three"]

    with Serving(application) as server:
        assert server.get().body == b"one two three"


def test_start_response_with_exc_info() -> None:
    """Before the head has gone it begins anew; after, it raises what it was given."""
    raised = []

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        try:
            start_response("200 OK", [("X-First", "1")])
            raise KeyError("first")
        except KeyError:
            start_response("202 Second", [("X-Second", "2")], sys.exc_info())
        yield b"sent"
        try:
            raise IndexError("third")
        except IndexError:
            try:
                start_response("500 Third", [], exc_info=sys.exc_info())
            except IndexError as error:
                raised.append(error)

    with Serving(application) as server:
        found = server.get()
        assert (found.status, found.reason, found.body) == (202, "Second", b"sent")
        assert (found.all("x-first"), found["x-second"]) == ([], "2")
    assert [str(error) for error in raised] == ["third"]


def test_the_reason_is_the_applications() -> None:
    """As is a status that no RFC knows."""
    with Serving(watched(Watched(), "299 Quite\tall right")) as server:
        found = server.get()
        assert (found.status, found.reason) == (299, "Quite\tall right")


def test_fields_go_as_they_are() -> None:
    """Several of a name in their order; those between client and server are the server's own."""
    headers = [
        ("Set-Cookie", "a=1"),
        ("Set-Cookie", "b=2"),
        ("X-Latin", "\xe9"),
        ("Transfer-Encoding", "chunked"),
    ]
    with Serving(watched(Watched(b"a"), "200 OK", *headers, ("Keep-Alive", "7"))) as server:
        found = server.get()
        assert found.all("set-cookie") == ["a=1", "b=2"]
        assert found["x-latin"] == "\xe9"
        assert found.all("keep-alive") == []
        assert found.all("transfer-encoding") == ["chunked"]


@pytest.mark.parametrize("value", ["close", "Close", "Keep-Alive, close"])
def test_the_application_may_close_the_connection(value: str) -> None:
    """By the one thing it may say of it."""
    with Serving(watched(Watched(b"a"), "200 OK", ("Connection", value))) as server:
        with contextlib.closing(server.client()) as client:
            assert client.get()["connection"] == "close"
            assert client.is_closed()


def test_requests_run_in_fibers_of_their_own() -> None:
    """With an id, contexts and locals that no other request sees."""
    import contextvars
    import threading

    variable: contextvars.ContextVar[int] = contextvars.ContextVar("variable")
    local = threading.local()
    seen: list[tuple[Any, bool, bool]] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        fiber = roving.current()
        seen.append((fiber and fiber.id, variable.get(0) == 0, hasattr(local, "mine")))
        variable.set(1)
        local.mine = 1
        roving.sleep(0.001)
        start_response("200 OK", TEXT)
        return [str(variable.get()).encode()]

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        for _ in range(20):
            assert client.get().body == b"1"
    assert len({fiber for fiber, _, _ in seen}) == 20
    assert all(fresh and not stale for _, fresh, stale in seen)
