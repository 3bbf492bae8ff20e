"""The options of a server that concern requests: names, kinds and defaults."""

import difflib
import os
from dataclasses import dataclass
from typing import Any

from roving.serve import _log

__all__ = ["OPTIONS", "Option", "settings"]


@dataclass(frozen=True)
class Option:
    """One option."""

    name: str
    """What it is called, with `_` on the inside of Python and `-` on the command line."""
    native: str
    """What the extension module calls it."""
    kind: str
    """count, size, seconds, text, or switch."""
    default: str
    """The default, for the help."""
    help: str
    """What it does."""
    aliases: tuple[str, ...] = ()
    """Other names, of gunicorn's and uvicorn's."""
    least: int = 0
    """The smallest number."""


OPTIONS = [
    Option(
        "limit_concurrency",
        "in_flight",
        "count",
        "1000 a worker",
        "requests that are with the application at once; connections are not counted",
        least=1,
    ),
    Option("limit_queue", "queue", "count", "1024", "requests that may wait for that; others get 503"),
    Option("limit_request_line", "max_target", "size", "8190", "bytes of a request's target", least=1),
    Option("limit_request_fields", "max_headers", "count", "100", "header fields of a request", least=1),
    Option(
        "limit_request_head",
        "max_head",
        "size",
        "64K",
        "bytes of a request's head",
        least=1024,
    ),
    Option("limit_request_body", "max_body", "size", "none", "bytes of a request's body"),
    Option(
        "timeout_header",
        "header_timeout",
        "seconds",
        "15",
        "for a request's head to come in, from its first byte on",
    ),
    Option(
        "keep_alive",
        "keep_alive",
        "seconds",
        "5",
        "for the next request to come",
        ("timeout_keep_alive",),
    ),
    Option(
        "timeout_body",
        "body_grace",
        "seconds",
        "30",
        "that may be spent waiting for a body, before --min-body-rate counts",
    ),
    Option(
        "min_body_rate", "min_body_rate", "count", "240", "bytes a second that a body must bring; 0: none"
    ),
    Option(
        "timeout_write", "write_timeout", "seconds", "60", "for a client to take something of its response"
    ),
    Option(
        "cancel_on_disconnect",
        "cancel_on_disconnect",
        "switch",
        "off",
        "cancel the fiber of a request whose client has gone",
    ),
    Option(
        "tls_cert",
        "tls",
        "text",
        "none",
        "a file with the server's certificate and those above it, in PEM; with it, TLS",
        ("certfile", "ssl_certfile"),
    ),
    Option(
        "tls_key",
        "tls",
        "text",
        "the certificate's file",
        "a file with its key, in PEM",
        ("keyfile", "ssl_keyfile"),
    ),
    Option(
        "tls_client_ca",
        "tls",
        "text",
        "none",
        "a file with the authorities of clients' certificates, in PEM",
        ("ca_certs", "ssl_ca_certs"),
    ),
    Option(
        "tls_client_auth",
        "tls",
        "text",
        "required, with --tls-client-ca",
        "whether clients show certificates: none, optional, required; or 0, 1, 2",
        ("cert_reqs", "ssl_cert_reqs"),
    ),
    Option("http2", "http2", "switch", "on", "speak HTTP/2, by ALPN, or with clients that begin with it"),
    Option(
        "limit_http2_streams",
        "http2_streams",
        "count",
        "128",
        "requests that are open at once on an HTTP/2 connection",
        least=1,
    ),
    Option(
        "thread_locals",
        "",
        "text",
        "request",
        "request: values of threading.local end with it; pooled: they are for requests after it, too",
    ),
    Option(
        "thread_locals_kept", "", "count", "64", "with pooled, sets of them that are kept at once", least=1
    ),
    Option("root_path", "root_path", "text", "none", "where the application is mounted: its SCRIPT_NAME"),
    Option(
        "forwarded_allow_ips",
        "",
        "text",
        "nobody",
        "proxies that are believed: addresses and networks, unix, * for whoever connects",
    ),
    Option(
        "proxy_headers",
        "",
        "switch",
        "on",
        "believe the proxies of --forwarded-allow-ips",
    ),
    Option(
        "trusted_proxy_headers",
        "",
        "text",
        "x-forwarded-for, x-forwarded-proto",
        "what those proxies set: also x-forwarded-host and -prefix; or forwarded",
    ),
    Option(
        "access_log_format",
        "access_format",
        "text",
        "combined",
        "combined, common, json, or atoms as gunicorn has them: %(h)s",
    ),
    Option("server_header", "server", "text", "none", "the Server field of responses that have none"),
    Option("date_header", "date", "switch", "on", "give responses a Date field"),
]

_BACKLOG = 2048
# Sets of thread-locals.
_KEPT = 64
_OTHERS = ("access_log", "admin_bind", "backlog", "bind")
_BY_NAME = {name: option for option in OPTIONS for name in (option.name, *option.aliases)}


def settings(options: dict[str, Any]) -> tuple[int, dict[str, Any]]:
    """Check options given by name: the backlog, and what the extension module takes.

    Raises TypeError for names that there are not and values of wrong types, ValueError for values that make
    no sense.
    """
    backlog = _BACKLOG
    native: dict[str, Any] = {}
    files: dict[str, str] = {}
    for name, value in options.items():
        if name == "access_log":
            if not isinstance(value, (bool, str)):
                raise TypeError(f"access_log must be True, False or a path, not {type(value).__name__}")
            if value is True:
                native["access"] = _log.access
            elif value:
                native["access_file"] = value
            continue
        if name == "backlog":
            backlog = _number(name, value, 1)
            continue
        option = _BY_NAME.get(name)
        if option is None:
            close = difflib.get_close_matches(name, [*_BY_NAME, *_OTHERS], n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise TypeError(f"roving.serve has no option {name}{hint}")
        if value is None:
            continue
        if option.native == "tls":
            files[option.name] = _text(option, value)
            continue
        checked = _checked(option, value)
        if option.native:
            native[option.native] = checked
    pooled = options.get("thread_locals") == "pooled"
    if options.get("thread_locals_kept") is not None and not pooled:
        raise ValueError("thread_locals_kept is of use only with thread_locals pooled")
    if pooled:
        native["locals"] = options.get("thread_locals_kept") or _KEPT
    if files:
        native["tls"] = _tls(files)
    if options.get("forwarded_allow_ips") and options.get("proxy_headers", True):
        fields = options.get("trusted_proxy_headers") or "x-forwarded-for,x-forwarded-proto"
        native["proxies"] = (options["forwarded_allow_ips"], fields)
    return backlog, native


# As the module ssl counts them (ssl.CERT_NONE...), which is what gunicorn and uvicorn take.
_AUTH = {"none": "none", "optional": "optional", "required": "required"} | {
    "0": "none",
    "1": "optional",
    "2": "required",
}


def _tls(files: dict[str, str]) -> tuple[str, str | None, str | None, str]:
    """Check the options of TLS together."""
    certificate = files.get("tls_cert")
    if certificate is None:
        raise ValueError(f"{next(iter(files))} is of use only with tls_cert")
    authorities = files.get("tls_client_ca")
    auth = files.get("tls_client_auth", "none" if authorities is None else "required")
    if auth not in _AUTH:
        raise ValueError(f"tls_client_auth must be none, optional or required, and is {auth!r}")
    if authorities is None and _AUTH[auth] != "none":
        raise ValueError(f"tls_client_auth={auth} takes tls_client_ca: who signs the clients' certificates")
    if authorities is not None and _AUTH[auth] == "none":
        authorities = None
    return certificate, files.get("tls_key"), authorities, _AUTH[auth]


def _text(option: Option, value: Any) -> str:
    if option.name == "tls_client_auth" and isinstance(value, int):
        return str(int(value))
    if isinstance(value, (str, os.PathLike)):
        return os.fspath(value)
    raise TypeError(f"{option.name} must be a path, not {type(value).__name__}")


def _number(name: str, value: Any, least: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name} must be a whole number, not {type(value).__name__}")
    if not least <= value < 1 << 31:
        raise ValueError(f"{name} must be from {least} on, and is {value}")
    return value


def _checked(option: Option, value: Any) -> Any:
    if option.kind == "size":
        if isinstance(value, bool) or not isinstance(value, int):
            raise TypeError(f"{option.name} must be a number of bytes, not {type(value).__name__}")
        if value < option.least:
            raise ValueError(f"{option.name} must be from {option.least} bytes on, and is {value}")
        return value
    if option.kind == "count":
        return _number(option.name, value, option.least)
    if option.kind == "seconds":
        if isinstance(value, bool) or not isinstance(value, (int, float)):
            raise TypeError(f"{option.name} must be a number of seconds, not {type(value).__name__}")
        return float(value)
    if option.kind == "switch":
        if not isinstance(value, bool):
            raise TypeError(f"{option.name} must be True or False, not {type(value).__name__}")
        return value
    if not isinstance(value, str):
        raise TypeError(f"{option.name} must be a str, not {type(value).__name__}")
    if option.name == "thread_locals" and value not in ("request", "pooled"):
        raise ValueError(f"thread_locals must be request or pooled, and is {value!r}")
    if option.name == "root_path":
        if value and not value.startswith("/"):
            raise ValueError(f"root_path must begin with a slash, and is {value!r}")
        return value.rstrip("/")
    return value
