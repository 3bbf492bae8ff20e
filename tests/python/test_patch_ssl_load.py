"""ROVING_TLS_CONNECTIONS TLS connections at once, client and server in processes of their own."""

import os
import resource
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import tls
import tls_load

COUNT = int(os.environ.get("ROVING_TLS_CONNECTIONS", "300"))
# Seconds: a handshake takes a few milliseconds of both ends' processors.
LIMIT = 60 + COUNT // 20


def memory(process: subprocess.Popen[str]) -> int:
    """What a process has in memory, in bytes."""
    for line in Path(f"/proc/{process.pid}/status").read_text().splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * 1024
    raise AssertionError("no VmRSS")


def start(*arguments: str) -> subprocess.Popen[str]:
    """Run an end."""
    script = str(Path(tls_load.__file__))
    command = [sys.executable, "-X", "faulthandler", script, *arguments]
    pipe = subprocess.PIPE
    process = subprocess.Popen(command, text=True, stdin=pipe, stdout=pipe, stderr=pipe)
    watchdog = threading.Timer(LIMIT, process.send_signal, [signal.SIGABRT])
    watchdog.daemon = True
    watchdog.start()
    return process


def line(process: subprocess.Popen[str]) -> str:
    """Read a line; what it said instead is the error."""
    assert process.stdout is not None
    assert process.stderr is not None
    text = process.stdout.readline().strip()
    if not text:
        process.kill()
        raise AssertionError(process.stderr.read()[-3000:])
    return text


def test_many_connections(capsys: pytest.CaptureFixture[str]) -> None:
    """All open at once, all messages right."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < COUNT + 100:
        pytest.skip(
            f"{COUNT} connections need as many descriptors, and the limit is {hard}: raise `ulimit -Hn`"
        )
    folder = str(tls.authority().folder)
    with start("server", folder) as server:
        port = line(server)
        bare = memory(server)
        begun = time.monotonic()
        with start("client", folder, port, str(COUNT)) as client:
            assert client.stdin is not None
            assert line(client) == "connected"
            connected = time.monotonic()
            each = [(memory(process) - bare) / COUNT / 1024 for process in (server, client)]
            print("go", file=client.stdin, flush=True)
            assert line(client) == str(COUNT * tls_load.MESSAGES)
            ended = time.monotonic()
            assert client.wait(60) == 0
        server.kill()
    with capsys.disabled():
        if COUNT > 300:
            print(
                f"\n{COUNT:,} TLS connections: all open after {connected - begun:.1f} s, "
                f"{COUNT * tls_load.MESSAGES:,} messages there and back in {ended - connected:.1f} s; "
                f"a connection takes {each[0]:.0f} KiB of the server and {each[1]:.0f} KiB of the client"
            )
