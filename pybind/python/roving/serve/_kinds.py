"""Values of options: how each kind is read from a text, and from a file."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["FROM_FILE", "FROM_TEXT", "METAVARS"]

_UNITS = {"k": 1 << 10, "m": 1 << 20, "g": 1 << 30}
_SWITCH = {
    **dict.fromkeys(("", "0", "false", "no", "off"), False),
    **dict.fromkeys(("1", "true", "yes", "on"), True),
}


def _count(text: str) -> int:
    if not text.isdecimal():
        raise ValueError(f"{text!r} is not a number")
    return int(text)


def _positive(text: str) -> int:
    if _count(text) < 1:
        raise ValueError(f"{text!r} is not a number from 1 on")
    return int(text)


def _size(text: str) -> int:
    unit = _UNITS.get(text[-1:].lower(), 1)
    return _count(text[:-1] if unit != 1 else text) * unit


def _seconds(text: str) -> float:
    try:
        time = float(text)
    except ValueError:
        time = -1.0
    if not 0 <= time < float("inf"):
        raise ValueError(f"{text!r} is not a number of seconds")
    return time


def _switch(text: str) -> bool:
    if text.lower() not in _SWITCH:
        raise ValueError(f"{text!r} is neither 1 nor 0")
    return _SWITCH[text.lower()]


def _mode(text: str) -> int:
    digits = text.removeprefix("0o")
    if not digits or set(digits) - set("01234567") or int(digits, 8) > 0o777:
        raise ValueError(f"{text!r} is no mode in octal, as 027")
    return int(digits, 8)


def _log(text: str) -> bool | str:
    """Read a switch, or a path."""
    return _SWITCH.get(text.lower(), text)


def _list(text: str) -> list[str]:
    return [word.strip() for word in text.split(",") if word.strip()]


FROM_TEXT: dict[str, Callable[[str], Any]] = {
    "count": _count,
    "positive": _positive,
    "size": _size,
    "seconds": _seconds,
    "text": str,
    "switch": _switch,
    "mode": _mode,
    "log": _log,
    "list": _list,
}
METAVARS = {
    "count": "N",
    "positive": "N",
    "size": "BYTES",
    "seconds": "SECONDS",
    "text": "TEXT",
    "mode": "MODE",
    "list": "PLACE",
}


def _whole(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _only(kind: str, fits: Callable[[Any], bool], words: str) -> Callable[[Any], Any]:
    """Read a value that has a type of its own; a number is then checked as its text would be."""

    def read(value: Any) -> Any:
        if not fits(value):
            raise ValueError(f"{words} is wanted, not {_described(value)}")
        return FROM_TEXT[kind](str(value)) if isinstance(value, (int, float)) else value

    return read


def _described(value: Any) -> str:
    names = {bool: "a boolean", int: "an integer", float: "a float", str: "a string"}
    names |= {list: "an array", dict: "a table"}
    return names.get(type(value), f"a {type(value).__name__}")


def _sized(value: Any) -> int:
    if isinstance(value, str):
        return _size(value)
    if not _whole(value):
        raise ValueError(f'a number of bytes, or a text as "64K", is wanted, not {_described(value)}')
    return _count(str(value))


def _masked(value: Any) -> int:
    if isinstance(value, str):
        return _mode(value)
    if not _whole(value):
        raise ValueError(f'a mode as 0o027, or "027", is wanted, not {_described(value)}')
    return _mode(oct(value))


def _listed(value: Any) -> list[str]:
    if isinstance(value, str):
        return _list(value)
    if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
        raise ValueError(f"an array of strings is wanted, not {_described(value)}")
    return value


def _logged(value: Any) -> bool | str:
    if not isinstance(value, (bool, str)):
        raise ValueError(f"true, false or a path is wanted, not {_described(value)}")
    return value


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _truth(value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"true or false is wanted, not {_described(value)}")
    return value


FROM_FILE: dict[str, Callable[[Any], Any]] = {
    "count": _only("count", _whole, "a number"),
    "positive": _only("positive", _whole, "a number"),
    "size": _sized,
    "seconds": _only(
        "seconds", lambda value: _whole(value) or isinstance(value, float), "a number of seconds"
    ),
    "text": _only("text", _is_text, "a string"),
    "switch": _truth,
    "mode": _masked,
    "log": _logged,
    "list": _listed,
}
