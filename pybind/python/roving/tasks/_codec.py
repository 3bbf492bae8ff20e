"""How a job's arguments and its result are written down, and read back without ever running what was written.

JSON, with objects of one key that begins with `$` for what JSON lacks:

| tag | value |
|---|---|
| `$tuple` `$set` `$frozenset` | a list; sets in a fixed order, so that equal arguments are equal payloads |
| `$bytes` | base64 |
| `$datetime` | RFC 9557: ISO 8601, and the zone's name in brackets |
| `$date` `$time` `$timedelta` | ISO 8601; days, seconds and microseconds |
| `$uuid` `$decimal` | their text |
| `$result` | the id of a job whose result this stands for (`_canvas.py`) |
| `$record` | the fields of a dataclass or a named tuple; which, the task's annotation says |
| `$enum` | an enumeration's value; which, the annotation says |
| `$type` | the name of a type that was registered with the codec, and its value |
| `$dict` | a dict that looks like one of these |
"""

import enum
import json
from collections.abc import Callable
from typing import Any, Protocol, overload, runtime_checkable

from roving.tasks import _values
from roving.tasks._errors import DecodeError, EncodeError
from roving.tasks._hints import Signature, is_record, signature_of
from roving.tasks._values import Failed, Reader, Registered, Writer

# The version of the form described above.
VERSION = 1

_write = json.JSONEncoder(
    ensure_ascii=False, allow_nan=False, check_circular=False, separators=(",", ":")
).encode


@runtime_checkable
class Codec(Protocol):
    """What `Tasks(codec=)` takes: how arguments and results become bytes, and come back.

    `function` is the task's function, or its `Signature`: a codec may go by its annotations. Encoding raises
    EncodeError, decoding DecodeError. What it writes has to be readable for as long as jobs are kept, and
    reading it must not run what was written: do not unpickle.

    >>> class MessagePack:
    ...     name = "msgpack"
    ...     def encode_call(self, args, kwargs, where, function=None):
    ...         return msgpack.packb([args, kwargs])
    ...     ...
    """

    @property
    def name(self) -> str:
        """The name that jobs keep: they are read by the codec of the name that wrote them."""

    def encode_call(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        where: str,
        function: Callable[..., Any] | Signature | None = None,
    ) -> bytes:
        """Write a call's arguments down; `where` begins the message of an error."""

    def decode_call(
        self, data: bytes, function: Callable[..., Any] | Signature | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read a call's arguments."""

    def encode_result(self, value: Any, function: Callable[..., Any] | Signature | None = None) -> bytes:
        """Write a result down."""

    def decode_result(self, data: bytes, function: Callable[..., Any] | Signature | None = None) -> Any:
        """Read a result."""


class JSONCodec:
    """JSON, and beyond it tuples, sets, bytes, dates, times, Decimal, UUID, enumerations and dataclasses.

    Dataclasses, named tuples and enumerations come back where the task's annotations name them, or where they
    are registered (`register`). An enumeration whose members are texts or numbers is otherwise sent as those.
    Subclasses of dict, list, str and numbers come back as what they are derived from.

    Args:
        max_depth: How deep values may be nested, 1 to 100.
        max_size: How many bytes a payload or a result may have.

    >>> codec = JSONCodec()
    >>> codec.decode_call(codec.encode_call((1, {"a": b"x"}), {}, "send()"))
    ((1, {'a': b'x'}), {})
    """

    name = "json"

    def __init__(self, *, max_depth: int = 50, max_size: int = 1 << 20) -> None:
        """Set the limits."""
        if not 1 <= max_depth <= 100:
            raise ValueError(f"max_depth must be from 1 to 100, and is {max_depth}")
        if max_size < 1:
            raise ValueError(f"max_size must be at least 1, and is {max_size}")
        self._depth = max_depth
        self._size = max_size
        self._by_type: dict[type[Any], Registered] = {}
        self._by_name: dict[str, Registered] = {}

    @overload
    def register[T](
        self,
        kind: type[T],
        *,
        name: str = "",
        encode: Callable[[T], Any] | None = None,
        decode: Callable[[Any], T] | None = None,
    ) -> type[T]: ...
    @overload
    def register[T](self, *, name: str) -> Callable[[type[T]], type[T]]: ...
    def register[T](
        self,
        kind: type[T] | None = None,
        *,
        name: str = "",
        encode: Callable[[T], Any] | None = None,
        decode: Callable[[Any], T] | None = None,
    ) -> type[T] | Callable[[type[T]], type[T]]:
        """Let a type come back anywhere, by a name that is looked up here and nowhere else.

        Processes that enqueue and processes that work both register it.

        Args:
            kind: A dataclass, a named tuple, an enumeration; any class where `encode` and `decode` are given.
            name: What payloads call it. By default the class's name.
            encode: Makes a value that the codec knows out of one of these.
            decode: Makes one of these out of that value.

        Raises:
            ValueError: Another type has this name, or this one is registered already.
            TypeError: It is of no kind that can be registered, or only one of `encode` and `decode` is given.

        >>> codec.register(Money, encode=lambda money: money.cents, decode=Money)
        """
        if kind is None:
            return lambda kind: self.register(kind, name=name)
        if not isinstance(kind, type):
            raise TypeError(f"register takes a class, and {kind!r} is none")
        if (encode is None) != (decode is None):
            raise TypeError(f"{kind.__name__}: encode and decode go together, and only one of them is given")
        if encode is None and not is_record(kind) and not issubclass(kind, enum.Enum):
            raise TypeError(
                f"{kind.__name__} is no dataclass, named tuple or enumeration: give encode and decode"
            )
        name = name or kind.__name__
        if name in self._by_name:
            raise ValueError(f"there is a type registered as {name!r} already: {self._by_name[name].kind}")
        if kind in self._by_type:
            raise ValueError(f"{kind} is registered already, as {self._by_type[kind].name!r}")
        self._by_type[kind] = self._by_name[name] = Registered(kind, name, encode, decode)
        return kind

    def encode_call(
        self,
        args: tuple[Any, ...],
        kwargs: dict[str, Any],
        where: str,
        function: Callable[..., Any] | Signature | None = None,
    ) -> bytes:
        """Write a call's arguments down.

        Args:
            args: Positional ones.
            kwargs: Those by name.
            where: What begins an error's message, such as `send()`.
            function: The task's function, or its signature: whether a dataclass would come back is looked at
                now, and messages have the parameters' names. Without it neither.

        Raises:
            EncodeError: A value of a type that cannot be written; NaN, infinity; a dict's key that is no
                text; nested too deep; too large.
        """
        signature = signature_of(function)

        def make(writer: Writer) -> object:
            return {
                "v": VERSION,
                "args": [
                    _values.called(writer, value, f"argument {_label(signature, at)}", _at(signature, at))
                    for at, value in enumerate(args)
                ],
                "kwargs": {
                    _name(key): _values.called(writer, value, f"argument {key!r}", _by_name(signature, key))
                    for key, value in kwargs.items()
                },
            }

        return self._encode(make, where, signature)

    def encode_result(self, value: Any, function: Callable[..., Any] | Signature | None = None) -> bytes:
        """Write a result down; raises EncodeError as `encode_call` does."""
        signature = signature_of(function)
        hints = None if signature is None else signature.result

        def make(writer: Writer) -> object:
            return {"v": VERSION, "result": _values.called(writer, value, "the result", hints)}

        return self._encode(make, "", signature)

    def _encode(self, make: Callable[[Writer], object], where: str, signature: Signature | None) -> bytes:
        prefix = where and f"{where}: "
        try:
            try:
                data = _write(make(Writer(self._by_type, self._depth, signature))).encode()
            except (UnicodeEncodeError, ValueError, RecursionError) as error:
                if isinstance(error, Failed):
                    raise
                # A text, a float or an integer that JSON does not take. Now each is looked at, to say which.
                make(Writer(self._by_type, self._depth, signature, strict=True))
                raise
        except Failed as error:
            raise EncodeError(f"{prefix}{error.told()}") from error.__cause__
        except (ValueError, RecursionError) as error:
            raise EncodeError(f"{prefix}{error}") from error
        if len(data) > self._size:
            what = "the arguments have" if where else "the result has"
            raise EncodeError(
                f"{prefix}{what} {len(data)} bytes, and at most {self._size} are taken (max_size). "
                "Keep large data elsewhere, and pass what finds it"
            )
        return data

    def decode_call(
        self, data: bytes, function: Callable[..., Any] | Signature | None = None
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        """Read a call's arguments.

        Args:
            data: What `encode_call` wrote.
            function: The task's function, or its signature: dataclasses and enumerations come back by its
                annotations.

        Raises:
            DecodeError: A newer roving wrote it; it is damaged; a type in it is not known here, or no longer
                takes these fields.
        """
        signature = signature_of(function)

        def read(reader: Reader, payload: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
            args, kwargs = payload.get("args"), payload.get("kwargs")
            if not isinstance(args, list) or not isinstance(kwargs, dict):
                raise DecodeError("the payload has no arguments: it is damaged, or no call's")
            return (
                tuple(
                    _values.called(reader, value, f"argument {_label(signature, at)}", _at(signature, at))
                    for at, value in enumerate(args)
                ),
                {
                    key: _values.called(reader, value, f"argument {key!r}", _by_name(signature, key))
                    for key, value in kwargs.items()
                },
            )

        return self._decode(data, read, signature)

    def decode_result(self, data: bytes, function: Callable[..., Any] | Signature | None = None) -> Any:
        """Read a result; raises DecodeError as `decode_call` does."""
        signature = signature_of(function)
        hints = None if signature is None else signature.result

        def read(reader: Reader, payload: dict[str, Any]) -> Any:
            if "result" not in payload:
                raise DecodeError("the payload has no result: it is damaged, or no result's")
            return _values.called(reader, payload["result"], "the result", hints)

        return self._decode(data, read, signature)

    def _decode[T](
        self, data: bytes, read: Callable[[Reader, dict[str, Any]], T], signature: Signature | None
    ) -> T:
        try:
            payload = json.loads(data, parse_constant=_no_constant)
        except (ValueError, RecursionError) as error:
            raise DecodeError(f"the payload is no JSON that roving writes: {error}") from error
        version = payload.get("v") if isinstance(payload, dict) else None
        if type(version) is not int or version < 1:
            raise DecodeError("the payload has no version: it is damaged, or roving did not write it")
        if version > VERSION:
            raise DecodeError(
                f"the payload is of version {version}, from a newer roving; this one reads up to {VERSION}"
            )
        try:
            return read(Reader(self._by_name, signature), payload)
        except Failed as error:
            raise DecodeError(error.told()) from error.__cause__
        except RecursionError as error:
            raise DecodeError("the payload is nested too deep") from error


def _no_constant(text: str) -> object:
    raise ValueError(f"{text} is no value in JSON")


def _name(key: object) -> str:
    if not isinstance(key, str):
        raise Failed("the names of arguments are texts").of(f"argument {key!r:.100}")
    return key


def _label(signature: Signature | None, at: int) -> str:
    return str(at) if signature is None else signature.name(at)


def _at(signature: Signature | None, at: int) -> _values.Hinted:
    return None if signature is None else lambda: signature.positional(at)


def _by_name(signature: Signature | None, name: str) -> _values.Hinted:
    return None if signature is None else lambda: signature.keyword(name)
