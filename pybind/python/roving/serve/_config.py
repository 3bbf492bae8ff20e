"""Where options come from beside the command line: the environment, and a file."""

from __future__ import annotations

import difflib
import os
import re
import tomllib
from collections.abc import Mapping
from typing import Any

from roving.serve._kinds import FROM_FILE, FROM_TEXT
from roving.serve._table import PLACES, TABLE, Entry

__all__ = ["ConfigError", "defaults", "from_environment", "from_file", "place", "printed"]

PREFIX = "ROVING_SERVE_"
_BY_NAME = {entry.name: entry for entry in TABLE}
_BY_NAME["application"] = Entry("application", "application", "text", "", "")

# In the order in which they are looked for; of the first that is there only.
_USUAL = ("roving.toml", "pyproject.toml")


class ConfigError(Exception):
    """Raised when the environment or a file says what makes no sense: its text says where, and what."""


def _checked(entry: Entry, value: Any) -> Any:
    if entry.choices and value not in entry.choices:
        raise ValueError(f"{value!r} is none of {', '.join(entry.choices)}")
    return value


def from_environment(environment: Mapping[str, str]) -> tuple[dict[str, Any], list[str]]:
    """Read ROVING_SERVE_*: the values, and names that mean nothing here.

    Those are no error: an orchestrator may set some, for a service that is called roving-serve. Raises
    ConfigError.
    """
    found: dict[str, Any] = {}
    unknown: list[str] = []
    for name, text in environment.items():
        if not name.startswith(PREFIX) or name == PREFIX + "CONFIG":
            continue
        entry = _BY_NAME.get(name.removeprefix(PREFIX).lower())
        if entry is None:
            unknown.append(name)
            continue
        try:
            found[entry.name] = _checked(entry, FROM_TEXT[entry.kind](text))
        except ValueError as error:
            raise ConfigError(f"{name}: {error}") from None
    return found, unknown


def defaults(environment: Mapping[str, str]) -> dict[str, tuple[str, Any]]:
    """Read what platforms set, and gunicorn takes for defaults: for each option its source and its value.

    Raises ConfigError.
    """
    found: dict[str, tuple[str, Any]] = {}
    try:
        if text := environment.get("WEB_CONCURRENCY"):
            found["workers"] = ("WEB_CONCURRENCY", FROM_TEXT["positive"](text))
    except ValueError as error:
        raise ConfigError(f"WEB_CONCURRENCY: {error}") from None
    try:
        if text := environment.get("PORT"):
            found["bind"] = ("PORT", [f"0.0.0.0:{FROM_TEXT['count'](text)}"])
    except ValueError as error:
        raise ConfigError(f"PORT: {error}") from None
    if text := environment.get("FORWARDED_ALLOW_IPS"):
        found["forwarded_allow_ips"] = ("FORWARDED_ALLOW_IPS", text)
    return found


def from_file(path: str | None) -> tuple[str | None, dict[str, Any]]:
    """Read a file, or the usual one of this folder: its path, and the values. Raises ConfigError."""
    if path is not None:
        return path, _read(path, required=True)
    for usual in _USUAL:
        if os.path.exists(usual) and (values := _read(usual, required=False)) is not None:
            return usual, values
    return None, {}


def _read(path: str, *, required: bool) -> Any:
    try:
        with open(path, encoding="utf-8") as file:
            text = file.read()
    except OSError as error:
        raise ConfigError(f"{path}: it cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise ConfigError(f"{path}: it is not UTF-8, at byte {error.start}") from None
    try:
        table: Any = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise ConfigError(f"{path}: it is no TOML: {error}") from None
    names = ("tool", "roving", "serve") if os.path.basename(path) == "pyproject.toml" else ("serve",)
    title = ".".join(names)
    for name in names:
        table = table.get(name) if isinstance(table, dict) else None
    if table is None:
        if required:
            raise ConfigError(f"{path}: it has no table [{title}]")
        return None
    if not isinstance(table, dict):
        raise ConfigError(f"{path}: [{title}] is no table")
    return _values(path, text, title, table)


def _values(path: str, text: str, title: str, table: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in table.items():
        where = f"{path}{_line(text, title, key)}"
        entry = _BY_NAME.get(key.replace("-", "_"))
        if entry is None:
            names = [name.replace("_", "-") for name in _BY_NAME]
            close = difflib.get_close_matches(key.replace("_", "-"), names, n=1)
            hint = f"; did you mean {close[0]}?" if close else ""
            raise ConfigError(f"{where}: there is no option {key}{hint}")
        if entry.name in found:
            raise ConfigError(f"{where}: {key}: it is there twice, with - and with _")
        try:
            found[entry.name] = _checked(entry, FROM_FILE[entry.kind](value))
        except ValueError as error:
            raise ConfigError(f"{where}: {key}: {error}") from None
    return found


def _line(text: str, title: str, key: str) -> str:
    """Find the line of a key, which the parser does not tell; nothing where it is written unusually."""
    inside = False
    for number, line in enumerate(text.splitlines(), 1):
        if header := re.match(r"\s*\[\s*([^\[\]]+?)\s*\]", line):
            inside = re.sub(r"\s|\"", "", header[1]) == title
        elif inside and re.match(rf"\s*[\"']?{re.escape(key)}[\"']?\s*=", line):
            return f":{number}"
    return ""


def place(values: dict[str, Any]) -> list[str] | None:
    """Say where one source wants to listen, if it says so."""
    if not any(values.get(name) is not None for name in PLACES):
        return None
    bind = list(values.get("bind") or [])
    host, port = values.get("host"), values.get("port")
    if host is not None or port is not None:
        host = "127.0.0.1" if host is None else host
        host = f"[{host}]" if ":" in host else host
        bind.append(f"{host}:{8000 if port is None else port}")
    if values.get("uds") is not None:
        bind.append(f"unix:{values['uds']}")
    if values.get("fd") is not None:
        bind.append(f"fd://{values['fd']}")
    return bind


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, str):
        escaped = value.replace("\\", "\\\\").replace('"', '\\"')
        escaped = "".join(letter if letter.isprintable() else f"\\U{ord(letter):08x}" for letter in escaped)
        return f'"{escaped}"'
    return repr(value)


def printed(values: dict[str, Any], sources: dict[str, str]) -> str:
    """Write down, as a file, what is set and where each is from; the defaults of the rest in comments."""
    lines = ["[serve]"]
    if "application" in values:
        lines.append(f"application = {_toml(values['application'])}  # {sources['application']}")
    for entry in TABLE:
        key = entry.name.replace("_", "-")
        if entry.name in values:
            value = values[entry.name]
            text = f"0o{value:03o}" if entry.kind == "mode" else _toml(value)
            lines.append(f"{key} = {text}  # {sources[entry.name]}")
        elif entry.name not in PLACES[1:]:
            lines.append(f"# {key}: {entry.default}")
    return "\n".join(lines) + "\n"
