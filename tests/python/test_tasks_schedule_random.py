"""Random cron expressions where clocks are set, against a model that goes minute by minute."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from functools import cache
from typing import NamedTuple
from zoneinfo import ZoneInfo

import pytest
from roving.tasks._schedule import Cron, Interval

hypothesis = pytest.importorskip("hypothesis")
from hypothesis import given, settings  # noqa: E402
from hypothesis import strategies as st  # noqa: E402

MINUTE = timedelta(minutes=1)
# By an hour, half an hour, a day; at midnight, a minute past it; on either side of the equator; or never.
ZONES = [
    "Europe/Berlin",
    "Europe/London",
    "America/New_York",
    "America/St_Johns",
    "America/Havana",
    "America/Asuncion",
    "Australia/Lord_Howe",
    "Africa/Cairo",
    "Africa/Casablanca",
    "Asia/Beirut",
    "Pacific/Apia",
    "Pacific/Chatham",
    "Atlantic/Azores",
    "Asia/Kathmandu",
    "UTC",
]


@cache
def changes(zone: str) -> list[datetime]:
    """Find the hours in which a zone's clocks were set, from 2005 to 2030."""
    tz, moment, found = ZoneInfo(zone), datetime(2005, 1, 1, tzinfo=UTC), []
    offset = moment.astimezone(tz).utcoffset()
    while moment.year < 2030:
        moment += timedelta(hours=6)
        if (now := moment.astimezone(tz).utcoffset()) != offset:
            found.append(moment)
            offset = now
    return found or [datetime(2026, 1, 1, tzinfo=UTC)]


class Field(NamedTuple):
    """A field as it is written, and what it allows."""

    text: str
    allowed: frozenset[int]


def field(low: int, high: int, largest: int = 0) -> st.SearchStrategy[Field]:
    """Draw a field of cron; `largest` is what a star goes up to, if that is not `high`."""
    largest = largest or high
    numbers = st.integers(low, high)
    whole = st.just(Field("*", frozenset(range(low, largest + 1))))
    steps = st.integers(1, high - low).map(lambda n: Field(f"*/{n}", frozenset(range(low, largest + 1, n))))
    lists = st.lists(numbers, min_size=1, max_size=4).map(
        lambda drawn: Field(",".join(map(str, drawn)), frozenset(drawn))
    )
    ranges = st.tuples(numbers, numbers, st.integers(1, 3)).map(lambda drawn: ranged(*drawn))
    return st.one_of(whole, steps, lists, ranges)


def ranged(first: int, last: int, step: int) -> Field:
    """Write a range."""
    first, last = sorted((first, last))
    return Field(f"{first}-{last}/{step}", frozenset(range(first, last + 1, step)))


ANY = st.just(Field("*", frozenset(range(60))))


class Model(NamedTuple):
    """A cron expression that is asked of one minute at a time."""

    minute: Field
    hour: Field
    day: Field
    month: Field
    weekday: Field

    def text(self) -> str:
        """Give the expression."""
        return " ".join(part.text for part in self)

    def matches(self, wall: datetime) -> bool:
        """Whether a time on the wall is one of the expression's."""
        day = wall.day in self.day.allowed
        weekday = wall.isoweekday() in self.weekday.allowed or wall.isoweekday() % 7 in self.weekday.allowed
        starred = self.day.text.startswith("*") or self.weekday.text.startswith("*")
        return (
            wall.minute in self.minute.allowed
            and wall.hour in self.hour.allowed
            and wall.month in self.month.allowed
            and ((day and weekday) if starred else (day or weekday))
        )

    def ticks(self, zone: ZoneInfo | str, begin: datetime, end: datetime) -> Iterator[datetime]:
        """Go from minute to minute, with an eye on the clock on the wall."""
        tz = ZoneInfo(str(zone))
        on_the_hour = self.hour.text.startswith("*")
        twice = on_the_hour or self.minute.text.startswith("*")
        before = begin.astimezone(tz).replace(tzinfo=None)
        moment = begin
        while (moment := moment + MINUTE) <= end:
            local = moment.astimezone(tz)
            wall = local.replace(tzinfo=None)
            skipped = []
            while (before := before + MINUTE) < wall:
                skipped.append(before)
            before = wall
            made_up = not on_the_hour and any(map(self.matches, skipped))
            if made_up or (self.matches(wall) and (local.fold == 0 or twice)):
                yield moment


TIMES = st.tuples(field(0, 59), field(0, 23), ANY, ANY, ANY).map(lambda drawn: Model(*drawn))
DATES = st.tuples(field(0, 59), field(0, 23), field(1, 28, 31), field(1, 12), field(0, 7)).map(
    lambda drawn: Model(*drawn)
)
SPAN = timedelta(hours=40)


@given(st.one_of(TIMES, TIMES, DATES), st.sampled_from(ZONES), st.data())
@settings(max_examples=150, deadline=None)
def test_no_tick_is_lost_and_none_is_made_up(model: Model, zone: str, data: st.DataObject) -> None:
    """All of them for some days around a moment at which clocks are set, one after the other."""
    begin = data.draw(st.sampled_from(changes(zone))) - timedelta(hours=26)
    end = begin + SPAN
    expected = list(model.ticks(zone, begin, end))
    cron = Cron(model.text(), zone)
    found, tick = [], begin
    while (tick := cron.next_after(tick)) <= end:
        found.append(tick)
    assert found == expected

    # From any moment, and backwards as well.
    moment = begin + data.draw(st.timedeltas(timedelta(0), SPAN))
    after = cron.next_after(moment)
    assert after > moment
    assert after == next((tick for tick in found if tick > moment), after)
    latest = cron.latest(moment)
    assert latest is None or (latest <= moment and cron.next_after(latest) > moment)
    assert latest == next((tick for tick in reversed(found) if tick <= moment), latest)


@given(
    st.timedeltas(timedelta(milliseconds=100), timedelta(days=800)),
    st.datetimes(datetime(1970, 1, 1), datetime(2100, 1, 1)),
)
def test_intervals(every: timedelta, moment: datetime) -> None:
    """Are as long as they should be, and miss no moment."""
    every -= timedelta(microseconds=every.microseconds % 1000)
    schedule = Interval(every)
    moment = moment.replace(tzinfo=UTC)
    after, latest = schedule.next_after(moment), schedule.latest(moment)
    assert latest is not None
    assert latest <= moment < after
    assert after - latest == every
    assert schedule.latest(after) == after
