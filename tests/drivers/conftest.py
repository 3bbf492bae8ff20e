"""Servers for all tests of drivers, and patches for each of them."""

import gc
import os
import tempfile
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

import patched
import pytest
import roving
import servers

# Cancelled amid connect, CPython's socket.create_connection leaves its socket to be finalized, as after a
# Ctrl-C, and libraries do so with connections that failed.
UNCLOSED = ("ignore:unclosed", "ignore:Exception ignored while finalizing socket")


def pytest_configure(config: pytest.Config) -> None:
    """Let the libraries do so here; in other tests it is an error."""
    for warning in UNCLOSED:
        config.addinivalue_line("filterwarnings", warning)


def pytest_sessionfinish() -> None:
    """Collect what they have left now: at pytest's end its own filters of warnings apply again."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture(scope="session", autouse=True)
def _preempted() -> None:
    """Preempt fibers, as `roving run` does: after 10 ms, or those of ROVING_PREEMPT."""
    roving.configure(preempt=float(os.environ.get("ROVING_PREEMPT", "10")) / 1000)


@pytest.fixture(autouse=True)
def _patched() -> Iterator[None]:
    with patched.everything():
        yield


@pytest.fixture(scope="session")
def _server() -> Iterator[Callable[..., servers.Server]]:
    """Start a server once, whoever asks first; skip where its program is missing."""
    known: dict[str, servers.Server | str] = {}
    with ExitStack() as stack:
        # Not pytest's: other accounts may not enter that.
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="roving-drivers-")))
        folder.chmod(0o711)

        def get(make: Callable[[Path], servers.Server]) -> servers.Server:
            name = make.__name__
            if name not in known:
                try:
                    known[name] = stack.enter_context(make(folder / name).running())
                except servers.Missing as missing:
                    known[name] = str(missing)
            server = known[name]
            if isinstance(server, str):
                pytest.skip(server)
            return server

        yield get


@pytest.fixture
def origin(_server: Callable[..., servers.Server]) -> servers.Server:
    """A web server."""
    return _server(servers.origin)


@pytest.fixture
def tls_origin(_server: Callable[..., servers.Server]) -> servers.Server:
    """A web server that speaks TLS."""
    return _server(servers.tls_origin)


@pytest.fixture
def redis_server(_server: Callable[..., servers.Server]) -> servers.Server:
    """Redis."""
    return _server(servers.redis)


@pytest.fixture
def postgres(_server: Callable[..., servers.Server]) -> servers.Server:
    """PostgreSQL."""
    return _server(servers.postgres)


@pytest.fixture
def mariadb(_server: Callable[..., servers.Server]) -> servers.Server:
    """MariaDB."""
    return _server(servers.mariadb)
