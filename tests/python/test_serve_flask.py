"""A Flask application: templates, sessions, uploads, streaming, errors, and many requests at once."""

import contextlib
import hashlib
import http.client
import re
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import roving
from serving import WAIT, Application, Serving
from serving import quiet_log as quiet_log

flask: Any = pytest.importorskip("flask")
pytestmark = pytest.mark.usefixtures("quiet_log")

TEMPLATE = """\
{% macro item(text) %}<li>{{ text }}</li>{% endmacro -%}
<h1>{{ title }}</h1><ul>{% for text in items %}{{ item(text) }}{% endfor %}</ul>"""


def make() -> Any:
    """Make the application."""
    app = flask.Flask("shop")
    app.secret_key = "key"

    @app.get("/page/<title>")
    def page(title: str) -> Any:
        return flask.render_template_string(TEMPLATE, title=title, items=flask.request.args.getlist("item"))

    @app.get("/count")
    def count() -> Any:
        flask.session["count"] = flask.session.get("count", 0) + 1
        return {"count": flask.session["count"]}

    @app.post("/upload")
    def upload() -> Any:
        file = flask.request.files["file"]
        digest = hashlib.sha256()
        size = 0
        while block := file.stream.read(65536):
            digest.update(block)
            size += len(block)
        return {
            "name": file.filename,
            "size": size,
            "sha256": digest.hexdigest(),
            "form": flask.request.form["note"],
        }

    @app.post("/json")
    def json() -> Any:
        return {"got": flask.request.get_json()}

    @app.get("/stream")
    def stream() -> Any:
        @flask.stream_with_context
        def parts() -> Iterator[str]:
            for number in range(5):
                roving.sleep(0.001)
                yield f"{flask.request.args['word']} {number}\n"

        return flask.Response(parts(), mimetype="text/plain")

    @app.get("/file")
    def file() -> Any:
        return flask.send_file(__file__, conditional=True)

    @app.get("/fail")
    def fail() -> Any:
        raise LookupError("on purpose")

    @app.get("/context/<number>")
    def context(number: str) -> Any:
        flask.g.number = number
        seen = []
        for _ in range(5):
            roving.sleep(0.001)
            seen.append((flask.g.number, flask.request.path, flask.request.headers["X-Number"]))
        return {"ok": seen == [(number, f"/context/{number}", number)] * 5}

    return app


@pytest.fixture
def server() -> Iterator[Serving]:
    """Serve it."""
    application: Application = make()
    with Serving(application) as running:
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


def test_sessions(server: Serving) -> None:
    """Cookies go both ways."""
    with connect(server) as connection:
        cookie = ""
        for count in range(1, 4):
            connection.request("GET", "/count", headers={"Cookie": cookie} if cookie else {})
            response = connection.getresponse()
            assert response.read() == b'{"count":%d}\n' % count
            cookie = str(response.getheader("Set-Cookie")).partition(";")[0]


@pytest.mark.parametrize("way", ["length", "chunked"])
def test_uploads(server: Serving, way: str) -> None:
    """Multipart, of some size, with a length and without."""
    data = bytes(range(256)) * 20_000
    body = (
        b'--b\r\nContent-Disposition: form-data; name="note"\r\n\r\nhi\r\n'
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        + data
        + b"\r\n--b--\r\n"
    )
    headers = {"Content-Type": "multipart/form-data; boundary=b"}
    with connect(server) as connection:
        if way == "chunked":
            pieces = (body[at : at + 50_000] for at in range(0, len(body), 50_000))
            connection.request("POST", "/upload", pieces, headers, encode_chunked=True)
        else:
            connection.request("POST", "/upload", body, headers)
        text = connection.getresponse().read()
    found = flask.json.loads(text)
    assert found == {
        "name": "a.bin",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
        "form": "hi",
    }


def test_json_and_errors(server: Serving) -> None:
    """Flask's own answers to what is wrong."""
    with connect(server) as connection:
        for body, status in ((b'{"a": [1]}', 200), (b"{", 400)):
            connection.request("POST", "/json", body, {"Content-Type": "application/json"})
            response = connection.getresponse()
            assert (response.status, b'"a"' in response.read()) == (status, status == 200)
        for path, status in (("/nowhere", 404), ("/fail", 500), ("/upload", 405)):
            connection.request("GET", path)
            response = connection.getresponse()
            response.read()
            assert response.status == status


def test_streaming(server: Serving) -> None:
    """In chunks, in the context of the request."""
    with connect(server) as connection:
        connection.request("GET", "/stream?word=tick")
        response = connection.getresponse()
        assert response.getheader("Transfer-Encoding") == "chunked"
        assert response.read() == b"".join(b"tick %d\n" % number for number in range(5))


def test_files(server: Serving) -> None:
    """Whole, in part, not at all when they have not changed, and their heads."""
    with open(__file__, "rb") as source:
        expected = source.read()
    with connect(server) as connection:
        connection.request("GET", "/file")
        response = connection.getresponse()
        assert response.read() == expected
        tag = str(response.getheader("ETag"))
        connection.request("GET", "/file", headers={"Range": "bytes=10-19"})
        response = connection.getresponse()
        assert (response.status, response.read()) == (206, expected[10:20])
        connection.request("GET", "/file", headers={"If-None-Match": tag})
        response = connection.getresponse()
        assert (response.status, response.read()) == (304, b"")
        connection.request("HEAD", "/file")
        response = connection.getresponse()
        assert (response.getheader("Content-Length"), response.read()) == (str(len(expected)), b"")


def test_requests_do_not_see_one_another(server: Serving) -> None:
    """Contexts, globals and sessions of many at once."""
    failures: list[str] = []

    def ask(number: int) -> None:
        with connect(server) as connection:
            for round_ in range(10):
                name = f"{number}-{round_}"
                connection.request("GET", f"/context/{name}", headers={"X-Number": name})
                if connection.getresponse().read() != b'{"ok":true}\n':
                    failures.append(name)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(WAIT)
        assert not thread.is_alive()
    assert not failures
    assert not [line for line in server.log if re.search("Traceback", line.getMessage())]
