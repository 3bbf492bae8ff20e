"""Arguments and results as JSON: what goes in comes out, and what would not is refused where it is sent."""

import enum
import json
import math
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta, timezone
from decimal import Decimal
from pathlib import PurePosixPath
from typing import TYPE_CHECKING, Any, NamedTuple, NewType, TypedDict
from uuid import UUID
from zoneinfo import ZoneInfo

import pytest
from roving.tasks._codec import Codec, JSONCodec
from roving.tasks._errors import DecodeError, EncodeError
from roving.tasks._hints import Signature

if TYPE_CHECKING:
    from nowhere import Nothing  # type: ignore[import-not-found]

CODEC = JSONCodec()


class Colour(enum.Enum):
    """Its members are not what they are called."""

    RED = "r"
    GREEN = ("g", 1)


class Size(enum.IntEnum):
    """Members that are numbers."""

    SMALL = 1


class Level(enum.IntEnum):
    """Has a member of the same number."""

    LOW = 1


class Point(NamedTuple):
    """A named tuple."""

    x: int
    y: float = 0.0


@dataclass(frozen=True, slots=True)
class Line:
    """A dataclass without a dict."""

    points: tuple[Point, ...]
    colour: Colour = Colour.RED
    length: float = field(init=False, default=0.0)

    def __post_init__(self) -> None:
        """Derive a field, and refuse what makes no line."""
        if not self.points:
            raise ValueError("a line has points")
        object.__setattr__(self, "length", float(len(self.points)))


@dataclass
class Twin:
    """Takes the same fields as Point."""

    x: int
    y: float = 0.0


@dataclass
class Child(Twin):
    """Is a Twin, but no annotation names it."""


class Drawing(TypedDict):
    """A dict whose lines are."""

    lines: list[Line]
    title: str


type Lines = dict[str, list[Line]] | None
Named = NewType("Named", Line)
TRIANGLE = Line((Point(1), Point(2, 1.5), Point(3)), Colour.GREEN)


def plain(*args: Any, **kwargs: Any) -> Any:
    """Has no annotation that would help."""


def back(value: Any, function: Callable[..., Any] | Signature | None = plain) -> Any:
    """Send a value as the only argument."""
    args, kwargs = CODEC.decode_call(CODEC.encode_call((value,), {}, "send()", function), function)
    assert kwargs == {}
    (value,) = args
    return value


VALUES: list[Any] = [
    None,
    True,
    0,
    -(10**400),
    1.5,
    1e-320,
    "",
    "žluť \0 \U0001f600",
    [],
    {},
    {"a": [1, {"b": None}]},
    (),
    (1, (2, [3])),
    set(),
    {1, "1", (2,), frozenset({3})},
    b"\0\xff",
    {"$set": [1]},
    {"$dict": {"$x": 1}},
    {"$a": 1, "$b": 2},
    {"$": {"$": {"$": ()}}},
    date(1, 1, 1),
    time(23, 59, 59, 999999),
    time(12, tzinfo=UTC),
    time(12, tzinfo=ZoneInfo("Asia/Tokyo")),
    timedelta.min,
    timedelta.max,
    timedelta(microseconds=-1),
    datetime.min,
    datetime.max,
    datetime(2026, 3, 1, tzinfo=UTC),
    datetime(2026, 3, 1, tzinfo=timezone(timedelta(hours=-3, minutes=-30, seconds=-7))),
    UUID(int=2**128 - 1),
    Decimal("-0.00"),
    Decimal("1E+999999"),
    Decimal("0." + "1" * 60),
]


@pytest.mark.parametrize("value", VALUES, ids=lambda value: repr(value)[:40])
def test_what_goes_in_comes_out(value: Any) -> None:
    """With its type, wherever it stands."""
    for sent in (value, [value], {"$k": value}, (value, {"k": [value]})):
        for function in (plain, None):
            got = back(sent, function)
            assert repr(got) == repr(sent) or got == sent
            assert kinds(got) == kinds(sent)


def kinds(value: Any) -> Any:
    """Give the types within, so that (1, 2) and [1, 2], or 1 and True, differ."""
    if isinstance(value, list | tuple):
        return type(value), [kinds(part) for part in value]
    if isinstance(value, set | frozenset):
        return type(value), sorted(str(kinds(part)) for part in value)
    if isinstance(value, dict):
        return type(value), {key: kinds(part) for key, part in value.items()}
    return type(value)


@pytest.mark.parametrize("fold", [0, 1])
@pytest.mark.parametrize("hour", [1, 2, 3])
@pytest.mark.parametrize("day", [datetime(2026, 3, 29), datetime(2026, 10, 25)], ids=["gap", "twice"])
def test_the_zone_and_the_moment_come_back(day: datetime, hour: int, fold: int) -> None:
    """Of times that a zone has twice, or not at all, too."""
    sent = day.replace(hour=hour, minute=30, fold=fold, tzinfo=ZoneInfo("Europe/Berlin"))
    got = back(sent)
    assert (got, got.tzinfo, got.utcoffset()) == (sent, sent.tzinfo, sent.utcoffset())


def test_a_zone_that_has_changed_since_keeps_the_moment() -> None:
    """The text has the offset that held when it was written."""
    data = b'{"v":1,"args":[{"$datetime":"2026-06-01T12:00:00+05:00[Europe/Berlin]"}],"kwargs":{}}'
    ((got,), _) = CODEC.decode_call(data)
    assert got == datetime(2026, 6, 1, 7, tzinfo=UTC)
    assert got.tzinfo == ZoneInfo("Europe/Berlin")


def test_equal_sets_are_equal_payloads() -> None:
    """Unique keys are made of payloads."""
    # They collide: a set has them in the order they came in.
    once, again = {0, 8}, {8, 0}
    assert list(once) != list(again)
    assert CODEC.encode_call((once,), {}, "") == CODEC.encode_call((again,), {}, "")


def a_line(value: Line) -> None:
    """Take a dataclass."""


def lines(value: Lines) -> None:
    """Take them within an alias, a union, a dict and a list."""


def a_sequence(value: Sequence[tuple[int, Line]]) -> None:
    """Take them at one place of a tuple."""


def a_named(value: Named) -> None:
    """Take what is another type to the checker alone."""


def a_drawing(value: Drawing) -> None:
    """Take them in a TypedDict."""


def a_colour(value: Mapping[str, Colour | Size]) -> None:
    """Take enumerations."""


def a_choice(value: Twin | Line | None) -> None:
    """Take one of two."""


def the_rest(*value: Line) -> None:
    """Take any number."""


class Bound:
    """Has a task as a method."""

    def method(self, value: Line) -> None:
        """Take self and a dataclass."""


@pytest.mark.parametrize(
    ("function", "value"),
    [
        (a_line, TRIANGLE),
        (lines, {"a": [TRIANGLE], "b": []}),
        (lines, None),
        (a_sequence, [(1, TRIANGLE)]),
        (a_named, TRIANGLE),
        (a_drawing, {"lines": [TRIANGLE], "title": "x"}),
        (a_colour, {"a": Colour.GREEN, "b": Size.SMALL}),
        (a_choice, TRIANGLE),
        (a_choice, Twin(1, 2)),
        (the_rest, TRIANGLE),
        (Bound().method, TRIANGLE),
        (Signature(Bound.method, skip=1), TRIANGLE),
    ],
    ids=lambda part: getattr(part, "__name__", ""),
)
def test_annotations_bring_types_back(function: Callable[..., Any], value: Any) -> None:
    """Dataclasses, named tuples, enumerations."""
    got = back(value, function)
    assert got == value
    assert repr(got) == repr(value)


def test_by_name_too() -> None:
    """And where a parameter takes whatever names there are."""

    def function(a: int = 0, /, *, line: Line, **others: Point) -> Line:
        return line

    sent = {"line": TRIANGLE, "a": Point(4, 5)}
    assert CODEC.decode_call(CODEC.encode_call((1,), sent, "", function), function) == ((1,), sent)
    assert CODEC.decode_result(CODEC.encode_result(TRIANGLE, function), function) == TRIANGLE
    with pytest.raises(EncodeError, match=r"^the result: Twin is a dataclass, and would not come back"):
        CODEC.encode_result(Twin(1), function)


def test_numbers_and_texts_of_enumerations_need_no_annotation() -> None:
    """They come back as what they are worth; code that compares them sees no difference."""
    assert back(Size.SMALL) == 1
    assert type(back(Size.SMALL)) is int


def test_subclasses_come_back_as_their_base() -> None:
    """A framework's texts, an ordered dict."""

    class Safe(str):
        __slots__ = ()

        def __str__(self) -> str:
            return "escaped"

    class Whole(int):
        pass

    sent = [Safe("x"), Whole(3), OrderedDict(a=Safe("y"))]
    got = back(sent)
    assert got == ["x", 3, {"a": "y"}]
    assert kinds(got) == (list, [str, int, (dict, {"a": str})])


def cyclic() -> list[Any]:
    """Contain itself."""
    value: list[Any] = []
    value.append(value)
    return value


REFUSED: dict[str, tuple[Callable[..., Any], Any, str]] = {
    "NaN": (a_line, {"x": [0, 1, 2, math.nan]}, r"^send\(\): argument 'value' → \['x'\]\[3\]: nan cannot be"),
    "infinity": (plain, -math.inf, r"argument '\*args'\[0\]: -inf cannot be written"),
    "Decimal's NaN": (plain, Decimal("NaN"), "Decimal\\('NaN'\\) cannot be written: it is no number"),
    "a number as a key": (plain, [{1: 2}], r"\[0\]: the key 1 is of type int; JSON's keys are texts"),
    "an enumeration as a key": (plain, {Size.SMALL: 1}, "the key .* is of type Size"),
    "an object": (plain, [object()], r"\[0\]: an object cannot be written as JSON"),
    "a function": (plain, plain, "a function cannot be written"),
    "a path": (plain, PurePosixPath("x"), r"a pathlib\.\S*PurePosixPath cannot be written.*register"),
    "half a pair": (plain, ["a", "\ud800"], r"\[1\]: the text .* has half a surrogate pair"),
    "half a pair in a key": (plain, {"\udc80": 1}, "has half a surrogate pair"),
    "too many digits": (plain, (10**5000,), r"\[0\]: an integer of 16610 bits"),
    "itself": (plain, cyclic(), r"(\[0\]){6}\[\.\.\.\]\[0\]\[0\]\[0\]: nested deeper than 50"),
    "too large": (plain, "x" * (1 << 20), r"^send\(\): the arguments have \d+ bytes, and at most 1048576"),
    "a dataclass": (plain, [TRIANGLE], r"\[0\]: Line is a dataclass, and would not come back: annotate"),
    "a named tuple": (plain, Point(1), "Point is a named tuple, and would not come back"),
    "an enumeration": (plain, Colour.RED, "Colour is an enumeration, and would not come back"),
    "a subclass": (a_choice, Child(1), "Child is a dataclass, and would not come back"),
    "one of two alike": (
        lambda value: None,  # annotated below
        Twin(1),
        r"it may be Twin or Point, which both take the fields x, y: register them",
    ),
    "one of two equal": (
        lambda value: None,
        Size.SMALL,
        "it may be Size or Level, which both have a member 1",
    ),
    "within a dataclass": (
        a_choice,
        Line((Point(1), object())),  # type: ignore[arg-type]
        r"'value' → \.points\[1\]: an object cannot be written",
    ),
}
REFUSED["one of two alike"][0].__annotations__ = {"value": Twin | Point}
REFUSED["one of two equal"][0].__annotations__ = {"value": Size | Level}


@pytest.mark.parametrize("what", REFUSED)
def test_refused_where_it_is_sent(what: str) -> None:
    """With the argument's name, and the path to the value."""
    function, value, told = REFUSED[what]
    with pytest.raises(EncodeError, match=told):
        CODEC.encode_call((value,), {}, "send()", function)


def test_arguments_are_named() -> None:
    """By position where the function is not known."""
    bad = object()

    def function(first: int, second: int) -> None: ...

    with pytest.raises(EncodeError, match=r"^go\(\): argument 'second': an object"):
        CODEC.encode_call((1, bad), {}, "go()", function)
    with pytest.raises(EncodeError, match=r"^go\(\): argument 1: an object"):
        CODEC.encode_call((1, bad), {}, "go()")
    with pytest.raises(EncodeError, match=r"^go\(\): argument 'x': an object"):
        CODEC.encode_call((), {"x": bad}, "go()")
    with pytest.raises(EncodeError, match=r"^go\(\): argument 3: the names of arguments are texts"):
        CODEC.encode_call((), {3: 1}, "go()")  # type: ignore[dict-item]


def test_the_limits_are_settings() -> None:
    """And are looked at themselves."""
    shallow = JSONCodec(max_depth=2, max_size=100)
    shallow.encode_call(([[1]],), {}, "")
    with pytest.raises(EncodeError, match="nested deeper than 2"):
        shallow.encode_call(([[[]]],), {}, "")
    with pytest.raises(EncodeError, match="the result has 122 bytes, and at most 100"):
        shallow.encode_result("x" * 103)
    for wrong in ({"max_depth": 0}, {"max_depth": 101}, {"max_size": 0}):
        with pytest.raises(ValueError, match="must be"):
            JSONCodec(**wrong)


def test_the_deepest_that_is_written_is_read() -> None:
    """Whatever it is made of."""
    codec = JSONCodec(max_depth=100)
    codec.register(Twin)
    for wrap in (list, tuple, lambda inner: {"$x": inner[0]}, lambda inner: Twin(inner[0])):
        value: Any = 1
        for _ in range(100):
            value = wrap([value])
        assert codec.decode_call(codec.encode_call((value,), {}, "")) == ((value,), {})
        with pytest.raises(EncodeError, match="nested deeper"):
            codec.encode_call((wrap([value]),), {}, "")


@dataclass
class Money:
    """Is registered under another name."""

    cents: int


def test_registered_types_come_back_anywhere() -> None:
    """By their name among those registered."""
    codec = JSONCodec()
    assert codec.register(Line) is Line
    codec.register(Point)
    codec.register(Colour)
    codec.register(name="money")(Money)
    codec.register(PurePosixPath, encode=str, decode=PurePosixPath)
    value = {"a": [TRIANGLE, Money(3), Colour.GREEN, PurePosixPath("/x")]}
    data = codec.encode_result(value)
    assert b'["money",{"cents":3}]' in data
    assert codec.decode_result(data) == value
    with pytest.raises(DecodeError, match=r"^the result → \['a'\]\[0\]: no type is registered as 'Line'"):
        CODEC.decode_result(data)


def test_registering_wrongly_is_told() -> None:
    """At once."""
    codec = JSONCodec()
    codec.register(Money)
    wrong: list[tuple[Callable[[], object], type[Exception], str]] = [
        (lambda: codec.register(Money), ValueError, "registered as 'Money' already"),
        (lambda: codec.register(Money, name="x"), ValueError, "is registered already, as 'Money'"),
        (lambda: codec.register(Twin, name="Money"), ValueError, "registered as 'Money' already"),
        (lambda: codec.register(object), TypeError, "give encode and decode"),
        (lambda: codec.register(object, encode=str), TypeError, "only one of them"),
        (lambda: codec.register(3), TypeError, "takes a class"),  # type: ignore[call-overload]
    ]
    for call, kind, told in wrong:
        with pytest.raises(kind, match=told):
            call()


def test_a_type_of_its_own_that_fails_is_told() -> None:
    """With the name, on both ways."""
    codec = JSONCodec()
    codec.register(Money, encode=lambda money: 1 // money.cents, decode=lambda _: Money(1 // 0))
    with pytest.raises(EncodeError, match=r"^x\(\): argument 0: encode= of 'Money' failed with ZeroDivision"):
        codec.encode_call((Money(0),), {}, "x()")
    data = codec.encode_call((Money(1),), {}, "x()")
    with pytest.raises(DecodeError, match=r"argument 0: decode= of 'Money' failed with ZeroDivisionError"):
        codec.decode_call(data)


def payload(*args: Any, **others: Any) -> bytes:
    """Write what no `encode_call` would."""
    return json.dumps({"v": 1, "args": args, "kwargs": {}} | others).encode()


UNREADABLE: dict[str, tuple[bytes, Callable[..., Any], str]] = {
    "nothing": (b"", plain, "no JSON that roving writes"),
    "half": (CODEC.encode_call((1,), {}, "")[:-1], plain, "no JSON that roving writes"),
    "not text": (b"\xff\xfe\xff", plain, "no JSON"),
    "a list": (b"[]", plain, "no version"),
    "NaN": (b'{"v":1,"args":[NaN],"kwargs":{}}', plain, "NaN is no value in JSON"),
    "a newer one": (payload(v=2), plain, "version 2, from a newer roving; this one reads up to 1"),
    "version True": (payload(v=True), plain, "no version"),
    "a result": (CODEC.encode_result(1), plain, "has no arguments"),
    "a newer tag": (payload([{"$ipv4": 1}]), a_line, r"'value' → \[0\]: '\$ipv4' is no tag"),
    "a name to import": (payload({"$type": ["os.system", "true"]}), plain, "registered as 'os.system'"),
    "a class to import": (payload({"$type": ["test_tasks_codec.Money", {}]}), plain, "no type is registered"),
    "a type of no name": (payload({"$type": 1}), plain, "a type's name and value"),
    "no date": (payload({"$date": "tomorrow"}), plain, "'tomorrow' is no date: Invalid"),
    "a date that is a number": (payload({"$datetime": 5}), plain, "5 is no datetime"),
    "no zone": (
        payload({"$datetime": "2026-01-01T00:00:00+00:00[No/Where]"}),
        plain,
        "no time zone 'No/Where'",
    ),
    "a zone elsewhere": (payload({"$time": "00:00:00[../../etc/passwd]"}), plain, "no time zone"),
    "no base64": (payload({"$bytes": "é"}), plain, "is no bytes"),
    "no decimal": (payload({"$decimal": "1,5"}), plain, "is no decimal"),
    "no uuid": (payload({"$uuid": "1"}), plain, "is no uuid"),
    "too long a time": (payload({"$timedelta": [10**12, 0, 0]}), plain, "is no timedelta"),
    "no tuple": (payload({"$tuple": 1}), plain, "a list was to be here, and is an int"),
    "no dict": (payload({"$dict": []}), plain, "an object was to be here, and is a list"),
    "a set of lists": (payload({"$set": [[]]}), plain, "a set cannot hold it"),
    "a record": (
        payload({"$record": {"x": 1}}),
        plain,
        "a dataclass with the fields x, and no annotation says",
    ),
    "another record": (payload({"$record": {"x": 1}}), a_line, "Line has no field 'x' here: has it changed"),
    "half a record": (payload({"$record": {}}), a_line, "Line demands the field 'points'"),
    "a record of none": (
        payload({"$record": {"z": 1}}),
        a_choice,
        "it may be Twin or Line, and the fields are z",
    ),
    "no record": (payload({"$record": 1}), a_line, "a record's fields were to be here, and are an int"),
    "a record refused": (
        payload({"$record": {"points": []}}),
        a_line,
        "refuses its fields: ValueError: a line has",
    ),
    "no member": (payload({"k": {"$enum": 7}}), a_colour, r"\['k'\]: 7 is no member of Colour or Size"),
    "a member of what": (payload({"$enum": 7}), plain, "7 is an enumeration's, and no annotation"),
    "a deep one": (
        b'{"v":1,"args":[' + b"[" * 300 + b"]" * 300 + b'],"kwargs":{}}',
        plain,
        "nested too deep",
    ),
    "a very deep one": (b"[" * 1_000_000, plain, "no JSON that roving writes"),
}


@pytest.mark.parametrize("what", UNREADABLE)
def test_what_cannot_be_read_is_told(what: str) -> None:
    """As one kind of error, and with the path."""
    data, function, told = UNREADABLE[what]
    with pytest.raises(DecodeError, match=told):
        CODEC.decode_call(data, function)


def test_a_result_that_cannot_be_read_is_told() -> None:
    """As arguments are."""
    with pytest.raises(DecodeError, match="has no result"):
        CODEC.decode_result(payload())


def test_a_field_that_came_later_has_its_default() -> None:
    """Jobs that wait while the program changes go on."""

    def function(value: Twin) -> None: ...

    assert CODEC.decode_call(payload({"$record": {"x": 3}}), function) == ((Twin(3, 0.0),), {})


def test_an_annotation_that_is_for_checkers_alone() -> None:
    """Leaves the others be, and is named where it is missed."""

    def function(a: Line, b: "Nothing", c: "list[Nothing]") -> None: ...

    assert CODEC.decode_call(CODEC.encode_call((TRIANGLE, 1), {}, "", function), function)[0][0] == TRIANGLE
    with pytest.raises(EncodeError, match=r"annotation cannot be evaluated: NameError.*Nothing"):
        CODEC.encode_call((TRIANGLE, Twin(1)), {}, "", function)


def test_annotations_are_looked_at_late() -> None:
    """A task may stand above the classes that it names."""
    space: dict[str, Any] = {"__name__": __name__}
    exec("from __future__ import annotations\ndef function(value: Below): ...", space)
    signature = Signature(space["function"])
    CODEC.encode_call((1,), {}, "", signature)
    space["Below"] = Twin
    assert back(Twin(5), signature) == Twin(5)


def test_it_is_a_codec() -> None:
    """And what is not is told apart."""
    codec: Codec = CODEC
    assert isinstance(codec, Codec)
    assert not isinstance(json, Codec)
