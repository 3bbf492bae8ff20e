"""Where the options of `roving serve` come from: the command line, the environment, files, systemd."""

import contextlib
import os
import re
import signal
import socket
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path
from typing import Any

import pytest
from roving.serve import _command
from roving.serve._options import OPTIONS
from roving.serve._table import TABLE
from serving import WAIT, Client
from test_serve_command import APPLICATION, Command, fails


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Be in a folder with an application."""
    (tmp_path / "shop.py").write_text(APPLICATION)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def parse(*arguments: str, **environment: str) -> _command.Parsed:
    """Read options."""
    return _command.parse(list(arguments), environment)


def mistake(capsys: pytest.CaptureFixture[str], *arguments: str, **environment: str) -> str:
    """Read options that are wrong; give what is said."""
    with pytest.raises(SystemExit) as caught:
        parse(*arguments, **environment)
    assert caught.value.code == 2
    return capsys.readouterr().err.splitlines()[-1].removeprefix("roving serve: error: ")


def test_the_order(folder: Path) -> None:
    """The command line, the environment, a file, what platforms set."""
    (folder / "roving.toml").write_text(
        '[serve]\napplication = "shop:app"\nkeep-alive = 1\nworkers = 5\n'
        'limit_request_body = "2M"\nbacklog = 7\n'
    )
    environment = {
        "ROVING_SERVE_KEEP_ALIVE": "2",
        "ROVING_SERVE_WORKERS": "6",
        "WEB_CONCURRENCY": "9",
        "PORT": "1234",
        "FORWARDED_ALLOW_IPS": "10.0.0.1",
    }
    parsed = parse("--keep-alive", "3", **environment)
    assert parsed.values == {
        "application": "shop:app",
        "keep_alive": 3,
        "workers": 6,
        "limit_request_body": 2 << 20,
        "backlog": 7,
        "bind": ["0.0.0.0:1234"],
        "forwarded_allow_ips": "10.0.0.1",
    }
    assert parsed.sources["keep_alive"] == "the command line"
    assert parsed.sources["workers"] == "ROVING_SERVE_*"
    assert parsed.sources["backlog"] == "roving.toml"
    assert parsed.sources["bind"] == "PORT"
    assert parse("other:app").values["application"] == "other:app"


def test_where_to_listen_is_one_thing(folder: Path) -> None:
    """Whoever says where counts, and what others say of it does not."""
    (folder / "roving.toml").write_text('[serve]\nbind = ["a:1", "unix:x"]\n')
    assert parse("x").values["bind"] == ["a:1", "unix:x"]
    assert parse("x", ROVING_SERVE_BIND="b:1, c:2").values["bind"] == ["b:1", "c:2"]
    assert parse("x", "--port", "80", ROVING_SERVE_BIND="b:1").values["bind"] == ["127.0.0.1:80"]
    assert parse("x", "-b", "d:1", "-b", "e:1,f:1", PORT="3").values["bind"] == ["d:1", "e:1", "f:1"]
    found = parse("x", "--host", "::", "--uds", "y", "--fd", "4").values["bind"]
    assert found == ["[::]:8000", "unix:y", "fd://4"]


def test_files(folder: Path) -> None:
    """The one that is named, else the first that is there; pyproject.toml has a table of its own."""
    assert parse("x").values == {"application": "x"}
    (folder / "pyproject.toml").write_text("[project]\nname = 'x'\n")
    assert parse("x").values == {"application": "x"}
    (folder / "pyproject.toml").write_text("[tool.roving.serve]\nworkers = 2\n")
    assert parse("x").values["workers"] == 2
    (folder / "roving.toml").write_text("[serve]\nworkers = 3\n")
    assert parse("x").values["workers"] == 3
    (folder / "other.toml").write_text("[serve]\nworkers = 4\n")
    assert parse("x", "--config", "other.toml").values["workers"] == 4
    assert parse("x", ROVING_SERVE_CONFIG="other.toml").values["workers"] == 4
    assert parse("x", "--config", "pyproject.toml").values["workers"] == 2


# A value that each kind has nowhere for a default: as a flag, in the environment, in a file.
SAMPLES: dict[str, tuple[list[str], str, str, Any]] = {
    "count": (["77"], "77", "77", 77),
    "positive": (["77"], "77", "77", 77),
    "size": (["77K"], "77k", '"77K"', 77 << 10),
    "seconds": (["7.5"], "7.5", "7.5", 7.5),
    "text": (["some"], "some", '"some"', "some"),
    "switch": ([], "1", "true", True),
    "mode": (["027"], "0o027", "0o027", 0o27),
    "log": ([], "yes", "true", True),
    "list": (["a:1"], "a:1", '["a:1"]', ["a:1"]),
}


@pytest.mark.parametrize("entry", TABLE, ids=lambda entry: entry.name)
def test_every_option_everywhere(folder: Path, entry: Any) -> None:
    """As a flag, in the environment, in a file; they mean the same."""
    flag, text, toml, value = SAMPLES[entry.kind]
    if entry.choices:
        flag, text, toml, value = ["debug"], "debug", '"debug"', "debug"
    key = entry.name.replace("_", "-")
    ways = [
        parse("x", f"--{key}", *flag).values,
        parse("x", **{f"ROVING_SERVE_{entry.name.upper()}": text}).values,
    ]
    (folder / "roving.toml").write_text(f"[serve]\n{key} = {toml}\n")
    ways.append(parse("x").values)
    assert ways[0] == ways[1] == ways[2]
    assert len(ways[0]) == 2
    if entry.name in ways[0] and entry.name != "bind":
        assert ways[0][entry.name] == value


def test_the_access_log(folder: Path) -> None:
    """On stderr, or in a file, of either name; an application behind the flag is an application."""
    assert parse("--access-log", "shop:app").requests["access_log"] == "-"
    assert parse("--access-log=a.log", "shop:app").requests["access_log"] == "a.log"
    assert parse("--access-logfile", "a.log", "shop:app").requests["access_log"] == "a.log"
    assert parse("x", ROVING_SERVE_ACCESS_LOG="a.log").requests["access_log"] == "a.log"
    assert parse("x", "--no-access-log", ROVING_SERVE_ACCESS_LOG="1").requests["access_log"] is False


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("[serve]\n\nworkes = 3\n", "f.toml:3: there is no option workes; did you mean workers?"),
        ("[serve]\nzzz = 3\n", "f.toml:2: there is no option zzz"),
        (
            "[other]\nworkers = 1\n[serve]\nworkers = 'x'\n",
            "f.toml:4: workers: a number is wanted, not a string",
        ),
        ("[serve]\nworkers = 0\n", "f.toml:2: workers: '0' is not a number from 1 on"),
        ("[serve]\nworkers = true\n", "f.toml:2: workers: a number is wanted, not a boolean"),
        ("[serve]\nbacklog = -1\n", "f.toml:2: backlog: '-1' is not a number"),
        ("[serve]\nkeep-alive = '2'\n", "f.toml:2: keep-alive: a number of seconds is wanted, not a string"),
        ("[serve]\nkeep-alive = nan\n", "f.toml:2: keep-alive: 'nan' is not a number of seconds"),
        ("[serve]\nfactory = 1\n", "f.toml:2: factory: true or false is wanted, not an integer"),
        ("[serve]\nbind = 8000\n", "f.toml:2: bind: an array of strings is wanted, not an integer"),
        ("[serve]\nbind = [1]\n", "f.toml:2: bind: an array of strings is wanted, not an array"),
        ("[serve]\nlimit-request-body = '2X'\n", "f.toml:2: limit-request-body: '2X' is not a number"),
        ("[serve]\numask = '8'\n", "f.toml:2: umask: '8' is no mode in octal, as 027"),
        (
            "[serve]\nlog-level = 'loud'\n",
            "f.toml:2: log-level: 'loud' is none of debug, info, warning, error",
        ),
        ("[serve]\nlog-level = {}\n", "f.toml:2: log-level: a string is wanted, not a table"),
        (
            "[serve]\nkeep-alive = 1\nkeep_alive = 2\n",
            "f.toml:3: keep_alive: it is there twice, with - and with _",
        ),
        (
            "[serve]\nkeep-alive = 1\nkeep-alive = 2\n",
            "f.toml: it is no TOML: Cannot overwrite a value (at line 3",
        ),
        ("[serve\n", "f.toml: it is no TOML: Expected ']'"),
        ("workers = 3\n", "f.toml: it has no table [serve]"),
        ("serve = 3\n", "f.toml: [serve] is no table"),
    ],
)
def test_mistakes_in_a_file(folder: Path, capsys: pytest.CaptureFixture[str], text: str, said: str) -> None:
    """The file, the line, the key, and what is wrong."""
    (folder / "f.toml").write_text(text)
    assert mistake(capsys, "x", "--config", "f.toml").startswith(said)


def test_files_that_cannot_be_read(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Why not."""
    said = mistake(capsys, "x", "--config", "none.toml")
    assert said == "none.toml: it cannot be read: No such file or directory"
    assert mistake(capsys, "x", "--config", ".") == ".: it cannot be read: Is a directory"
    (folder / "f.toml").write_bytes(b"[serve]\n# \xff\n")
    assert mistake(capsys, "x", "--config", "f.toml") == "f.toml: it is not UTF-8, at byte 10"


@pytest.mark.parametrize(
    ("name", "text", "said"),
    [
        ("ROVING_SERVE_WORKERS", "x", "'x' is not a number"),
        ("ROVING_SERVE_FACTORY", "maybe", "'maybe' is neither 1 nor 0"),
        ("ROVING_SERVE_LOG_LEVEL", "loud", "'loud' is none of debug, info, warning, error, critical"),
        ("WEB_CONCURRENCY", "0", "'0' is not a number from 1 on"),
        ("PORT", "http", "'http' is not a number"),
    ],
)
def test_mistakes_in_the_environment(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str, text: str, said: str
) -> None:
    """The variable, and what is wrong."""
    assert mistake(capsys, "x", **{name: text}) == f"{name}: {said}"


def test_other_variables_are_told(folder: Path) -> None:
    """They are no error: an orchestrator may set them."""
    assert parse("x", ROVING_SERVE_SERVICE_HOST="10.0.0.1").unknown == ["ROVING_SERVE_SERVICE_HOST"]


def test_what_is_set_can_be_printed(folder: Path) -> None:
    """As a file that says the same, and where each is from."""
    (folder / "roving.toml").write_text('[serve]\nroot-path = "/a\\\\b\\"\\u0007"\n')
    arguments = ["shop:app", "--umask", "027", "--bind", "127.0.0.1:0", "--access-log", "--keep-alive", "2.5"]
    done = subprocess.run(
        [sys.executable, "-m", "roving", "serve", *arguments, "--print-config"],
        capture_output=True,
        text=True,
        timeout=WAIT,
        check=True,
        env={**os.environ, "ROVING_SERVE_BACKLOG": "3"},
    )
    printed = tomllib.loads(done.stdout)["serve"]
    assert printed == {
        "application": "shop:app",
        "umask": 0o27,
        "bind": ["127.0.0.1:0"],
        "access-log": True,
        "keep-alive": 2.5,
        "backlog": 3,
        "root-path": '/a\\b"\x07',
    }
    assert "backlog = 3  # ROVING_SERVE_*\n" in done.stdout
    assert 'root-path = "/a\\\\b\\"\\U00000007"  # roving.toml\n' in done.stdout
    assert "# workers: the processors there are\n" in done.stdout
    (folder / "again.toml").write_text(done.stdout)
    assert parse("--config", "again.toml").values == parse(*arguments, ROVING_SERVE_BACKLOG="3").values


def test_help_has_every_option() -> None:
    """In groups, with its default, on lines that fit."""
    text = _command.parser().format_help()
    for entry in TABLE:
        assert f"--{entry.name.replace('_', '-')}" in text
    assert {option.name for option in OPTIONS} <= {entry.name for entry in TABLE}
    for title in ("where it listens", "limits", "times", "proxies in front", "logs"):
        assert f"\n{title}:\n" in text


def test_a_file_is_served_by(folder: Path) -> None:
    """From the application on."""
    (folder / "roving.toml").write_text(
        '[serve]\napplication = "shop:app"\nbind = "127.0.0.1:0"\naccess-log = "log"\n'
        'admin-bind = "unix:admin"\naccess-log-format = "%(s)s %(U)s"\n'
    )
    with Command(folder) as server:
        with contextlib.closing(server.client()) as client:
            assert client.get("/1").body == b"hello"
        with contextlib.closing(Client("admin")) as client:
            assert client.get("/readyz").body == b"ok\n"
        # It is logged after its response has been sent.
        deadline = time.monotonic() + WAIT
        while not (folder / "log").read_text() and time.monotonic() < deadline:
            pass
        (folder / "log").rename(folder / "moved")
        server.process.send_signal(signal.SIGUSR1)
        assert server.process.stderr is not None
        while "opened anew" not in server.log:
            server.log += server.process.stderr.readline()
        with contextlib.closing(server.client()) as client:
            assert client.get("/2").body == b"hello"
        server.process.terminate()
        assert server.end() == 0
    assert (folder / "moved").read_text() == "200 /1\n"
    assert (folder / "log").read_text() == "200 /2\n"
    assert not (folder / "admin").exists()


def test_readiness_begins_with_the_application(folder: Path) -> None:
    """While it is imported the process lives, and is not ready."""
    (folder / "slow.py").write_text("import os\nos.read(0, 1)\nfrom shop import app\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "roving", "serve", "slow:app", "-b127.0.0.1:0", "--admin-bind=unix:admin"],
        stdin=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stderr is not None
    try:
        client = None
        while client is None:
            assert process.poll() is None
            with contextlib.suppress(FileNotFoundError, ConnectionRefusedError):
                client = Client("admin")
        assert client.get("/healthz").status == 200
        found = client.get("/readyz")
        assert (found.status, found.body) == (503, b"starting\n")
        assert b"\nroving_ready 0\n" in client.get("/metrics").body
        process.stdin.write("x")
        process.stdin.flush()
        while "health and metrics on unix:" not in process.stderr.readline():
            pass
        assert client.get("/readyz").body == b"ok\n"
        client.close()
        process.terminate()
        process.communicate(timeout=WAIT)
        assert process.returncode == 0
    finally:
        process.kill()
        process.communicate()


def test_permissions_of_unix_sockets(folder: Path) -> None:
    """As the umask has them, from the first moment on."""
    with Command(folder, "shop:app", "--bind", "unix:socket", "--umask", "0117") as server:
        assert stat.S_IMODE((folder / "socket").stat().st_mode) == 0o660
        server.process.terminate()
        assert server.end() == 0


_ACTIVATE = """
import os, sys
# As systemd does: descriptors from 3 on, and the number of the process that is to have them.
for index, number in enumerate(map(int, sys.argv[1].split(","))):
    os.dup2(number, 50 + index)
for index in range(len(sys.argv[1].split(","))):
    os.dup2(50 + index, 3 + index, inheritable=True)
os.environ.update(LISTEN_PID=str(os.getpid()), LISTEN_FDS=str(index + 1), LISTEN_FDNAMES=sys.argv[2])
os.execv(sys.executable, [sys.executable, "-m", "roving", "serve", *sys.argv[3:]])
"""


def test_sockets_of_systemd(folder: Path) -> None:
    """They stand in the place of --bind, and one with that name in that of --admin-bind."""
    (folder / "shop.py").write_text(
        APPLICATION + "\nimport os\nassert not [name for name in os.environ if name.startswith('LISTEN_')]\n"
    )
    with (
        socket.create_server(("127.0.0.1", 0)) as web,
        socket.create_server(("127.0.0.1", 0)) as admin,
        socket.create_server(("127.0.0.1", 0)) as taken,
    ):
        numbers = [web.fileno(), admin.fileno()]
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        process = subprocess.Popen(
            [sys.executable, "-c", _ACTIVATE, "{},{}".format(*numbers), "web:admin", "shop:app", "-b", place],
            stderr=subprocess.PIPE,
            text=True,
            pass_fds=numbers,
        )
        try:
            for listener, path, body in ((web, "/", b"hello"), (admin, "/readyz", b"ok\n")):
                assert process.stderr is not None
                if listener is web:
                    log = ""
                    while "health and metrics" not in log:
                        line = process.stderr.readline()
                        assert line, log
                        log += line
                    assert f"systemd gives sockets: {place} is not listened on" in log
                with contextlib.closing(Client(listener.getsockname())) as client:
                    assert client.get(path).body == body
            process.terminate()
            process.communicate(timeout=WAIT)
            assert process.returncode == 0
        finally:
            process.kill()
            process.communicate()


def test_sockets_that_are_not_for_us(folder: Path) -> None:
    """Another process's are left alone; what is no socket is told."""
    environment = {**os.environ, "LISTEN_PID": "1", "LISTEN_FDS": "1"}
    with Command(folder, "shop:app", "--bind", "127.0.0.1:0", env=environment) as server:
        server.process.terminate()
        assert server.end() == 0
    with (folder / "shop.py").open() as file:
        done = subprocess.run(
            [sys.executable, "-c", _ACTIVATE, str(file.fileno()), "", "shop:app"],
            capture_output=True,
            text=True,
            timeout=WAIT,
            check=False,
            pass_fds=[file.fileno()],
        )
    assert done.returncode == 1
    assert re.fullmatch(r"roving: LISTEN_FDS: descriptor 3: .*socket.*\n", done.stderr)


def test_mistakes_in_what_the_server_takes(folder: Path) -> None:
    """They are told in a line, whichever way they came."""
    status, text = fails(folder, "shop:app", "--access-log-format", "%(z)s", "--access-log")
    assert status == 1
    assert text.startswith("roving: the format of the access log has no atom %(z)s; there are")
    status, text = fails(folder, "shop:app", "--forwarded-allow-ips", "10.0.0.1/8")
    assert (status, "is no network" in text, text.count("\n")) == (1, True, 1)
    status, text = fails(folder, "shop:app", "--admin-bind", "here:there")
    assert (status, text) == (1, "roving: 'here:there' is no HOST:PORT: 'there' is no port\n")


def test_a_signal_is_never_missed(folder: Path) -> None:
    """However soon it comes; and those of children that were forked are theirs."""
    (folder / "forks.py").write_text(
        "import os, signal\nfrom shop import app\nreads, writes = os.pipe()\n"
        "if not (child := os.fork()):\n    os.write(writes, b'x')\n    signal.pause()\n"
        # Before, it might still have its parent's handlers.
        "os.read(reads, 1)\n"
        "os.kill(child, signal.SIGTERM)\nassert os.WTERMSIG(os.waitpid(child, 0)[1]) == signal.SIGTERM\n"
    )
    with Command(folder, "forks:app", "--bind", "127.0.0.1:0") as server:
        with contextlib.closing(server.client()) as client:
            assert client.get().body == b"hello"
        server.process.terminate()
        assert server.end() == 0
    for _ in range(12):
        with Command(folder, "shop:app", "--bind", "127.0.0.1:0", "--workers", "1") as server:
            server.process.terminate()
            assert server.end() == 0
