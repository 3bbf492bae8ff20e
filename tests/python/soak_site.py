"""The application that tests/python/test_serve_soak.py weighs on."""

import time
from collections.abc import Callable, Iterable, Iterator
from typing import Any

BLOCK = bytes(1 << 16)
TEXT = [("Content-Type", "text/plain")]


class Fails:
    """A body that raises on its way, or at its end."""

    def __init__(self, stage: str) -> None:
        """Begin."""
        self.stage = stage
        self.given = 0

    def __iter__(self) -> "Fails":
        """Return it."""
        return self

    def __next__(self) -> bytes:
        """Give two parts."""
        if self.stage == "first" or (self.stage == "iterate" and self.given):
            raise LookupError(self.stage)
        if self.given == 2:
            raise StopIteration
        self.given += 1
        return b"part"

    def close(self) -> None:
        """End it."""
        if self.stage == "close":
            raise LookupError(self.stage)


def blocks(size: int) -> Iterator[bytes]:
    """Give so many bytes."""
    while size:
        yield BLOCK[: min(size, len(BLOCK))]
        size -= min(size, len(BLOCK))


def endless() -> Iterator[bytes]:
    """Give bytes for as long as somebody takes them."""
    while True:
        yield BLOCK[:10_000]


def application(environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
    """Answer."""
    path = environ["PATH_INFO"]
    if path.startswith("/raise/"):
        stage = path.removeprefix("/raise/")
        if stage == "before":
            raise LookupError(stage)
        write = start_response("200 OK", TEXT)
        if stage == "started":
            raise LookupError(stage)
        if stage == "write":
            write(b"part")
            raise LookupError(stage)
        return Fails(stage)
    if path == "/upload":
        count = 0
        while block := environ["wsgi.input"].read(1 << 16):
            count += len(block)
        start_response("200 OK", TEXT)
        return [b"\r\n%d" % count]
    if path == "/wait":
        time.sleep(0.05)
    start_response("200 OK", TEXT)
    if path == "/download":
        return blocks(int(environ["QUERY_STRING"]))
    return endless() if path == "/endless" else [b"hello"]
