"""The codec with random values, and with random payloads."""

import json
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC
from decimal import Decimal
from typing import Any

import pytest
from roving.tasks._codec import JSONCodec
from roving.tasks._errors import DecodeError
from test_tasks_codec import kinds

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

CODEC = JSONCodec()
ZONES = st.sampled_from(
    ["UTC", "Europe/Berlin", "America/St_Johns", "Australia/Lord_Howe", "Africa/Monrovia"]
)
TEXTS = st.text(st.characters(codec="utf-8"), max_size=8)
KEYS = st.one_of(TEXTS, st.sampled_from(["$", "$tuple", "$dict", "$record", "$type", "v"]))
HASHABLE = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
        st.binary(max_size=8),
        st.dates(),
        st.times(timezones=st.one_of(st.none(), st.just(UTC), st.timezones())),
        st.timedeltas(),
        st.datetimes(timezones=st.one_of(st.none(), st.just(UTC), st.timezones())),
        st.uuids(),
        st.decimals(allow_nan=False, allow_infinity=False),
    ),
    lambda inner: st.one_of(st.lists(inner, max_size=3).map(tuple), st.frozensets(inner, max_size=3)),
    max_leaves=5,
)
VALUES = st.recursive(
    st.one_of(HASHABLE, st.sets(HASHABLE, max_size=3)),
    lambda inner: st.one_of(
        st.lists(inner, max_size=4),
        st.lists(inner, max_size=4).map(tuple),
        st.dictionaries(KEYS, inner, max_size=3),
    ),
    max_leaves=20,
)


@dataclass
class Parcel:
    """Holds anything."""

    content: Any
    label: str = ""


def send(first: Any = None, *rest: Any, parcel: Parcel | None = None, **others: Any) -> None:
    """Take what there is."""


@given(st.lists(VALUES, max_size=3), st.dictionaries(TEXTS, VALUES, max_size=3), VALUES)
@settings(max_examples=300, deadline=None)
def test_round_trip(args: list[Any], kwargs: dict[str, Any], content: Any) -> None:
    """What goes in comes out, of the same types, and written again it is the same."""
    kwargs = kwargs | {"parcel": Parcel(content)}
    data = CODEC.encode_call(tuple(args), kwargs, "send()", send)
    got = CODEC.decode_call(data, send)
    assert got == (tuple(args), kwargs)
    assert kinds(got) == kinds((tuple(args), kwargs))
    assert kinds(got[1]["parcel"].content) == kinds(content)
    assert CODEC.encode_call(*got, "send()", send) == data
    assert json.loads(data)["v"] == 1


TAGS = st.one_of(
    st.sampled_from(["$tuple", "$set", "$frozenset", "$dict", "$record", "$enum", "$type", "$else", "plain"]),
    st.sampled_from(["$bytes", "$datetime", "$date", "$time", "$timedelta", "$uuid", "$decimal", "$result"]),
)
TREES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.floats(allow_nan=False, allow_infinity=False),
        TEXTS,
        ZONES.map(lambda zone: f"0001-01-01T00:00:00+00:00[{zone}]"),
        ZONES.map(lambda zone: f"9999-12-31T23:59:59-23:59[{zone}]"),
        st.sampled_from(["content", "Parcel", "1E+99", "[", "2026-01-01[", "[]"]),
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(TAGS, inner, max_size=1),
        st.dictionaries(st.sampled_from(["content", "label"]), inner, max_size=2),
    ),
    max_leaves=12,
)


def read(call: Callable[[], Any]) -> Any:
    """Call, and take no error but the one that is promised."""
    try:
        return call()
    except DecodeError:
        return None


@given(TREES, TREES)
@settings(max_examples=500, deadline=None)
def test_damaged_payloads_are_one_kind_of_error(argument: Any, parcel: Any) -> None:
    """Whatever JSON they are."""
    codec = JSONCodec()
    codec.register(Parcel)
    codec.register(Decimal, encode=str, decode=Decimal)
    whole = json.dumps({"v": 1, "args": [argument], "kwargs": {"parcel": parcel}}).encode()
    read(lambda: codec.decode_call(whole, send))
    read(lambda: codec.decode_call(json.dumps(argument).encode(), send))
    read(lambda: codec.decode_result(json.dumps({"v": 1, "result": argument}).encode()))


@given(st.binary(max_size=40))
def test_bytes_are_one_kind_of_error(data: bytes) -> None:
    """Whatever they are."""
    read(lambda: CODEC.decode_call(data, send))
