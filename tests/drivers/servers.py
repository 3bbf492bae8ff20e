"""Real servers, each in a folder of its own below a temporary one, on a port of its own."""

import contextlib
import os
import pwd
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import tls

ORIGIN = Path(__file__).parents[2] / "benches" / "python" / "origin.py"
# Debian keeps PostgreSQL's programs off the path, a folder a version.
ELSEWHERE = ("/usr/sbin", *sorted(map(str, Path("/usr/lib/postgresql").glob("*/bin")), reverse=True))


class Missing(Exception):
    """A program that is not on this machine."""


@dataclass
class Server:
    """A server that can be stopped, and started again on the same port."""

    port: int
    folder: Path
    command: list[str]
    ready: Callable[[int], bool]
    user: str | None = None
    ending: int = signal.SIGTERM
    process: subprocess.Popen[bytes] | None = None
    # Where it speaks TLS, if that is elsewhere.
    tls_port: int = 0

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                self.command, user=self.user, cwd=self.folder, stdout=log, stderr=log
            )
        end = time.monotonic() + 60
        while not self.ready(self.port):
            ended = self.process.poll() is not None
            if ended or time.monotonic() > end:
                self.stop()
                said = (self.folder / "log").read_text(errors="replace")
                raise RuntimeError(f"{self.command[0]} did not start:\n{said[-3000:]}")
            time.sleep(0.02)

    def stop(self) -> None:
        """End it, connections and all."""
        if self.process is not None:
            with contextlib.suppress(ProcessLookupError):
                self.process.send_signal(self.ending)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
            self.process = None

    @contextlib.contextmanager
    def running(self) -> Iterator["Server"]:
        """Start it for a while."""
        self.start()
        try:
            yield self
        finally:
            self.stop()


def find(name: str, package: str) -> str:
    """Give the path of a server's program."""
    path = os.pathsep.join([os.environ.get("PATH", ""), *ELSEWHERE])
    found = shutil.which(name, path=path)
    if found is None:
        raise Missing(f"no {name} on this machine: apt-get install {package}")
    return found


def free_port() -> int:
    """Give a port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        port: int = server.getsockname()[1]
    return port


def account(*names: str) -> str | None:
    """Give the account for a server that refuses to be root; None if we are somebody else."""
    if os.geteuid() != 0:
        return None
    for name in (*names, "nobody"):
        with contextlib.suppress(KeyError):
            return pwd.getpwnam(name).pw_name
    raise Missing("no account to run the server in")


def _own(folder: Path, user: str | None) -> None:
    """Make a folder for an account; what is above it must let that account in."""
    folder.mkdir()
    if user is not None:
        shutil.chown(folder, user)


def _connects(port: int) -> bool:
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except OSError:
        return False
    return True


def _says(question: bytes, answer: bytes) -> Callable[[int], bool]:
    """Tell whether a server answers as it does when it is ready."""

    def ready(port: int) -> bool:
        try:
            with socket.create_connection(("127.0.0.1", port), timeout=1) as s:
                s.settimeout(5)
                s.sendall(question)
                return answer in s.recv(100)
        except OSError:
            return False

    return ready


def origin(folder: Path) -> Server:
    """Serve HTTP: benches/python/origin.py."""
    port = free_port()
    folder.mkdir()
    return Server(port, folder, [sys.executable, str(ORIGIN), "--port", str(port)], _connects)


def tls_origin(folder: Path) -> Server:
    """Serve HTTPS: the same."""
    port = free_port()
    folder.mkdir()
    both = folder / "both.pem"
    both.write_text("".join(file.read_text() for file in _identity(folder, None)))
    command = [sys.executable, str(ORIGIN), "--port", str(port), "--tls", str(both)]
    return Server(port, folder, command, _connects)


def redis(folder: Path) -> Server:
    """Serve Redis, with nothing on the disk."""
    program, port = find("redis-server", "redis-server"), free_port()
    folder.mkdir()
    certificate, key = _identity(folder, None)
    tls_port = free_port()
    command = [program, "--port", str(port), "--bind", "127.0.0.1", "--save", "", "--maxclients", "2000"]
    command += ["--tls-port", str(tls_port), "--tls-auth-clients", "no"]
    command += ["--tls-cert-file", str(certificate), "--tls-key-file", str(key)]
    return Server(port, folder, command, _says(b"PING\r\n", b"+PONG"), tls_port=tls_port)


def postgres(folder: Path) -> Server:
    """Serve PostgreSQL, user and database `postgres`, whom it trusts."""
    program, initdb, port = find("postgres", "postgresql"), find("initdb", "postgresql"), free_port()
    user = account("postgres")
    _own(folder, user)
    data = folder / "data"
    options = ["--username=postgres", "--auth=trust", "--encoding=UTF8", "--locale=C", "--no-sync"]
    _prepare([initdb, f"--pgdata={data}", *options], folder, user)
    certificate, key = _identity(folder, user)
    settings = {
        "ssl": "on",
        "ssl_cert_file": certificate,
        "ssl_key_file": key,
        "fsync": "off",
        "max_connections": 400,
        # Else the query of a client that has gone goes on, and keeps its place.
        "client_connection_check_interval": "500ms",
        "unix_socket_directories": folder,
        "logging_collector": "off",
    }
    command = [program, "-D", str(data), "-p", str(port), "-h", "127.0.0.1"]
    command += [f"-c{name}={value}" for name, value in settings.items()]
    # The first message of a client; while the server starts up or recovers, an error comes back.
    ready = _says(b"\0\0\0\x17\0\x03\0\0user\0postgres\0\0", b"R\0\0\0")
    return Server(port, folder, command, ready, user, signal.SIGINT)


def mariadb(folder: Path) -> Server:
    """Serve MariaDB, user `tests` without a password, database `tests`."""
    program = find("mariadbd", "mariadb-server")
    install, port = find("mariadb-install-db", "mariadb-server"), free_port()
    user = account("mysql")
    _own(folder, user)
    data = folder / "data"
    where = ["--no-defaults", f"--datadir={data}"]
    _prepare([install, *where, "--auth-root-authentication-method=normal", "--skip-test-db"], folder, user)
    first = folder / "first.sql"
    first.write_text(
        "CREATE DATABASE IF NOT EXISTS tests;\n"
        "CREATE USER IF NOT EXISTS tests@'127.0.0.1' IDENTIFIED BY '';\n"
        "GRANT ALL ON *.* TO tests@'127.0.0.1';\n"
    )
    command = [program, *where, "--bind-address=127.0.0.1", f"--port={port}", f"--socket={folder}/socket"]
    command += [
        f"--init-file={first}",
        f"--pid-file={folder}/pid",
        "--max-connections=500",
        "--skip-name-resolve",
        *(
            f"--ssl-{what}={file}"
            for what, file in zip(("cert", "key"), _identity(folder, user), strict=True)
        ),
    ]
    # It greets before it is asked; SIGKILL, since it takes a second to end well.
    return Server(port, folder, command, _says(b"", b"MariaDB"), user, signal.SIGKILL)


def _identity(folder: Path, user: str | None) -> list[Path]:
    """Put a certificate, and its key, where a server reads them."""
    files = []
    for name in ("localhost.pem", "localhost.key"):
        files.append(folder / name)
        shutil.copy(tls.authority().folder / name, files[-1])
        files[-1].chmod(0o600)
        if user is not None:
            shutil.chown(files[-1], user)
    return files


def _prepare(command: list[str], folder: Path, user: str | None) -> None:
    done = subprocess.run(command, cwd=folder, user=user, capture_output=True, text=True, timeout=120)
    if done.returncode != 0:
        raise RuntimeError(f"{command[0]}:\n{done.stdout[-2000:]}{done.stderr[-2000:]}")
