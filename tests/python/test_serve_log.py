"""Formats of the access log, and the file it goes to."""

import base64
import contextlib
import json
import os
import re
import time
from pathlib import Path
from typing import Any

import pytest
import roving
from serving import WAIT, Environ, Serving, StartResponse
from serving import quiet_log as quiet_log
from test_serve_admin import metrics

pytestmark = pytest.mark.usefixtures("quiet_log")


def application(environ: Environ, start_response: StartResponse) -> Any:
    """Answer, with fields for the log."""
    environ["app.user"] = "böß \U0001f600\n"
    environ["app.number"] = 3
    start_response("201 Created", [("Content-Type", "text/plain"), ("X-Id", 'a"b')])
    return [] if environ["PATH_INFO"] == "/empty" else [b"hello"]


def lines(path: Path, count: int) -> list[str]:
    """Wait until a file has so many lines."""
    limit = time.monotonic() + WAIT
    while True:
        found = path.read_text().splitlines(keepends=True) if path.exists() else []
        if len(found) >= count and found[-1].endswith("\n"):
            return [line.rstrip("\n") for line in found]
        assert time.monotonic() < limit, found
        os.sched_yield()


def log(path: Path, form: str, *requests: tuple[str, ...]) -> list[str]:
    """Make some requests; give the lines that come of them."""
    with Serving(application, access_log=str(path), access_log_format=form) as server:
        with contextlib.closing(server.client()) as client:
            for target, *headers in requests:
                assert client.get(target, *headers).status == 201
        return lines(path, len(requests))


TIME = r"\[\d\d/[A-Z][a-z]{2}/\d{4}:\d\d:\d\d:\d\d [+-]\d{4}\]"


def test_formats_that_have_a_name(tmp_path: Path) -> None:
    """Apache's two."""
    user = base64.b64encode(b"ann:secret").decode()
    asked = [("/a?b", f"Authorization: Basic {user}", "User-Agent: me"), ("/empty",)]
    found = log(tmp_path / "common", "common", *asked)
    assert re.fullmatch(rf'127\.0\.0\.1 - ann {TIME} "GET /a\?b HTTP/1\.1" 201 5', found[0])
    assert re.fullmatch(rf'127\.0\.0\.1 - - {TIME} "GET /empty HTTP/1\.1" 201 0', found[1])
    found = log(tmp_path / "combined", "combined", *asked)
    assert re.fullmatch(
        rf'127\.0\.0\.1 - ann {TIME} "GET /a\?b HTTP/1\.1" 201 5 "-" "me" \d\.\d{{6}}', found[0]
    )
    stamp = re.findall(r"\[(.*?)\]", found[0])[0]
    logged = time.mktime(time.strptime(stamp[:20], "%d/%b/%Y:%H:%M:%S"))
    assert abs(logged - time.time()) < WAIT
    assert stamp[21:] == time.strftime("%z")


def test_json(tmp_path: Path) -> None:
    """An object a line, whatever clients send."""
    agent = 'quote" back\\slash \xe9 tab\t end'
    found = log(tmp_path / "log", "json", ("/a?b=%22", f"User-Agent: {agent}"), ("/",))
    first, second = map(json.loads, found)
    assert first["user_agent"] == agent
    assert abs(time.mktime(time.strptime(first.pop("time")[:19], "%Y-%m-%dT%H:%M:%S")) - time.time()) < WAIT
    assert 0 <= first.pop("seconds") < WAIT
    assert first == {
        "remote_addr": "127.0.0.1",
        "user": "",
        "method": "GET",
        "path": "/a",
        "query": "b=%22",
        "protocol": "HTTP/1.1",
        "status": 201,
        "bytes": 5,
        "host": "example.org",
        "referer": "",
        "user_agent": agent,
    }
    assert second["query"] == second["user_agent"] == ""


def test_atoms(tmp_path: Path) -> None:
    """Those of gunicorn's."""
    form = "%(h)s|%(l)s|%(u)s|%(r)s|%(m)s|%(U)s|%(q)s|%(H)s|%(s)s|%(B)s|%(b)s|%(f)s|%(a)s|100%%"
    found = log(tmp_path / "1", form, ("/a?b", "Referer: r"), ("/empty",))
    assert found == [
        "127.0.0.1|-|-|GET /a?b HTTP/1.1|GET|/a|b|HTTP/1.1|201|5|5|r|-|100%",
        "127.0.0.1|-|-|GET /empty HTTP/1.1|GET|/empty||HTTP/1.1|201|0|-|-|-|100%",
    ]
    (line,) = log(tmp_path / "2", "%(t)s %(T)s %(M)s %(D)s %(L)s %(p)s", ("/",))
    assert re.fullmatch(rf"{TIME[2:-2]} 0 \d+ \d+ \d\.\d{{6}} <{os.getpid()}>", line)
    form = "%({X-Asked}i)s|%({none}i)s|%({x-id}o)s|%({none}o)s|%({app.user}e)s|%({app.number}e)s|%({none}e)s"
    assert log(tmp_path / "3", form, ("/", "X-Asked: \xe9\t\\")) == [
        r"\xe9\t\\|-|a\"b|-|b\xf6\xdf \U0001f600\n|-|-",
    ]


@pytest.mark.parametrize("form", ["combined", "json", "%({user-agent}i)s %(u)s %(r)s"])
def test_nothing_forges_a_line(tmp_path: Path, form: str) -> None:
    """What comes from outside ends no line, and no string in one."""
    user = base64.b64encode(b'a\n127.0.0.1 - - "x\x1b[2J').decode()
    found = log(
        tmp_path / "log",
        form,
        ("/a", f"Authorization: Basic {user}", 'User-Agent: "\x80\xff\\" 200', "Referer: \xa0\x85"),
    )
    assert len(found) == 1
    assert found[0].isascii()
    assert found[0].isprintable()
    if form != "json":
        assert re.search(r"a\\n127\.0\.0\.1 - - \\\"x\\x1b\[2J", found[0])


@pytest.mark.parametrize(
    ("form", "text"),
    [
        ("%(z)s", r"has no atom %\(z\)s; there are h, l"),
        ("%({a b}i)s", r"has no atom"),
        ("%({x}y)s", r"has no atom"),
        ("%h", r"a % that begins no"),
        ("%(h)d", r"a % that begins no"),
        ("combind", r'"combind" is no format'),
        ("%(h)s\n", "no line breaks"),
    ],
)
def test_mistakes(form: str, text: str) -> None:
    """They are found when the server begins."""
    with pytest.raises(ValueError, match=text):
        roving.serve(application, bind="127.0.0.1:0", access_log=True, access_log_format=form)


def test_a_file_that_cannot_be_opened(tmp_path: Path) -> None:
    """The server does not begin."""
    with pytest.raises(OSError, match="No such file"):
        roving.serve(application, bind="127.0.0.1:0", access_log=str(tmp_path / "no" / "log"))


def test_a_file_that_was_moved_away(tmp_path: Path) -> None:
    """What comes next goes to a new one; no line is lost, or written in half."""
    path, moved = tmp_path / "log", tmp_path / "moved"
    path.write_text("older\n")
    with Serving(application, access_log=str(path), access_log_format="%(U)s") as server:
        server.get("/1")
        assert lines(path, 2) == ["older", "/1"]
        path.rename(moved)
        server.get("/2")
        assert lines(moved, 3)[2] == "/2"
        server.handle.reopen_log()
        server.get("/3")
        assert lines(path, 1) == ["/3"]
        path.unlink()
        (tmp_path / "log").mkdir()
        with pytest.raises(IsADirectoryError):
            server.handle.reopen_log()
    assert moved.read_text() == "older\n/1\n/2\n"


def test_nobody_reads_the_pipe(tmp_path: Path) -> None:
    """Requests are answered all the same; lines that there is no room for are dropped, and counted."""
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    try:
        options = {"access_log": str(path), "access_log_format": "%({x}i)s", "admin_bind": "127.0.0.1:0"}
        with Serving(application, **options) as server:
            assert metrics(server)["roving_access_log_lost_total"] == 0
            with contextlib.closing(server.client()) as client:
                # 9 MB: 4 may wait, and as many be in the hands of the thread.
                for _ in range(300):
                    assert client.get("/", "X: " + "x" * 30_000).status == 201
            is_done, lost = server.handle._server.log_status()
            assert (is_done, lost > 0) == (False, True)
            text, limit = b"", time.monotonic() + WAIT
            # The last request is logged when its client has its response, or soon after.
            while text.count(b"\n") + server.handle._server.log_status()[1] < 300:
                assert time.monotonic() < limit
                try:
                    text += os.read(reader, 1 << 20)
                except BlockingIOError:
                    os.sched_yield()
            assert metrics(server)["roving_access_log_lost_total"] == server.handle._server.log_status()[1]
            assert set(text.split(b"\n")) == {b"x" * 30_000, b""}
    finally:
        os.close(reader)
