"""One value at a time, to JSON and back: what the codec's two directions are made of."""

import base64
import binascii
import enum
import math
import zoneinfo
from collections.abc import Callable
from dataclasses import dataclass
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from typing import Any, Protocol
from uuid import UUID

from roving.tasks._hints import (
    Hints,
    Signature,
    entry,
    enums,
    fields_of,
    is_record,
    item,
    names_of,
    parameters,
    records,
)

# What an argument may be, asked for only when something in it has to know.
type Hinted = Callable[[], Hints] | None

_PLAIN = frozenset({str, int, float, bool, type(None)})
# Deeper than whatever may be written.
_DEEPEST = 120


class Failed(ValueError):
    """A value that cannot be written or read, and on the way up the path to it."""

    def __init__(self, why: str) -> None:
        """Begin at the value."""
        super().__init__(why)
        self._why = why
        self._path: list[str] = []
        self._what = ""

    def within(self, step: str) -> "Failed":
        """Add the step that leads to what failed."""
        self._path.append(step)
        return self

    def of(self, what: str) -> "Failed":
        """Say of which argument all this is."""
        self._what = what
        return self

    def told(self) -> str:
        """Tell the whole."""
        steps = self._path[::-1]
        if len(steps) > 12:
            steps[6:-3] = ["[...]"]
        path = "".join(steps)
        return f"{self._what}{path and ' → ' + path}: {self._why}"


class _Direction(Protocol):
    def value(self, value: Any, hints: Hints | None, depth: int) -> Any: ...


def called(direction: _Direction, value: Any, what: str, hinted: Hinted) -> Any:
    """Convert an argument; errors say that it is this one."""
    if type(value) in _PLAIN and type(direction) is Writer and not direction.strict:
        return value
    try:
        # The annotations are looked at only for values that have parts, or are of another kind.
        plain = type(value) in _PLAIN
        return direction.value(value, None if hinted is None or plain else hinted(), 1)
    except Failed as error:
        raise error.of(what) from error.__cause__


@dataclass(frozen=True, slots=True)
class Result:
    """Stands in a job's arguments for the result of another, which it waits for."""

    id: str


@dataclass(frozen=True)
class Registered:
    """A type that comes back by a name."""

    kind: type[Any]
    name: str
    encode: Callable[[Any], Any] | None
    decode: Callable[[Any], Any] | None


class Writer:
    """Makes a value of JSON's kinds. Hints that are None are not known, so nothing is demanded of them."""

    def __init__(
        self,
        registry: dict[type[Any], Registered],
        depth: int,
        signature: Signature | None,
        strict: bool = False,
    ) -> None:
        """`strict` looks at each text and number as well, which the encoder would refuse without a path."""
        self._registry = registry
        self._depth = depth
        self._signature = signature
        self.strict = strict

    def value(self, value: Any, hints: Hints | None, depth: int) -> Any:
        """Convert one value."""
        kind = type(value)
        if kind in _PLAIN:
            return _checked(value) if self.strict else value
        if depth > self._depth:
            raise Failed(f"nested deeper than {self._depth} (max_depth). Does it contain itself?")
        if self._registry and (registered := self._registry.get(kind)):
            return self._registered(value, registered, depth)
        if kind is list:
            return self._items(value, hints, depth)
        if kind is dict:
            return self._dict(value, hints, depth)
        if kind in _SCALARS:
            tag, write = _SCALARS[kind]
            return {tag: write(value)}
        if kind is tuple:
            return {"$tuple": self._items(value, hints, depth)}
        if kind is set or kind is frozenset:
            return {f"${kind.__name__}": sorted(self._items(value, hints, depth), key=_order)}
        if isinstance(value, enum.Enum):
            return self._enum(value, hints, depth)
        if is_record(kind):
            return self._record(value, hints, depth)
        return self._derived(value, hints, depth)

    def _items(self, values: Any, hints: Hints | None, depth: int) -> list[Any]:
        found = []
        strict = self.strict
        at = 0
        try:
            for at, value in enumerate(values):
                if type(value) in _PLAIN and not strict:
                    found.append(value)
                else:
                    found.append(self.value(value, hints and item(hints, at), depth + 1))
        except Failed as error:
            raise error.within(f"[{at}]") from error.__cause__
        return found

    def _dict(self, values: dict[Any, Any], hints: Hints | None, depth: int) -> Any:
        found = {}
        strict = self.strict
        for key, value in values.items():
            if not isinstance(key, str) or isinstance(key, enum.Enum):
                raise Failed(f"the key {key!r:.100} is of type {type(key).__name__}; JSON's keys are texts")
            try:
                if strict:
                    _checked(key)
                if type(value) in _PLAIN and not strict:
                    found[key] = value
                else:
                    found[key] = self.value(value, hints and entry(hints, key), depth + 1)
            except Failed as error:
                raise error.within(f"[{key!r}]") from error.__cause__
        if len(found) == 1 and next(iter(found)).startswith("$"):
            return {"$dict": found}
        return found

    def _registered(self, value: Any, registered: Registered, depth: int) -> Any:
        if registered.encode is not None:
            try:
                plain = registered.encode(value)
            except Exception as error:
                name = registered.name
                raise Failed(f"encode= of {name!r} failed with {type(error).__name__}: {error}") from error
            written = self.value(plain, None, depth + 1)
        elif isinstance(value, enum.Enum):
            written = self.value(value.value, None, depth + 1)
        else:
            written = self._fields(value, depth)
        return {"$type": [registered.name, written]}

    def _enum(self, value: enum.Enum, hints: Hints | None, depth: int) -> Any:
        if hints is None or type(value) in enums(hints):
            if isinstance(value, str | int | float) and hints is None:
                return self.value(value.value, None, depth)
            others = [kind for kind in enums(hints or ()) if kind is not type(value)]
            for other in others:
                if value.value in [member.value for member in other]:
                    raise self._ambiguous(type(value), other, f"have a member {value.value!r}")
            return {"$enum": self.value(value.value, None, depth + 1)}
        if isinstance(value, str | int | float):
            return self.value(value.value, None, depth)
        raise self._unnamed(type(value), "an enumeration")

    def _record(self, value: Any, hints: Hints | None, depth: int) -> Any:
        kind = type(value)
        if hints is not None:
            named = records(hints)
            if kind not in named:
                raise self._unnamed(kind, "a named tuple" if issubclass(kind, tuple) else "a dataclass")
            for other in named:
                if other is not kind and parameters(other).fit(names_of(kind)):
                    raise self._ambiguous(kind, other, f"take the fields {', '.join(names_of(kind))}")
        return {"$record": self._fields(value, depth)}

    def _fields(self, value: Any, depth: int) -> dict[str, Any]:
        kind = type(value)
        hints = fields_of(kind)
        found = {}
        for name in names_of(kind):
            try:
                part = getattr(value, name)
            except AttributeError as error:
                raise Failed("the field has no value").within(f".{name}") from error
            try:
                found[name] = self.value(part, hints.get(name, ()), depth + 1)
            except Failed as error:
                raise error.within(f".{name}") from error.__cause__
        return found

    def _derived(self, value: Any, hints: Hints | None, depth: int) -> Any:
        for base, as_base in _BASES:
            if isinstance(value, base):
                return self.value(as_base(value), hints, depth)
        kind = type(value)
        raise Failed(f"{_a(kind)} cannot be written as JSON (JSONCodec.register can teach it a type)")

    def _unnamed(self, kind: type[Any], what: str) -> Failed:
        trouble = self._signature.trouble if self._signature else ""
        note = trouble and f" (an annotation cannot be evaluated: {trouble})"
        return Failed(
            f"{kind.__name__} is {what}, and would not come back: annotate the task so that it is named "
            f"here, or register it with the codec{note}"
        )

    def _ambiguous(self, kind: type[Any], other: type[Any], both: str) -> Failed:
        return Failed(
            f"by the annotation it may be {kind.__name__} or {other.__name__}, which both {both}: "
            "register them with the codec"
        )


class Reader:
    """Makes values of what `Writer` made."""

    def __init__(self, registry: dict[str, Registered], signature: Signature | None) -> None:
        """Take the names that are known."""
        self._registry = registry
        self._signature = signature

    def value(self, value: Any, hints: Hints | None, depth: int) -> Any:
        """Convert one value."""
        kind = type(value)
        if kind in _PLAIN:
            return value
        if depth > _DEEPEST:
            raise Failed("nested too deep")
        if kind is list:
            return self._items(value, hints, depth)
        if len(value) == 1:
            ((tag, inner),) = value.items()
            if tag.startswith("$"):
                return self._tagged(tag, inner, hints, depth)
        return self._dict(value, hints, depth)

    def _items(self, values: Any, hints: Hints | None, depth: int) -> list[Any]:
        if type(values) is not list:
            raise Failed(f"a list was to be here, and is {_a(type(values))}")
        found = []
        at = 0
        try:
            for at, value in enumerate(values):
                found.append(
                    value
                    if type(value) in _PLAIN
                    else self.value(value, hints and item(hints, at), depth + 1)
                )
        except Failed as error:
            raise error.within(f"[{at}]") from error.__cause__
        return found

    def _dict(self, values: Any, hints: Hints | None, depth: int) -> dict[str, Any]:
        if type(values) is not dict:
            raise Failed(f"an object was to be here, and is {_a(type(values))}")
        found = {}
        for key, value in values.items():
            try:
                plain = type(value) in _PLAIN
                found[key] = value if plain else self.value(value, hints and entry(hints, key), depth + 1)
            except Failed as error:
                raise error.within(f"[{key!r}]") from error.__cause__
        return found

    def _tagged(self, tag: str, inner: Any, hints: Hints | None, depth: int) -> Any:
        if tag in _READ:
            try:
                return _READ[tag](inner)
            except (ArithmeticError, ValueError, TypeError, AttributeError) as error:
                raise Failed(f"{inner!r:.100} is no {tag[1:]}: {error}") from error
        match tag:
            case "$tuple":
                return tuple(self._items(inner, hints, depth))
            case "$set" | "$frozenset":
                items = self._items(inner, hints, depth)
                try:
                    return set(items) if tag == "$set" else frozenset(items)
                except TypeError as error:
                    raise Failed(f"a set cannot hold it: {error}") from error
            case "$dict":
                return self._dict(inner, hints, depth)
            case "$record":
                return self._record(inner, hints, depth)
            case "$enum":
                return self._enum(self.value(inner, None, depth + 1), hints)
            case "$type":
                return self._registered(inner, depth)
        raise Failed(f"{tag!r} is no tag that this roving knows: a newer one wrote it, or it is damaged")

    def _record(self, inner: Any, hints: Hints | None, depth: int) -> Any:
        if type(inner) is not dict:
            raise Failed(f"a record's fields were to be here, and are {_a(type(inner))}")
        named = records(hints or ())
        fitting = [kind for kind in named if parameters(kind).fit(inner)]
        if len(fitting) == 1:
            return self._made(fitting[0], inner, depth)
        if len(named) == 1:
            return self._made(named[0], inner, depth)
        fields = ", ".join(inner)
        if named:
            names = " or ".join(kind.__name__ for kind in fitting or named)
            raise Failed(f"by the annotation it may be {names}, and the fields are {fields}")
        trouble = self._signature.trouble if self._signature else ""
        raise Failed(
            f"it is a dataclass with the fields {fields}, and no annotation says which"
            f"{trouble and f' (one cannot be evaluated: {trouble})'}"
        )

    def _made(self, kind: type[Any], inner: Any, depth: int) -> Any:
        if type(inner) is not dict:
            raise Failed(f"a record's fields were to be here, and are {_a(type(inner))}")
        takes = parameters(kind)
        if unknown := sorted(inner.keys() - takes.names):
            raise Failed(f"{kind.__name__} has no field {unknown[0]!r} here: has it changed since?")
        if missing := sorted(takes.required - inner.keys()):
            raise Failed(f"{kind.__name__} demands the field {missing[0]!r}: has it changed since?")
        hints = fields_of(kind)
        found = {}
        for name, value in inner.items():
            try:
                found[name] = self.value(value, hints.get(name, ()), depth + 1)
            except Failed as error:
                raise error.within(f".{name}") from error.__cause__
        try:
            return kind(**found)
        except Exception as error:
            raise Failed(f"{kind.__name__} refuses its fields: {type(error).__name__}: {error}") from error

    def _enum(self, value: Any, hints: Hints | None) -> Any:
        named = enums(hints or ())
        for kind in named:
            try:
                return kind(value)
            except ValueError:
                continue
        if named:
            raise Failed(f"{value!r} is no member of {' or '.join(kind.__name__ for kind in named)}")
        raise Failed(f"{value!r} is an enumeration's, and no annotation says which")

    def _registered(self, inner: Any, depth: int) -> Any:
        match inner:
            case [str(name), written]:
                pass
            case _:
                raise Failed("a type's name and value were to be here")
        registered = self._registry.get(name)
        if registered is None:
            raise Failed(f"no type is registered as {name!r} in this process (JSONCodec.register)")
        if registered.decode is None and is_record(registered.kind):
            return self._made(registered.kind, written, depth)
        value = self.value(written, None, depth + 1)
        if registered.decode is None:
            return self._enum(value, (registered.kind,))
        try:
            return registered.decode(value)
        except Exception as error:
            raise Failed(f"decode= of {name!r} failed with {type(error).__name__}: {error}") from error


def _checked(value: Any) -> Any:
    """Refuse what JSON has no way to write, and Python's encoder refuses or writes all the same."""
    if isinstance(value, float) and not math.isfinite(value):
        raise Failed(f"{value} cannot be written as JSON")
    if isinstance(value, str):
        try:
            value.encode()
        except UnicodeEncodeError as error:
            raise Failed(
                f"the text {value!r:.100} has half a surrogate pair in it, which is no character. A file's "
                "name can be sent as os.fsencode(name)"
            ) from error
    elif isinstance(value, int):
        try:
            str(value)
        except ValueError as error:
            raise Failed(f"an integer of {value.bit_length()} bits: {error}") from error
    return value


def _order(written: Any) -> str:
    return str(type(written)) + repr(written)


def _a(kind: type[Any]) -> str:
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"


def _zoned(value: datetime | time, text: str) -> str:
    key = getattr(value.tzinfo, "key", None)
    return f"{text}[{key}]" if isinstance(key, str) else text


def _write_datetime(value: datetime) -> str:
    return _zoned(value, value.isoformat())


def _split_zone(text: str) -> tuple[str, zoneinfo.ZoneInfo | None]:
    if not text.endswith("]"):
        return text, None
    text, _, key = text[:-1].partition("[")
    try:
        return text, zoneinfo.ZoneInfo(key)
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ValueError(f"there is no time zone {key!r} on this machine") from error


def _read_datetime(text: str) -> datetime:
    text, zone = _split_zone(text)
    value = datetime.fromisoformat(text)
    if zone is None:
        return value
    # The same time on the wall, where the zone still had that offset then; otherwise the same moment.
    for fold in (0, 1):
        local = value.replace(tzinfo=zone, fold=fold)
        if local.utcoffset() == value.utcoffset():
            return local
    return value.astimezone(zone)


def _write_time(value: time) -> str:
    return _zoned(value, value.isoformat())


def _read_time(text: str) -> time:
    text, zone = _split_zone(text)
    value = time.fromisoformat(text)
    return value if zone is None else value.replace(tzinfo=zone)


def _write_decimal(value: Decimal) -> str:
    if not value.is_finite():
        raise Failed(f"Decimal('{value}') cannot be written: it is no number")
    return str(value)


def _read_bytes(text: str) -> bytes:
    return base64.b64decode(text, validate=True)


def _write_timedelta(value: timedelta) -> list[int]:
    return [value.days, value.seconds, value.microseconds]


_SCALARS: dict[type[Any], tuple[str, Callable[[Any], Any]]] = {
    datetime: ("$datetime", _write_datetime),
    date: ("$date", date.isoformat),
    time: ("$time", _write_time),
    timedelta: ("$timedelta", _write_timedelta),
    UUID: ("$uuid", str),
    Decimal: ("$decimal", _write_decimal),
    Result: ("$result", lambda value: value.id),
    bytes: ("$bytes", lambda value: binascii.b2a_base64(value, newline=False).decode()),
}

_READ: dict[str, Callable[[Any], Any]] = {
    "$datetime": _read_datetime,
    "$date": date.fromisoformat,
    "$time": _read_time,
    "$timedelta": lambda parts: timedelta(*parts),
    "$uuid": UUID,
    "$decimal": Decimal,
    "$result": lambda text: Result(str(UUID(text))),
    "$bytes": _read_bytes,
}

# Subclasses, which come back as these: of frameworks' texts, ordered dicts, numpy's floats.
_BASES: list[tuple[type[Any], Callable[[Any], Any]]] = [
    (str, lambda value: str.__str__(value)),
    (int, int.__int__),
    (float, float.__float__),
    (list, list),
    (dict, dict),
    (bytes, bytes),
    (UUID, lambda value: UUID(int=value.int)),
    (datetime, lambda value: datetime.combine(value.date(), value.timetz())),
    (date, lambda value: date(value.year, value.month, value.day)),
]
