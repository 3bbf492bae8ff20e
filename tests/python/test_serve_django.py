"""A Django site under `roving serve`; nothing goes from request to request."""

import contextlib
import hashlib
import http.client
import json
import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from serving import WAIT

pytest.importorskip("django")


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory) -> Iterator[int]:
    """Run it in a process of its own, as its users do: settings are a process's."""
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "roving", "serve", "--factory", "django_site:create"]
    command += ["--bind", "127.0.0.1:0", "--app-dir", str(Path(__file__).parent)]
    environment = {**os.environ, "SITE_DATABASE": str(folder / "database")}
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr is not None
    log = ""
    while not (found := re.search(r" on 127\.0\.0\.1:(\d+)", log)):
        line = process.stderr.readline()
        assert line, log
        log += line
    lines: list[str] = []
    reader = threading.Thread(target=lambda: lines.extend(process.stderr or ()))
    reader.start()
    yield int(found[1])
    process.send_signal(signal.SIGTERM)
    assert process.wait(WAIT) == 0
    reader.join()
    process.stderr.close()
    # One failure is on purpose, and logged by Django itself.
    assert "LookupError: on purpose" in "".join(lines)


def ask(
    port: int, path: str, body: bytes | None = None, headers: dict[str, str] | None = None
) -> tuple[http.client.HTTPResponse, bytes]:
    """Make a request of its own connection."""
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    with contextlib.closing(connection):
        connection.request("POST" if body is not None else "GET", path, body, headers or {})
        response = connection.getresponse()
        return response, response.read()


def crowd(port: int, paths: list[str], threads: int = 16) -> list[tuple[int, Any]]:
    """Ask for all of them, many at once; give status and JSON of each."""
    found: list[tuple[int, Any] | None] = [None] * len(paths)

    def work(first: int) -> None:
        for index in range(first, len(paths), threads):
            response, text = ask(port, paths[index])
            found[index] = response.status, json.loads(text)

    workers = [threading.Thread(target=work, args=(first,)) for first in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert None not in found
    return [each for each in found if each is not None]


def test_pages(port: int) -> None:
    """Templates, and middleware's headers."""
    response, text = ask(port, "/page/a%26b")
    assert text == b"<p>a&amp;b: 0 1 2 </p>"
    assert response.getheader("X-Path") == "/page/a&b"


def test_transactions(port: int) -> None:
    """Many requests add to the same rows; those that fail are rolled back."""
    paths = [f"/add/row{n % 3}" + ("?fail=1" if n % 5 == 0 else "") for n in range(90)]
    answers = crowd(port, paths)
    assert [status for status, _ in answers] == [409 if n % 5 == 0 else 200 for n in range(90)]
    _, text = ask(port, "/counts")
    found = json.loads(text)
    assert {name: found[name] for name in ("row0", "row1", "row2")} == {"row0": 24, "row1": 24, "row2": 24}


def test_nothing_goes_from_request_to_request(port: int) -> None:
    """Languages, time zones, database connections and thread-locals are each request's own."""
    answers = crowd(port, [f"/state/{n}" for n in range(100)], threads=25)
    assert all(status == 200 and found["ok"] for status, found in answers), answers


def test_sessions(port: int) -> None:
    """In the database."""
    cookie = ""
    for visits in range(1, 4):
        response, text = ask(port, "/visits", headers={"Cookie": cookie} if cookie else {})
        assert json.loads(text) == {"visits": visits}
        cookie = str(response.getheader("Set-Cookie")).partition(";")[0]


def test_streaming(port: int) -> None:
    """From a cursor, which is open while the response goes out."""
    crowd(port, [f"/add/stream{n}" for n in range(7)])
    response, text = ask(port, "/stream")
    assert response.getheader("Transfer-Encoding") == "chunked"
    assert [line for line in text.decode().splitlines() if line.startswith("stream")] == [
        f"stream{n}=1" for n in range(7)
    ]


def test_uploads(port: int) -> None:
    """Large enough to go to a file."""
    data = bytes(range(256)) * 8_000
    body = (
        b'--b\r\nContent-Disposition: form-data; name="file"; filename="a.bin"\r\n\r\n'
        + data
        + b"\r\n--b--\r\n"
    )
    _, text = ask(port, "/upload", body, {"Content-Type": "multipart/form-data; boundary=b"})
    assert json.loads(text) == {
        "name": "a.bin",
        "size": len(data),
        "sha256": hashlib.sha256(data).hexdigest(),
    }


def test_failures(port: int) -> None:
    """Django's own page for them, and the next request is well."""
    response, _ = ask(port, "/fail")
    assert response.status == 500
    assert ask(port, "/page/a")[0].status == 200
