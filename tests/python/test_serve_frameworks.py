"""Bottle and Falcon: small applications with templates, streams and uploads, and many requests at once."""

import contextlib
import hashlib
import http.client
import json
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
import roving
from serving import WAIT, Serving
from serving import quiet_log as quiet_log

bottle: Any = pytest.importorskip("bottle")
falcon: Any = pytest.importorskip("falcon")
pytestmark = pytest.mark.usefixtures("quiet_log")

TEMPLATE = "<h1>{{title}}</h1><ul>\\\\\n% for text in items:\n<li>{{text}}</li>\\\\\n% end\n</ul>"


def parts(word: str) -> Iterator[bytes]:
    """Say a word five times, with waits between."""
    for number in range(5):
        roving.sleep(0.001)
        yield f"{word} {number}\n".encode()


def digest(read: Callable[[int], bytes]) -> dict[str, Any]:
    """Read a file in blocks: its size and digest."""
    found, size = hashlib.sha256(), 0
    while block := read(65536):
        found.update(block)
        size += len(block)
    return {"size": size, "sha256": found.hexdigest()}


def make_bottle() -> Any:
    """Make an application with Bottle, whose request and response are thread-locals."""
    app = bottle.Bottle()
    request, response = bottle.request, bottle.response

    @app.get("/page/<title>")
    def page(title: str) -> Any:
        return bottle.template(TEMPLATE, title=title, items=request.query.decode().getall("item"))

    @app.get("/stream")
    def stream() -> Iterator[bytes]:
        response.content_type = "text/plain"
        return parts(request.query["word"])

    @app.post("/upload")
    def upload() -> Any:
        sent = request.files["file"]
        return {"name": sent.filename, "note": request.forms["note"], **digest(sent.file.read)}

    @app.post("/raw")
    def raw() -> Any:
        return digest(request.body.read)

    @app.get("/fail")
    def fail() -> Any:
        raise LookupError("on purpose")

    @app.get("/context/<number>")
    def context(number: str) -> Any:
        seen = []
        response.set_header("X-Number", number)
        for _ in range(5):
            roving.sleep(0.001)
            seen.append((request.path, request.headers["X-Number"], response.get_header("X-Number")))
        return {"ok": seen == [(f"/context/{number}", number, number)] * 5}

    return app


class Page:
    """A page from a template."""

    def on_get(self, request: Any, response: Any, title: str) -> None:
        """Answer."""
        response.content_type = falcon.MEDIA_HTML
        response.text = bottle.template(TEMPLATE, title=title, items=request.get_param_as_list("item"))


class Stream:
    """A stream, and a body that is read as it comes."""

    def on_get(self, request: Any, response: Any) -> None:
        """Answer in parts."""
        response.content_type = falcon.MEDIA_TEXT
        response.stream = parts(request.get_param("word"))

    def on_post(self, request: Any, response: Any) -> None:
        """Take a body."""
        response.media = digest(
            request.bounded_stream.read if request.content_length else request.stream.read
        )


class Upload:
    """A form with a file."""

    def on_post(self, request: Any, response: Any) -> None:
        """Take it."""
        found: dict[str, Any] = {}
        for part in request.get_media():
            if part.name == "file":
                found |= {"name": part.filename, **digest(part.stream.read)}
            else:
                found[part.name] = part.text
        response.media = found


class Context:
    """What belongs to a request, over waits."""

    def on_get(self, request: Any, response: Any, number: str) -> None:
        """Look at it several times."""
        seen = []
        request.context.number = number
        for _ in range(5):
            roving.sleep(0.001)
            seen.append((request.path, request.get_header("X-Number"), request.context.number))
        response.media = {"ok": seen == [(f"/context/{number}", number, number)] * 5}


class Fail:
    """What fails."""

    def on_get(self, request: Any, response: Any) -> None:
        """Fail."""
        raise LookupError("on purpose")


def make_falcon() -> Any:
    """Make the same with Falcon."""
    app = falcon.App()
    # It takes no larger part by default.
    app.req_options.media_handlers[falcon.MEDIA_MULTIPART].parse_options.max_body_part_buffer_size = 1 << 20
    app.add_route("/page/{title}", Page())
    app.add_route("/stream", Stream())
    app.add_route("/raw", Stream())
    app.add_route("/upload", Upload())
    app.add_route("/fail", Fail())
    app.add_route("/context/{number}", Context())
    return app


@pytest.fixture(params=[make_bottle, make_falcon])
def server(request: pytest.FixtureRequest) -> Iterator[Serving]:
    """Serve one of them."""
    with Serving(request.param()) as running:
        yield running


@contextlib.contextmanager
def connect(server: Serving) -> Iterator[http.client.HTTPConnection]:
    """Connect as programs do."""
    connection = http.client.HTTPConnection("127.0.0.1", server.handle.port, timeout=WAIT)
    try:
        yield connection
    finally:
        connection.close()


def test_templates(server: Serving) -> None:
    """With what comes in the path and the query, whatever its alphabet."""
    with connect(server) as connection:
        connection.request("GET", "/page/Caf%C3%A9%20%26?item=%E2%82%AC&item=two")
        body = connection.getresponse().read().decode()
    assert body == "<h1>Café &amp;</h1><ul><li>€</li><li>two</li></ul>"


def test_streams(server: Serving) -> None:
    """In chunks, and the connection goes on behind them."""
    with connect(server) as connection:
        for word in ("tick", "tock"):
            connection.request("GET", f"/stream?word={word}")
            response = connection.getresponse()
            assert response.getheader("Transfer-Encoding") == "chunked"
            assert response.read() == b"".join(b"%s %d\n" % (word.encode(), number) for number in range(5))


DATA = bytes(range(256)) * 20_000


SUM = {"size": len(DATA), "sha256": hashlib.sha256(DATA).hexdigest()}


def test_uploads(server: Serving) -> None:
    """Multipart, and a body as it is."""
    form = (
        b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n'
        b"Content-Type: application/octet-stream\r\n\r\n" + DATA + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with connect(server) as connection:
        connection.request("POST", "/raw", DATA, headers)
        assert json.loads(connection.getresponse().read()) == SUM
        connection.request("POST", "/upload", form, headers)
        assert json.loads(connection.getresponse().read()) == {"name": "a.bin", "note": "hi", **SUM}


def test_uploads_in_chunks() -> None:
    """Falcon takes them as they are. Bottle looks for the chunks in what has been decoded, and refuses."""
    with Serving(make_falcon()) as server, connect(server) as connection:
        pieces = (DATA[at : at + 50_000] for at in range(0, len(DATA), 50_000))
        connection.request("POST", "/raw", pieces, encode_chunked=True)
        assert json.loads(connection.getresponse().read()) == SUM
    with Serving(make_bottle()) as server, connect(server) as connection:
        connection.request("POST", "/raw", iter([b"short"]), encode_chunked=True)
        assert connection.getresponse().status == 400


def test_errors(server: Serving) -> None:
    """Their own answers to what is wrong; the connection goes on."""
    with connect(server) as connection:
        for path, status in (("/nowhere", 404), ("/fail", 500), ("/upload", 405), ("/page/a?item=b", 200)):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_requests_do_not_see_one_another(server: Serving) -> None:
    """What belongs to a request stays with it, over many at once that wait."""
    failures: list[str] = []

    def ask(number: int) -> None:
        with connect(server) as connection:
            for round_ in range(10):
                name = f"{number}-{round_}"
                connection.request("GET", f"/context/{name}", headers={"X-Number": name})
                if json.loads(connection.getresponse().read()) != {"ok": True}:
                    failures.append(name)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert not failures
