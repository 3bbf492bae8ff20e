"""What a task's annotations say of its arguments and its result: the types that may come out of a payload."""

import dataclasses
import enum
import inspect
import sys
import types
import typing
from collections.abc import Callable, Collection, Iterable, Mapping
from typing import Annotated, Any, NamedTuple, NewType, TypeAliasType, Union, get_args, get_origin
from weakref import WeakKeyDictionary

# What a value may be, by its annotation: unions are taken apart.
type Hints = tuple[Any, ...]


def flatten(hint: Any) -> Hints:
    """Take an annotation apart into the types that it allows."""
    if isinstance(hint, TypeAliasType):
        return flatten(hint.__value__)
    if isinstance(hint, NewType):
        return flatten(hint.__supertype__)
    origin = get_origin(hint)
    if isinstance(origin, TypeAliasType):
        return flatten(origin.__value__)
    if origin is Annotated or origin in _QUALIFIERS:
        return flatten(get_args(hint)[0])
    if origin is Union or origin is types.UnionType:
        return tuple(kind for part in get_args(hint) for kind in flatten(part))
    return (hint,)


_QUALIFIERS = (typing.Required, typing.NotRequired, typing.ReadOnly, typing.Final, typing.ClassVar)


def item(hints: Hints, at: int) -> Hints:
    """Say what the value at a place of a list, a tuple or a set may be."""
    found: list[Any] = []
    for hint in hints:
        origin, arguments = get_origin(hint), get_args(hint)
        if not isinstance(origin, type) or not arguments:
            continue
        if issubclass(origin, tuple):
            if len(arguments) == 2 and arguments[1] is Ellipsis:
                found += flatten(arguments[0])
            elif at < len(arguments):
                found += flatten(arguments[at])
        elif issubclass(origin, Iterable) and not issubclass(origin, Mapping):
            found += flatten(arguments[0])
    return tuple(found)


def entry(hints: Hints, key: str) -> Hints:
    """Say what the value of a dict's key may be."""
    found: list[Any] = []
    for hint in hints:
        if typing.is_typeddict(hint):
            found += fields_of(hint).get(key, ())
            continue
        origin, arguments = get_origin(hint), get_args(hint)
        if isinstance(origin, type) and issubclass(origin, Mapping) and len(arguments) == 2:
            found += flatten(arguments[1])
    return tuple(found)


def enums(hints: Hints) -> list[type[enum.Enum]]:
    """Pick the enumerations."""
    return [hint for hint in hints if isinstance(hint, type) and issubclass(hint, enum.Enum)]


def records(hints: Hints) -> list[type[Any]]:
    """Pick the dataclasses and named tuples."""
    kinds: list[Any] = [get_origin(hint) or hint for hint in hints]
    return [kind for kind in kinds if isinstance(kind, type) and is_record(kind)]


def is_record(kind: type[Any]) -> bool:
    """Whether it is a dataclass or a named tuple."""
    return dataclasses.is_dataclass(kind) or (issubclass(kind, tuple) and hasattr(kind, "_fields"))


def names_of(kind: type[Any]) -> tuple[str, ...]:
    """Name the fields that a record is made of, in the order of its constructor."""
    if dataclasses.is_dataclass(kind):
        return tuple(field.name for field in dataclasses.fields(kind) if field.init)
    return tuple(kind._fields)


class Parameters(NamedTuple):
    """What a record's constructor takes."""

    names: frozenset[str]
    required: frozenset[str]

    def fit(self, names: Collection[str]) -> bool:
        """Whether the constructor can be called with these."""
        return self.required <= set(names) <= self.names


def parameters(kind: type[Any]) -> Parameters:
    """Say what a record's constructor takes."""
    names = names_of(kind)
    if not dataclasses.is_dataclass(kind):
        return Parameters(frozenset(names), frozenset(names) - kind._field_defaults.keys())
    missing = dataclasses.MISSING
    required = (
        field.name
        for field in dataclasses.fields(kind)
        if field.init and field.default is missing and field.default_factory is missing
    )
    return Parameters(frozenset(names), frozenset(required))


_fields: WeakKeyDictionary[type[Any], dict[str, Hints]] = WeakKeyDictionary()


def fields_of(kind: type[Any]) -> dict[str, Hints]:
    """Say what the fields of a record, or the keys of a TypedDict, may be."""
    found = _fields.get(kind)
    if found is None:
        found = {name: flatten(hint) for name, hint in evaluate(kind)[0].items()}
        _fields[kind] = found
    return found


def evaluate(thing: Any) -> tuple[dict[str, Any], str]:
    """Evaluate annotations; those that cannot be are left out, and the second says why."""
    try:
        return typing.get_type_hints(thing, include_extras=True), ""
    except Exception as error:
        why = f"{type(error).__name__}: {error}"
    # One that names something only type checkers import (TYPE_CHECKING) must not take the others with it.
    if sys.version_info >= (3, 14):
        import annotationlib

        raw = annotationlib.get_annotations(thing, format=annotationlib.Format.FORWARDREF)
    else:
        raw = inspect.get_annotations(thing)
    found: dict[str, Any] = {}
    for name, hint in raw.items():
        probe = types.SimpleNamespace(__annotations__={name: hint}, __module__=thing.__module__)
        space = getattr(thing, "__globals__", None) or vars(sys.modules[thing.__module__])
        try:
            found |= typing.get_type_hints(probe, space, include_extras=True)
        except Exception:
            continue
    return found, why


class Signature:
    """The parameters of a task's function, and what its annotations say of them."""

    __slots__ = ("_function", "_hints", "_keyword", "_named", "_positional", "_rest", "trouble")

    def __init__(self, function: Callable[..., Any], skip: int = 0) -> None:
        """Take a function; the first `skip` parameters are not the caller's (the job of a bound task)."""
        self._function = function
        self._positional: list[str] = []
        self._rest: str | None = None
        self._keyword: str | None = None
        # Evaluated at first use: what the annotations name may be defined below the task.
        self._hints: dict[str, Hints] | None = None
        # Why some annotations could not be evaluated.
        self.trouble = ""
        self._named: set[str] = set()
        try:
            found = inspect.signature(function).parameters.values()
        except (TypeError, ValueError):
            found = inspect.signature(lambda *args, **kwargs: None).parameters.values()
        for parameter in found:
            match parameter.kind:
                case parameter.POSITIONAL_ONLY:
                    self._positional.append(parameter.name)
                case parameter.POSITIONAL_OR_KEYWORD:
                    self._positional.append(parameter.name)
                    self._named.add(parameter.name)
                case parameter.KEYWORD_ONLY:
                    self._named.add(parameter.name)
                case parameter.VAR_POSITIONAL:
                    self._rest = parameter.name
                case parameter.VAR_KEYWORD:
                    self._keyword = parameter.name
        del self._positional[:skip]

    def name(self, at: int) -> str:
        """Name a positional argument, as messages do."""
        if at < len(self._positional):
            return repr(self._positional[at])
        return f"{at}" if self._rest is None else f"'*{self._rest}'[{at - len(self._positional)}]"

    def positional(self, at: int) -> Hints:
        """Say what a positional argument may be."""
        name = self._positional[at] if at < len(self._positional) else self._rest
        return self._evaluated().get(name or "", ())

    def keyword(self, name: str) -> Hints:
        """Say what a keyword argument may be."""
        return self._evaluated().get(name if name in self._named else self._keyword or "", ())

    def result(self) -> Hints:
        """Say what the result may be."""
        return self._evaluated().get("return", ())

    def _evaluated(self) -> dict[str, Hints]:
        if self._hints is None:
            hints, self.trouble = evaluate(inspect.unwrap(self._function))
            self._hints = {name: flatten(hint) for name, hint in hints.items()}
        return self._hints


_signatures: WeakKeyDictionary[Callable[..., Any], Signature] = WeakKeyDictionary()


def signature_of(function: Callable[..., Any] | Signature | None) -> Signature | None:
    """Give a function's signature, made once."""
    if function is None or isinstance(function, Signature):
        return function
    found = _signatures.get(function)
    if found is None:
        found = _signatures[function] = Signature(function)
    return found
