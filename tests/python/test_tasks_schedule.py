"""When periodic tasks are due: cron where clocks are set, and what is wrong with an expression."""

from datetime import UTC, datetime, timedelta, timezone
from itertools import pairwise

import pytest
from roving.tasks._errors import ScheduleError
from roving.tasks._schedule import Cron, Interval, Schedule, due


def at(text: str) -> datetime:
    """Read a moment; in UTC where it does not say."""
    moment = datetime.fromisoformat(text)
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def ticks(schedule: Schedule, begin: datetime, count: int) -> list[datetime]:
    """Give the next ticks, one by one."""
    found = []
    for _ in range(count):
        begin = schedule.next_after(begin)
        found.append(begin)
    return found


# An expression, a moment, and what follows, in UTC.
PLAIN: list[tuple[str, str, list[str]]] = [
    ("* * * * *", "2026-01-01T00:00", ["2026-01-01T00:01", "2026-01-01T00:02"]),
    ("* * * * *", "2026-01-01T00:00:59.999999", ["2026-01-01T00:01"]),
    ("*/20 * * * *", "2026-01-01T23:39", ["2026-01-01T23:40", "2026-01-02T00:00"]),
    ("5/20 * * * *", "2026-01-01T23:39", ["2026-01-01T23:45", "2026-01-02T00:05"]),
    ("10-40/15 3 * * *", "2026-01-01T00:00", ["2026-01-01T03:10", "2026-01-01T03:25", "2026-01-01T03:40"]),
    ("0 9-17/4,23 * * *", "2026-01-01T12:00", ["2026-01-01T13:00", "2026-01-01T17:00", "2026-01-01T23:00"]),
    ("0 0 31 * *", "2026-01-31T00:00", ["2026-03-31T00:00", "2026-05-31T00:00"]),
    ("0 0 L * *", "2026-01-31T00:00", ["2026-02-28T00:00", "2026-03-31T00:00"]),
    ("0 0 1,L 2 *", "2027-06-01", ["2028-02-01", "2028-02-29", "2029-02-01", "2029-02-28"]),
    ("0 0 29 2 *", "2026-01-01", ["2028-02-29", "2032-02-29"]),
    ("0 0 29 FEB *", "2096-03-01", ["2104-02-29"]),
    ("0 0 * * 0", "2026-11-23", ["2026-11-29", "2026-12-06"]),
    ("0 0 * * 7", "2026-11-23", ["2026-11-29", "2026-12-06"]),
    ("0 0 * * fri-sun", "2026-11-23", ["2026-11-27", "2026-11-28", "2026-11-29", "2026-12-04"]),
    ("0 0 * * 5-7/2", "2026-11-23", ["2026-11-27", "2026-11-29", "2026-12-04"]),
    ("0 0 * * SUN-MON", "2026-11-23", ["2026-11-29", "2026-11-30", "2026-12-06"]),
    ("0 0 * * 0-0", "2026-11-23", ["2026-11-29", "2026-12-06"]),
    ("0 0 * * Mon#2", "2026-11-01", ["2026-11-09", "2026-12-14"]),
    ("0 0 * * 5#5", "2026-11-01", ["2027-01-29"]),
    ("0 0 * * FRI#L,WED#1", "2026-11-05", ["2026-11-27", "2026-12-02", "2026-12-25"]),
    # Either day will do, as long as none of the two begins with a star.
    ("0 0 13 * FRI", "2026-11-09", ["2026-11-13", "2026-11-20"]),
    ("0 0 1 * WED", "2026-11-30", ["2026-12-01", "2026-12-02", "2026-12-09"]),
    ("0 0 */5 * MON", "2026-11-01", ["2026-11-16", "2026-12-21"]),
    ("0 0 29 2 */7", "2026-01-01", ["2032-02-29", "2060-02-29"]),
    (" @daily ", "2026-01-01", ["2026-01-02", "2026-01-03"]),
    ("@midnight", "2026-01-01", ["2026-01-02"]),
    ("@Hourly", "2026-01-01", ["2026-01-01T01:00"]),
    ("@weekly", "2026-11-23", ["2026-11-29"]),
    ("@monthly", "2026-11-23", ["2026-12-01"]),
    ("@yearly", "2026-11-23", ["2027-01-01", "2028-01-01"]),
    ("@annually", "2026-11-23", ["2027-01-01"]),
    ("0\t0  1 jan,JUL *", "2026-02-01", ["2026-07-01", "2027-01-01"]),
]


@pytest.mark.parametrize(("expression", "begin", "expected"), PLAIN)
def test_ticks_in_utc(expression: str, begin: str, expected: list[str]) -> None:
    """What follows, and that looking back finds the same."""
    cron = Cron(expression)
    found = ticks(cron, at(begin), len(expected))
    assert found == [at(text) for text in expected]
    for tick in found:
        assert cron.latest(tick) == tick
        assert cron.latest(tick + timedelta(seconds=59, microseconds=999_999)) == tick
    for earlier, later in pairwise(found):
        assert cron.latest(later - timedelta(microseconds=1)) == earlier


# An expression, a zone, the local time before, and what follows, by the local clock with its offset.
CLOCKS_ARE_SET: list[tuple[str, str, str, list[str]]] = [
    # Berlin, forward from 2 to 3: what is in the gap runs at 3, once.
    ("30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["29T03:00+02:00", "30T02:30+02:00"]),
    ("0,30 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["29T03:00+02:00", "30T02:00+02:00"]),
    ("*/15 2 * * *", "Europe/Berlin", "2026-03-28T12:00+01:00", ["29T03:00+02:00", "30T02:00+02:00"]),
    ("30 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["29T03:00+02:00", "29T03:30+02:00"]),
    ("0 2,3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["29T03:00+02:00", "30T02:00+02:00"]),
    ("30 1-3 * * *", "Europe/Berlin", "2026-03-29T00:00+01:00", ["29T01:30+01:00", "29T03:00+02:00"]),
    # What goes by the hour just goes on.
    ("30 * * * *", "Europe/Berlin", "2026-03-29T00:40+01:00", ["29T01:30+01:00", "29T03:30+02:00"]),
    ("*/30 * * * *", "Europe/Berlin", "2026-03-29T01:10+01:00", ["29T01:30+01:00", "29T03:00+02:00"]),
    ("0 */2 * * *", "Europe/Berlin", "2026-03-28T23:00+01:00", ["29T00:00+01:00", "29T04:00+02:00"]),
    # Back from 3 to 2: what there is twice runs the first time...
    ("30 2 * * *", "Europe/Berlin", "2026-10-24T12:00+02:00", ["25T02:30+02:00", "26T02:30+01:00"]),
    ("0,30 2,3 * * *", "Europe/Berlin", "2026-10-25T02:10+02:00", ["25T02:30+02:00", "25T03:00+01:00"]),
    ("5 2-3 * * *", "Europe/Berlin", "2026-10-25T02:10+02:00", ["25T03:05+01:00", "26T02:05+01:00"]),
    # ... and what goes by the hour or by the minute, both times.
    ("30 * * * *", "Europe/Berlin", "2026-10-25T02:00+02:00", ["25T02:30+02:00", "25T02:30+01:00"]),
    ("*/30 2 * * *", "Europe/Berlin", "2026-10-25T02:10+02:00", ["25T02:30+02:00", "25T02:00+01:00"]),
    ("0 */2 * * *", "Europe/Berlin", "2026-10-25T01:00+02:00", ["25T02:00+02:00", "25T02:00+01:00"]),
    # New York, forward from 2 to 3.
    ("15 2 * * *", "America/New_York", "2026-03-08T00:00-05:00", ["08T03:00-04:00", "09T02:15-04:00"]),
    ("15 1 * * *", "America/New_York", "2026-11-01T00:00-04:00", ["01T01:15-04:00", "02T01:15-05:00"]),
    # Lord Howe, by half an hour: forward from 2:00 to 2:30, back from 2:00 to 1:30.
    ("15 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00+10:30", ["04T02:30+11:00", "05T02:15+11:00"]),
    ("15,45 2 * * *", "Australia/Lord_Howe", "2026-10-04T00:00+10:30", ["04T02:30+11:00", "04T02:45+11:00"]),
    ("45 1 * * *", "Australia/Lord_Howe", "2026-04-05T00:00+11:00", ["05T01:45+11:00", "06T01:45+10:30"]),
    ("*/15 * * * *", "Australia/Lord_Howe", "2026-04-05T01:40+11:00", ["05T01:45+11:00", "05T01:30+10:30"]),
    # Cairo, forward from midnight to 1: the day has no midnight.
    ("0 0 * * *", "Africa/Cairo", "2026-04-23T12:00+02:00", ["24T01:00+03:00", "25T00:00+03:00"]),
    # Havana, back from 1 to midnight: the day has two.
    ("0 0 * * *", "America/Havana", "2026-10-31T12:00-04:00", ["01T00:00-04:00", "02T00:00-05:00"]),
    # St. John's, back from 0:01 to 23:01 of the day before.
    ("30 23 * * *", "America/St_Johns", "2008-11-01T12:00-02:30", ["01T23:30-02:30", "02T23:30-03:30"]),
    ("0 0 * * *", "America/St_Johns", "2008-11-01T12:00-02:30", ["02T00:00-02:30", "03T00:00-03:30"]),
    ("*/30 * * * *", "America/St_Johns", "2008-11-01T23:50-02:30", ["02T00:00-02:30", "01T23:30-03:30"]),
    # Apia went without 30 December 2011.
    ("0 12 * * *", "Pacific/Apia", "2011-12-29T10:00-10:00", ["29T12:00-10:00", "31T00:00+14:00"]),
    ("0 0 31 * *", "Pacific/Apia", "2011-12-29T10:00-10:00", ["31T00:00+14:00", "31T00:00+14:00"]),
    # Quarters of an hour from Greenwich.
    ("0 12 * * *", "Asia/Kathmandu", "2026-01-01T00:00+05:45", ["01T12:00+05:45", "02T12:00+05:45"]),
]


@pytest.mark.parametrize(("expression", "zone", "begin", "expected"), CLOCKS_ARE_SET)
def test_where_clocks_are_set(expression: str, zone: str, begin: str, expected: list[str]) -> None:
    """By the local clock."""
    cron = Cron(expression, zone)
    found = ticks(cron, at(begin), 2)
    assert [tick.astimezone(cron.tz).isoformat()[8:] for tick in found] == [
        f"{text[:8]}:00{text[8:]}" for text in expected
    ]
    assert cron.latest(found[1] - timedelta(microseconds=1)) == found[0]
    assert cron.latest(found[1]) == found[1]


WRONG: list[tuple[str, str]] = [
    ("61 * * * *", "the minute field '61': 61 is not from 0 to 59"),
    ("* 24 * * *", "the hour field '24': 24 is not from 0 to 23"),
    ("* * 0 * *", "the day-of-month field '0': 0 is not from 1 to 31"),
    ("* * * 13 *", "the month field '13': 13 is not from 1 to 12"),
    ("* * * * 8", "the day-of-week field '8': 8 is not from 0 to 7"),
    ("x * * * *", "the minute field 'x': 'x' is no number$"),
    ("-5 * * * *", "the minute field '-5': '' is no number"),
    ("1, * * * *", "the minute field '1,': '' is no number"),
    ("1.5 * * * *", "'1.5' is no number"),
    ("² * * * *", "'²' is no number"),
    ("99999999999999999999 * * * *", "'99999999999999999999' is no number"),
    ("* * * FOO *", r"the month field 'FOO': 'FOO' is no number or a name \(JAN, FEB\.\.\.\)"),
    ("* * * * FREITAG", "the day-of-week field 'FREITAG'"),
    ("JAN * * * *", "the minute field 'JAN'"),
    ("*/0 * * * *", "the minute field '\\*/0': the step '0' is no number from 1"),
    ("*/x * * * *", "the step 'x' is no number"),
    ("*/ * * * *", "the step '' is no number"),
    ("*/90 * * * *", "a step of 90 is more than there is: it counts within 0-59.*every="),
    ("* 22-2 * * *", "the hour field '22-2': '22-2' runs backwards; two ranges will do: 22-23,0-2"),
    ("1-2-3 * * * *", "'2-3' is no number"),
    ("** * * * *", r"'\*\*' is no number"),
    ("* * * * MON#6", "after # there is 1 to 5, or L for the last, and not '6'"),
    ("* * * * MON-FRI#1", "'MON-FRI' is no number or a name"),
    ("* * L-3 * *", "the day-of-month field 'L-3'"),
    ("* * 30 2 *", "the day-of-month field '30': the months '2' have no such day"),
    ("* * 31 4,6,9,11 *", "the months '4,6,9,11' have no such day"),
    ("* * */15 * MON#2", "no day is in all of the day fields at once"),
    ("* * * *", "has 4 fields; cron has five"),
    ("", "has 0 fields"),
    ("0 * * * * *", r"has 6 fields; .*Seconds have no field: for intervals there is every="),
    ("@reboot", "'@reboot' is none of @yearly"),
    ("CRON_TZ=UTC * * * * *", "a time zone is given as tz="),
]


@pytest.mark.parametrize(("expression", "told"), WRONG)
def test_wrong_expressions_are_told(expression: str, told: str) -> None:
    """With the field, and why."""
    with pytest.raises(ScheduleError, match=told):
        Cron(expression)


@pytest.mark.parametrize("zone", ["Europe/Atlantis", "", "../../etc/passwd", "Europe", "x" * 5000, "a\0b"])
def test_wrong_zones_are_told(zone: str) -> None:
    """As one kind of error."""
    with pytest.raises(ScheduleError, match="this machine knows no such time zone"):
        Cron("* * * * *", zone)


def test_other_mistakes_are_told() -> None:
    """Of the kind that Python raises for them."""
    with pytest.raises(TypeError, match="a cron expression is a text"):
        Cron(5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="tz= is a time zone's name"):
        Cron("* * * * *", 5)  # type: ignore[arg-type]
    with pytest.raises(TypeError, match="every= is a timedelta"):
        Interval(5)  # type: ignore[arg-type]
    for wrong in (timedelta(), timedelta(seconds=-1), timedelta(milliseconds=99), timedelta(days=40_000)):
        with pytest.raises(ScheduleError, match=r"every= is from 0\.1 seconds"):
            Interval(wrong)
    with pytest.raises(ScheduleError, match="whole milliseconds"):
        Interval(timedelta(seconds=1, microseconds=1))
    naive = datetime(2026, 1, 1)
    for schedule in (Cron("* * * * *"), Interval(timedelta(hours=1))):
        for call in (schedule.next_after, schedule.latest):
            with pytest.raises(ValueError, match="has no time zone"):
                call(naive)


def test_a_zone_may_be_an_object() -> None:
    """With an offset that does not change, say."""
    cron = Cron("0 0 * * *", timezone(timedelta(hours=2)))
    assert cron.next_after(at("2026-01-01T12:00")) == at("2026-01-01T22:00")
    assert "UTC+02:00" in repr(cron)
    assert str(Cron("@daily", "Asia/Tokyo")) == "@daily (Asia/Tokyo)"


def test_calendars_end() -> None:
    """So does the search."""
    with pytest.raises(OverflowError, match="9999"):
        Cron("0 0 1 1 *").next_after(at("9999-06-01"))
    assert Cron("0 0 1 1 *").latest(at("1969-12-31")) is None
    assert Interval(timedelta(days=1)).latest(at("1969-12-31")) is None


def test_intervals_count_from_1970() -> None:
    """So that each process finds the same ticks."""
    quarter = Interval(timedelta(minutes=15))
    assert ticks(quarter, at("2026-01-01T00:07:30"), 2) == [at("2026-01-01T00:15"), at("2026-01-01T00:30")]
    assert quarter.next_after(at("2026-01-01T00:15")) == at("2026-01-01T00:30")
    assert quarter.latest(at("2026-01-01T00:15")) == at("2026-01-01T00:15")
    assert quarter.latest(at("2026-01-01T00:14:59.999999")) == at("2026-01-01T00:00")
    assert str(quarter) == "every 0:15:00"


@pytest.mark.parametrize(
    "schedule", [Cron("*/5 * * * *"), Interval(timedelta(minutes=5))], ids=lambda schedule: str(schedule)
)
def test_missed_ticks_are_caught_up_with_one(schedule: Schedule) -> None:
    """The last of them."""
    now = at("2026-01-01T12:03")
    assert due(schedule, at("2025-12-01"), now) == at("2026-01-01T12:00")
    assert due(schedule, at("2026-01-01T11:55"), now) == at("2026-01-01T12:00")
    assert due(schedule, at("2026-01-01T12:00"), now) is None
    # The clock was set back.
    assert due(schedule, at("2026-01-01T12:30"), now) is None


def test_a_day_is_computed_once() -> None:
    """And not for every tick."""
    cron = Cron("* * * * *", "Europe/Berlin")
    found = ticks(cron, at("2026-03-28T12:00"), 2 * 1440)
    assert len(set(found)) == 2880
    assert cron._ticks.cache_info().misses < 20
