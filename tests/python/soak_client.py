"""Clients that weigh on a server, in a process of their own: `soak_client.py WHAT PORT ARGUMENT`.

`idle`: after a line from stdin so many connections that ask once, say `connected`, and after another line
ask again. `storm`: for so many seconds everything that clients may do to a server, at once. `download`,
`upload`: so many bytes. Each ends with a line of JSON.
"""

import contextlib
import json
import os
import random
import resource
import socket
import struct
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable

WAIT = 60.0
GET = b"GET %s HTTP/1.1\r\nHost: a\r\n\r\n"


def connect(port: int) -> socket.socket:
    """Connect."""
    return socket.create_connection(("127.0.0.1", port), timeout=WAIT)


def reset(client: socket.socket) -> None:
    """Close a connection so that the server sees a reset."""
    client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    client.close()


def ask(client: socket.socket, path: bytes = b"/") -> int:
    """Make a request whose response is short; give its status, or 0 for one that broke off."""
    client.sendall(GET % path)
    data = b""
    while b"\r\n\r\n" not in data:
        if not (more := client.recv(65536)):
            return 0
        data += more
    head, _, body = data.partition(b"\r\n\r\n")
    for line in head.split(b"\r\n"):
        name, _, value = line.partition(b": ")
        if name == b"content-length":
            while len(body) < int(value):
                if not (more := client.recv(65536)):
                    return 0
                body += more
            return int(head[9:12])
    # In chunks.
    while not body.endswith(b"0\r\n\r\n"):
        if not (more := client.recv(65536)):
            return 0
        body += more
    return int(head[9:12])


def idle(port: int, count: int) -> dict[str, int]:
    """Keep connections, which do nothing between two requests."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, min(hard, count + 100)), hard))
    sys.stdin.readline()
    clients = [connect(port) for _ in range(count)]
    answered = sum(ask(client) == 200 for client in clients)
    print("connected", flush=True)
    sys.stdin.readline()
    return {"first": answered, "second": sum(ask(client) == 200 for client in clients)}


def download(port: int, size: int) -> dict[str, int]:
    """Take a stream of so many bytes."""
    with connect(port) as client:
        client.sendall(b"GET /download?%d HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n" % size)
        data = b""
        while b"\r\n\r\n" not in data:
            data += client.recv(65536)
        count = len(data.partition(b"\r\n\r\n")[2])
        buffer = bytearray(1 << 18)
        while more := client.recv_into(buffer):
            count += more
    return {"bytes": count}


def upload(port: int, size: int) -> dict[str, int]:
    """Send so many bytes, which the application counts."""
    block = bytes(1 << 18)
    with connect(port) as client:
        head = b"POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: %d\r\n\r\n"
        client.sendall(head % size)
        left = size
        while left:
            left -= client.send(block[: min(left, len(block))])
        data = b""
        while more := client.recv(65536):
            data += more
    return {"bytes": int(data.rpartition(b"\r\n")[2])}


def requests(port: int, source: random.Random) -> int:
    """Many on one connection, one behind the other."""
    with connect(port) as client:
        for _ in range(50):
            status = ask(client)
        client.sendall(GET % b"/" * 50)
        client.recv(65536)
    return status


def connections(port: int, source: random.Random) -> int:
    """Many that say nothing."""
    for client in [connect(port) for _ in range(50)]:
        client.close()
    return 200


def vanishes(port: int, source: random.Random) -> int:
    """A client that goes amid its request, or amid the response."""
    post = b"POST /upload HTTP/1.1\r\nHost: a\r\nContent-Length: 100000\r\n\r\n" + bytes(90_000)
    whole = source.choice([GET % b"/", post, GET % b"/endless", GET % b"/wait", GET % b"/write"])
    client = connect(port)
    client.sendall(whole[: source.randrange(len(whole) + 1)])
    if source.random() < 0.5:
        client.settimeout(0.05)
        with contextlib.suppress(TimeoutError):
            client.recv(1000)
    if source.random() < 0.5:
        reset(client)
    else:
        client.close()
    return 200


def trickles(port: int, source: random.Random) -> int:
    """A client that sends its head and its body by bytes."""
    with connect(port) as client:
        for byte in (
            b"POST /upload HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: 20\r\n\r\n" + bytes(20)
        ):
            client.sendall(bytes([byte]))
            time.sleep(0.002)
        return int(client.recv(4096)[9:12] or 0)


def reads_slowly(port: int, source: random.Random) -> int:
    """A client of a stream without an end that takes little of it."""
    with socket.socket() as client:
        client.settimeout(WAIT)
        # Before it connects: a window that shrinks afterwards has the system drop what was sent, and wait.
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 16384)
        client.connect(("127.0.0.1", port))
        client.sendall(GET % b"/endless")
        for _ in range(50):
            if client.recv(500).startswith(b"HTTP/1.1 503"):
                return 503
            time.sleep(0.01)
    return 200


def fails(port: int, source: random.Random) -> int:
    """An application that raises at some stage: 500, or a response that breaks off."""
    with connect(port) as client:
        for _ in range(20):
            stage = source.choice(["before", "started", "after", "first", "iterate", "close", "write"])
            status = ask(client, b"/raise/" + stage.encode())
            # Where there are too many requests it is not even called.
            right = {"after": (200, 500), "iterate": (0,), "write": (0,), "close": (0, 200)}.get(
                stage, (500,)
            )
            if status not in (*right, 503):
                return -1
            if not status:
                break
    return 200


KINDS: list[Callable[[int, random.Random], int]] = [
    requests, connections, vanishes, trickles, reads_slowly, reads_slowly, fails,
]  # fmt: skip


def storm(port: int, seconds: int) -> dict[str, int]:
    """All of it at once: what came of it, by kind and status."""
    until = time.monotonic() + seconds
    found: Counter[str] = Counter()
    lock = threading.Lock()

    def run(number: int) -> None:
        kind, source = KINDS[number % len(KINDS)], random.Random(number)
        while time.monotonic() < until:
            try:
                outcome = str(kind(port, source))
            except ConnectionError:
                # Refused, with some bytes unread.
                outcome = "reset"
            except Exception as error:
                outcome = repr(error)
            with lock:
                found[f"{kind.__name__} {outcome}"] += 1

    threads = [threading.Thread(target=run, args=(number,)) for number in range(6 * len(KINDS))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return dict(found)


if __name__ == "__main__":
    os.nice(10)
    print(json.dumps(globals()[sys.argv[1]](int(sys.argv[2]), int(sys.argv[3]))), flush=True)
