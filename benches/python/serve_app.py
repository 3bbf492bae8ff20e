"""The WSGI applications that benches/python/serve.py has served."""

import time
from collections.abc import Callable, Iterable
from typing import Any

Start = Callable[..., object]


def hello(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Say hello."""
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", "13")])
    return [b"Hello, world!"]


def sleeping(environ: dict[str, Any], start_response: Start) -> Iterable[bytes]:
    """Wait for 50 ms, as for a database."""
    time.sleep(0.05)
    return hello(environ, start_response)


def flask_json() -> Any:
    """Make a Flask application that answers with a small JSON document."""
    import flask

    app = flask.Flask(__name__)

    @app.get("/")
    def index() -> Any:
        return {"message": "Hello, world!", "numbers": [1, 2, 3]}

    return app


def __getattr__(name: str) -> Any:
    """Make the Flask application when it is asked for: the others do without it."""
    if name != "flask_app":
        raise AttributeError(name)
    app = globals()[name] = flask_json()
    return app
