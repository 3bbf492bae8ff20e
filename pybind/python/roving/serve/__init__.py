"""A WSGI server whose requests are fibers: what `roving serve` runs, for programs and tests.

>>> with roving.serve(app, bind="127.0.0.1:0") as server:
...     urllib.request.urlopen(server.url).read()
b'hello'
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from roving.serve._handle import ServerHandle

__all__ = ["serve"]


def serve(application: Any, /, bind: str | list[str] = "127.0.0.1:8000", **options: Any) -> ServerHandle:
    """Serve a WSGI application, on workers and in fibers of this process; return a handle.

    `bind` is one or several of `HOST:PORT` (port 0: the system chooses one), `unix:PATH` and `fd://NUMBER`.
    The options are those of `roving serve --help` that concern requests, with `_` for `-`: times in seconds,
    sizes in bytes. It serves until the handle is closed. Nothing is patched: see `roving.patch` for what that
    means to code that blocks.

    Raises OSError when it cannot listen there, TypeError for an option that there is not, ValueError for one
    that makes no sense.

    >>> server = roving.serve(app, bind="127.0.0.1:0", keep_alive=2)
    >>> server.close()
    True
    """
    # Not imported with roving: most programs serve nothing.
    from roving.serve._handle import start

    return start(application, [bind] if isinstance(bind, str) else list(bind), options)
