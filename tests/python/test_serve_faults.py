"""Applications that are wrong: the client is told, the log names the fault, and the server goes on."""

import contextlib
import logging
import re
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import roving
from serving import Environ, Serving, StartResponse, plain
from serving import quiet_log as quiet_log
from test_serve_wsgi import TEXT, Watched, watched

pytestmark = pytest.mark.usefixtures("quiet_log")


def starts(status: Any, headers: Any = TEXT, body: Any = ()) -> Callable[..., Any]:
    """Make an application that calls start_response with this."""

    def application(environ: Environ, start_response: StartResponse) -> Any:
        start_response(status, headers)
        return body

    return application


def twice(environ: Environ, start_response: StartResponse) -> list[bytes]:
    """Call start_response again, for no reason."""
    start_response("200 OK", TEXT)
    start_response("200 OK", TEXT)
    return []


# The application: what the log says of it.
FAULTS: dict[str, tuple[Any, str]] = {
    "raises": (lambda *_: 1 / 0, "ZeroDivisionError"),
    "exits": (lambda *_: exec("raise SystemExit(3)"), "SystemExit"),
    "takes nothing": (lambda: [], "takes 0 positional arguments"),
    "returns None": (starts("200 OK", TEXT, None), "must return an iterable of bytes, and returned NoneType"),
    "returns text": (starts("200 OK", TEXT, "abc"), "must be of bytes, and has str"),
    "returns bytes": (starts("200 OK", TEXT, b"abc"), "must be of bytes, and has int"),
    "has text in its list": (starts("200 OK", TEXT, ["abc"]), "must be of bytes, and has str"),
    "has None in its list": (starts("200 OK", TEXT, [None]), "must be of bytes, and has NoneType"),
    "raises at once": (starts("200 OK", TEXT, Watched(error=KeyError("x"))), "KeyError"),
    "never starts": (lambda *_: [b"abc"], "without having called start_response"),
    "never starts, and streams": (lambda *_: iter([b"abc"]), "without having called start_response"),
    "never starts, and has nothing": (lambda *_: iter([]), "without having called start_response"),
    "starts twice": (twice, "called again, without exc_info"),
    "has a status of bytes": (
        starts(b"200 OK"),
        "the status given to start_response must be a str, not bytes",
    ),
    "has a number for a status": (starts(200), "must be a str, not int"),
    "has an odd status": (starts("OK"), 'must be three digits, a space and a reason, and is "OK"'),
    "has a long status": (starts("2000 OK"), "three digits"),
    "has a status of 0": (starts("000 Zero"), "three digits"),
    "has a status that injects": (starts("200 OK\r\nX: y"), "three digits"),
    "has an informational status": (starts("100 Continue"), "must be a final one"),
    "switches protocols": (starts("101 Switching Protocols"), "must be a final one"),
    "has a dict of headers": (
        starts("200 OK", {"a": "b"}),
        "the headers given to start_response must be a list",
    ),
    "has None for headers": (starts("200 OK", None), "must be a list, not NoneType"),
    "has a list in its headers": (starts("200 OK", [["a", "b"]]), "a tuple of two str, not list"),
    "has three in a header": (starts("200 OK", [("a", "b", "c")]), "this has 3 items"),
    "has bytes in a header": (
        starts("200 OK", [("a", b"b")]),
        "value given to start_response must be a str, not bytes",
    ),
    "has a name of bytes": (
        starts("200 OK", [(b"a", "b")]),
        "name given to start_response must be a str, not bytes",
    ),
    "has an empty name": (starts("200 OK", [("", "b")]), '"" as a header\'s name'),
    "has a space in a name": (starts("200 OK", [("a b", "c")]), '"a b" as a header\'s name'),
    "has a colon in a name": (starts("200 OK", [("a:", "c")]), "as a header's name"),
    "injects by a name": (starts("200 OK", [("a\r\nb", "c")]), "as a header's name"),
    "injects by a value": (starts("200 OK", [("a", "b\r\nSet-Cookie: c")]), "no line breaks"),
    "injects by LF": (starts("200 OK", [("a", "b\nc")]), "no line breaks"),
    "has a zero in a value": (starts("200 OK", [("a", "b\0c")]), "printable characters"),
    "has a euro in a value": (starts("200 OK", [("a", "\u20ac")]), "of Latin-1"),
    "has a surrogate in a value": (starts("200 OK", [("a", "\udc80")]), "of Latin-1"),
    "has a length in words": (starts("200 OK", [("Content-Length", "five")]), "is no number"),
    "has a negative length": (starts("200 OK", [("Content-Length", "-5")]), "is no number"),
    "has a signed length": (starts("200 OK", [("Content-Length", "+5")], [b"12345"]), "is no number"),
    "has two lengths": (
        starts("200 OK", [("Content-Length", "5"), ("Content-Length", "6")], [b"12345"]),
        "two different values of Content-Length",
    ),
    "promises too much": (
        starts("200 OK", [("Content-Length", "5")], [b"abc"]),
        "says 5 bytes, and the body has 3",
    ),
    "promises too little": (
        starts("200 OK", [("Content-Length", "2")], [b"abc"]),
        "says 2 bytes, and the body has 3",
    ),
    "promises, and has nothing": (starts("200 OK", [("Content-Length", "5")], iter([])), "there is no body"),
}


@pytest.mark.parametrize("what", FAULTS)
def test_faults_before_anything_is_sent(what: str) -> None:
    """The client gets 500, the log says why and of which request, and the connection goes on."""
    application, text = FAULTS[what]
    asked = []

    def first_time(environ: Environ, start_response: StartResponse) -> Any:
        asked.append(1)
        return (application if len(asked) == 1 else plain())(environ, start_response)

    with Serving(application if what == "takes nothing" else first_time) as server:
        with contextlib.closing(server.client()) as client:
            found = client.get("/fault?x")
            assert (found.status, found.body) == (500, b"Internal Server Error\n")
            assert not found.all("set-cookie")
            logged = server.logged()[0]
            assert "GET /fault?x" in logged
            assert text in logged
            if what != "takes nothing":
                assert client.get().body == b"hello"


def test_a_traceback_begins_with_the_applications_frames() -> None:
    """Ours would say nothing."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        raise KeyError("reason")

    with Serving(application) as server:
        assert server.get().status == 500
        _, trace, first = server.logged()[0].splitlines()[:3]
    assert trace.startswith("Traceback")
    assert "in application" in first


@pytest.mark.parametrize("announced", [True, False])
def test_a_response_that_breaks_off(announced: bool) -> None:
    """The client must see that something is missing; the iterable is closed."""
    iterable = Watched(b"abc", error=KeyError("late"))
    length = [("Content-Length", "10")] if announced else []
    with Serving(watched(iterable, "200 OK", *length)) as server:
        with contextlib.closing(server.client()) as client:
            found = client.get()
            assert not found.whole
            assert client.is_closed()
        assert "KeyError: 'late'" in server.logged()[0]
    assert iterable.closed == 1


def test_a_body_that_is_too_short() -> None:
    """The client sees it as well."""
    with Serving(watched(Watched(b"abc"), "200 OK", ("Content-Length", "10"))) as server:
        with contextlib.closing(server.client()) as client:
            assert not client.get().whole
            assert client.is_closed()
        assert "7 bytes shorter than its Content-Length" in server.logged()[0]


@pytest.mark.parametrize("chunks", [[b"abcdef"], [b"ab", b"cd", b"ef"], [b"abc", b"def"]])
def test_a_body_that_is_too_long(chunks: list[bytes]) -> None:
    """What was promised is sent, and no more: the next response begins where it should."""
    iterable = Watched(*chunks)
    with Serving(watched(iterable, "200 OK", ("Content-Length", "3"))) as server:
        with contextlib.closing(server.client()) as client:
            for count in (1, 2):
                assert client.get().body == b"abc"
                assert "longer than its Content-Length" in server.logged(count)[-1]
    assert iterable.closed == 2


def test_a_close_that_raises() -> None:
    """The response has been sent; the log tells."""

    class Raises(Watched):
        def close(self) -> None:
            raise OSError("in close")

    with Serving(watched(Raises(b"abc"))) as server, contextlib.closing(server.client()) as client:
        assert client.get().body == b"abc"
        assert "OSError: in close" in server.logged()[0]
        assert client.get().body == b"abc"


def test_an_error_and_a_close_that_raises() -> None:
    """The error is what counts."""

    class Raises(Watched):
        def close(self) -> None:
            self.closed += 1
            raise OSError("in close")

    iterable = Raises(error=KeyError("first"))
    with Serving(watched(iterable)) as server:
        assert server.get().status == 500
        assert "KeyError: 'first'" in server.logged()[0]
    assert iterable.closed == 1


def test_a_generator_is_closed() -> None:
    """Its finally block runs, and may wait."""
    ended = roving.Event()

    def application(environ: Environ, start_response: StartResponse) -> Iterator[bytes]:
        try:
            start_response("200 OK", TEXT)
            yield b"a"
            yield "b"  # type: ignore[misc]
        finally:
            roving.sleep(0.001)
            ended.set()

    with Serving(application) as server:
        assert not server.get().whole
        assert ended.wait(20)


def test_a_deep_recursion_is_an_error_like_others() -> None:
    """On the stack of a fiber."""

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        return application(environ, start_response)

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        for count in (1, 2):
            assert client.get().status == 500
            assert "RecursionError" in server.logged(count)[-1]


def test_what_a_request_leaves_behind_is_of_no_use() -> None:
    """start_response, write and input that outlive their request do nothing to others."""
    kept: list[Any] = []

    def application(environ: Environ, start_response: StartResponse) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        kept.extend([start_response, write, environ["wsgi.input"]])
        return [b"hello"]

    with Serving(application) as server, contextlib.closing(server.client()) as client:
        assert client.get().body == b"hello"
        start_response, write, source = kept[:3]
        roving.spawn(roving.sleep, 0.0).join()
        with pytest.raises(RuntimeError, match="it is over"):
            write(b"more")
        with pytest.raises(AssertionError, match="called again"):
            start_response("200 OK", [])
        with pytest.raises(RuntimeError, match="is over"):
            source.read()
        assert client.get().body == b"hello"


@pytest.mark.parametrize(
    ("options", "kind", "text"),
    [
        ({"limit_concurency": 3}, TypeError, "no option limit_concurency; did you mean limit_concurrency"),
        ({"limit_concurrency": 0}, ValueError, "limit_concurrency must be from 1 on, and is 0"),
        ({"keep_alive": "5"}, TypeError, "keep_alive must be a number of seconds, not str"),
        ({"keep_alive": -1}, ValueError, "keep_alive must not be negative"),
        ({"date_header": 1}, TypeError, "date_header must be True or False, not int"),
        ({"root_path": "app"}, ValueError, "root_path must begin with a slash"),
        ({"server_header": "a\r\nb"}, ValueError, "the Server header"),
        ({"bind": []}, ValueError, "something to bind to"),
        ({"bind": "127.0.0.1:x"}, ValueError, "'x' is no port"),
        ({"bind": "::1:80"}, ValueError, "stands in brackets"),
        ({"bind": "unix:"}, ValueError, "names no path"),
        ({"bind": "fd://x"}, ValueError, "names no descriptor"),
        ({"bind": "fd://987"}, OSError, "cannot listen on fd://987: Bad file descriptor"),
        ({"bind": "203.0.113.1:80"}, OSError, "cannot listen on 203.0.113.1:80"),
    ],
)
def test_options_that_are_wrong(options: dict[str, Any], kind: type[Exception], text: str) -> None:
    """The message says which, and what would be right."""
    with pytest.raises(kind, match=text):
        roving.serve(plain(), **{"bind": "127.0.0.1:0", **options})


def test_an_application_that_is_none() -> None:
    """Nothing listens afterwards."""
    with pytest.raises(TypeError, match="a WSGI application is a callable, and int is not"):
        roving.serve(3, bind="127.0.0.1:0")


def test_a_port_in_use() -> None:
    """It is named."""
    with (
        Serving(plain()) as server,
        pytest.raises(OSError, match=r"cannot listen on 127.0.0.1:\d+: Address already in use"),
    ):
        roving.serve(plain(), bind=f"127.0.0.1:{server.handle.port}")


def test_the_access_log() -> None:
    """A line for each request, which nothing that a client sends can forge."""

    def application(environ: Environ, start_response: StartResponse) -> Any:
        if environ["PATH_INFO"] == "/raise":
            raise KeyError("x")
        start_response("201 Created", TEXT)
        return iter([b"abc", b"de"]) if environ["PATH_INFO"] == "/stream" else [b"abc"]

    with Serving(application, access_log=True) as server, contextlib.closing(server.client()) as client:
        logging.getLogger("roving.serve").setLevel("INFO")
        client.get("/?q", "User-Agent: me", "Referer: http://there/")
        client.get("/stream", 'User-Agent: a"b\\c\xe9')
        client.get("/raise")
        client.get(method="HEAD")
        lines = [line for line in server.logged(5) if not line.startswith("GET")]
        logging.getLogger("roving.serve").setLevel("NOTSET")
    shape = re.compile(r'127\.0\.0\.1 - - \[\S+ [+-]\d{4}\] "(.*)" (\d+) (\d+) "(.*?)" "(.*)" \d+\.\d{6}')
    found = [match.groups() for line in lines if (match := shape.fullmatch(line))]
    assert found == [
        ("GET /?q HTTP/1.1", "201", "3", "http://there/", "me"),
        ("GET /stream HTTP/1.1", "201", "5", "-", r"a\"b\\c\xe9"),
        ("GET /raise HTTP/1.1", "500", "22", "-", "-"),
        ("HEAD / HTTP/1.1", "201", "0", "-", "-"),
    ]
