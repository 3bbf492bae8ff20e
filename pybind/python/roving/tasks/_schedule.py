"""When a periodic task is due: cron expressions with time zones, and intervals.

Cron is Debian's (Paul Vixie's), with what its users came to expect since: names, `L`, `#`, `@daily`. Its
rules where clocks are set are kept but for one: a time that a gap swallows is made up for even where the
minutes are `*`, as long as the hours are not. No library is used: one that does all this (cronsim) says of
a wrong field no more than its name, and roving needs no package but itself.
"""

import calendar
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta, tzinfo
from functools import lru_cache
from typing import Protocol
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from roving.tasks._errors import ScheduleError

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_SECOND = timedelta(seconds=1)
_DAY = timedelta(days=1)
# Ticks go to the store, and cost a commit each.
SHORTEST = timedelta(milliseconds=100)
LONGEST = timedelta(days=36525)


class Schedule(Protocol):
    """The moments at which something is due: its ticks."""

    def next_after(self, moment: datetime) -> datetime:
        """Give the first tick after a moment, in UTC.

        Raises:
            ValueError: The moment has no time zone.
        """

    def latest(self, moment: datetime) -> datetime | None:
        """Give the last tick at or before a moment, in UTC; None where there is none since 1970."""


def due(schedule: Schedule, last: datetime, now: datetime) -> datetime | None:
    """Give the tick to run now, if there was one since `last`: the last of those that were missed.

    Args:
        schedule: What is due when.
        last: The tick that ran last; or, where none ever did, when the schedule began.
        now: The moment it is.

    >>> due(Interval(timedelta(minutes=5)), last, now)      # after an hour's pause: the last of twelve
    """
    tick = schedule.latest(now)
    return tick if tick is not None and tick > last else None


def _seconds(moment: datetime) -> int:
    if moment.tzinfo is None:
        raise ValueError(f"{moment} has no time zone: which moment it is cannot be told")
    return (moment - EPOCH) // _SECOND


@dataclass(frozen=True, slots=True)
class Interval:
    """Every so often, counted from 1970: the ticks do not depend on when a process was started.

    >>> Interval(timedelta(minutes=15)).next_after(moment)      # at :00, :15, :30 or :45
    """

    every: timedelta

    def __post_init__(self) -> None:
        """Refuse what is no interval."""
        if not isinstance(self.every, timedelta):
            raise TypeError(f"every= is a timedelta, and {self.every!r} is none")
        if not SHORTEST <= self.every <= LONGEST:
            raise ScheduleError(f"every= is from 0.1 seconds to a hundred years, and is {self.every}")
        if self.every.microseconds % 1000:
            raise ScheduleError(f"every= is in whole milliseconds, and is {self.every}")

    def next_after(self, moment: datetime) -> datetime:
        """Give the first tick after a moment."""
        _seconds(moment)
        return EPOCH + ((moment - EPOCH) // self.every + 1) * self.every

    def latest(self, moment: datetime) -> datetime | None:
        """Give the last tick at or before a moment."""
        _seconds(moment)
        return None if moment < EPOCH else EPOCH + (moment - EPOCH) // self.every * self.every

    def __str__(self) -> str:
        """Say how often."""
        return f"every {self.every}"


_NICKNAMES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTH_NAMES = ("JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC")
_DAY_NAMES = ("SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT")
_LONGEST_MONTHS = (31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
# All calendars that there are: years that begin with each weekday, leap years and others.
_CALENDARS = date(2000, 1, 1), date(2028, 1, 1)
# Of a weekday's places in its month, as `#` counts them, the last.
_LAST = -1


@dataclass(frozen=True, slots=True)
class _Field:
    """One of the five."""

    name: str
    low: int
    high: int
    names: tuple[str, ...] = ()

    def parse(self, text: str) -> frozenset[int]:
        """Give the numbers that a field allows."""
        return frozenset(number for part in text.split(",") for number in self.part(part, text))

    def part(self, part: str, text: str) -> range:
        """Give the numbers of one item of its list."""
        whole, slash, step_text = part.partition("/")
        step = 1
        if slash:
            if not _is_number(step_text) or int(step_text) == 0:
                raise self.wrong(text, f"the step {step_text!r} is no number from 1")
            step = int(step_text)
            if step > self.high - self.low:
                raise self.wrong(
                    text,
                    f"a step of {step} is more than there is: it counts within {self.low}-{self.high}, "
                    "and begins anew each time. For intervals there is every=",
                )
        if whole == "*":
            return range(self.low, self.high + 1, step)
        first, dash, last = whole.partition("-")
        low = self.number(first, text)
        high = self.number(last, text) if dash else (self.high if slash else low)
        if dash and self.names is _DAY_NAMES and high == 0 < low:
            high = 7  # FRI-SUN
        if high < low:
            raise self.wrong(
                text, f"{whole!r} runs backwards; two ranges will do: {first}-{self.high},{self.low}-{last}"
            )
        return range(low, high + 1, step)

    def number(self, text: str, whole: str) -> int:
        """Read a number or a name."""
        if text.upper() in self.names:
            return self.names.index(text.upper()) + (self.low if self.names is _MONTH_NAMES else 0)
        if not _is_number(text):
            known = f" or a name ({self.names[0]}, {self.names[1]}...)" if self.names else ""
            raise self.wrong(whole, f"{text!r} is no number{known}")
        if not self.low <= int(text) <= self.high:
            raise self.wrong(whole, f"{text} is not from {self.low} to {self.high}")
        return int(text)

    def wrong(self, text: str, why: str) -> ScheduleError:
        """Say what is wrong."""
        return ScheduleError(f"the {self.name} field {text!r}: {why}")


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit() and len(text) < 10


_MINUTE = _Field("minute", 0, 59)
_HOUR = _Field("hour", 0, 23)
_DAY_OF_MONTH = _Field("day-of-month", 1, 31)
_MONTH = _Field("month", 1, 12, _MONTH_NAMES)
_DAY_OF_WEEK = _Field("day-of-week", 0, 7, _DAY_NAMES)


class Cron:
    """A cron expression of five fields: minute, hour, day of the month, month, day of the week.

    `*`, numbers, ranges (`9-17`), lists (`1,15`), steps (`*/5`, `9-17/2`), names (`JAN`, `MON`), `L` for
    the last day of a month, `MON#2` for its second Monday, `FRI#L` for its last Friday; `@hourly`,
    `@daily`, `@midnight`, `@weekly`, `@monthly`, `@yearly`. Sunday is 0 and 7. Where the day of the month
    and the day of the week are both given, either will do, unless one of them begins with `*`.

    Where clocks are set forward, a time that does not exist runs right after the gap, once, however many
    are in it; unless the hours are `*` or `*/n`, which just go on. Where they are set back, a time that
    there is twice runs the first time; unless minutes or hours are `*` or `*/n`, which go on through both.

    Args:
        expression: The five fields, or a nickname.
        tz: A time zone: its name, or a tzinfo.

    Raises:
        ScheduleError: It is wrong: the message says which field and why. There is no such time zone.

    >>> Cron("30 2 * * MON-FRI", "Europe/Berlin").next_after(datetime.now(UTC))
    """

    def __init__(self, expression: str, tz: str | tzinfo = "UTC") -> None:
        """Parse the expression."""
        if not isinstance(expression, str):
            raise TypeError(f"a cron expression is a text, and {expression!r} is none")
        self.expression = expression
        self.tz = _zone(tz)
        fields = _split(expression)
        minute, hour, day, month, weekday = fields
        self._minutes = sorted(_MINUTE.parse(minute))
        self._hours = sorted(_HOUR.parse(hour))
        self._last_day = False
        self._days = frozenset(self._parse_days(day))
        self._months = _MONTH.parse(month)
        self._weekdays = frozenset(_parse_weekdays(weekday))
        self._both = day.startswith("*") or weekday.startswith("*")
        # Whether it goes on through a gap, and through an hour that there is twice.
        self._ignores_gaps = hour.startswith("*")
        self._repeats = hour.startswith("*") or minute.startswith("*")
        longest = max(_LONGEST_MONTHS[number - 1] for number in self._months)
        if self._both and not self._last_day and min(self._days) > longest:
            raise _DAY_OF_MONTH.wrong(day, f"the months {month!r} have no such day")
        begin, end = _CALENDARS
        if not any(self.matches(begin + number * _DAY) for number in range((end - begin).days)):
            raise ScheduleError(f"{expression!r}: no day is in all of the day fields at once")
        # The ticks of a day: those around now are asked for again and again.
        self._ticks = lru_cache(maxsize=4)(self._find_ticks)

    def _parse_days(self, text: str) -> Iterator[int]:
        for part in text.split(","):
            if part.upper() == "L":
                self._last_day = True
            else:
                yield from _DAY_OF_MONTH.part(part, text)

    def next_after(self, moment: datetime) -> datetime:
        """Give the first tick after a moment; raises ValueError for one without a time zone."""
        after = _seconds(moment)
        for day in _days(self._local(moment) - _DAY, _DAY):
            if found := self._later(day, after):
                # Where clocks are set back over midnight, the next day may have begun before.
                return _moment(min(found + self._later(day + _DAY, after)))
        raise OverflowError("calendars end in the year 9999")

    def latest(self, moment: datetime) -> datetime | None:
        """Give the last tick at or before a moment; raises ValueError for one without a time zone."""
        until = _seconds(moment)
        for day in _days(self._local(moment) + _DAY, -_DAY):
            if found := self._earlier(day, until):
                return _moment(max(found + self._earlier(day - _DAY, until)))
            if day.year < EPOCH.year:
                break
        return None

    def _later(self, day: date, after: int) -> list[int]:
        ticks = self._ticks(day)
        return ticks[bisect_right(ticks, after) :][:1]

    def _earlier(self, day: date, until: int) -> list[int]:
        ticks = self._ticks(day)
        return ticks[: bisect_right(ticks, until)][-1:]

    def _local(self, moment: datetime) -> date:
        return moment.astimezone(self.tz).date()

    def matches(self, day: date) -> bool:
        """Whether there are ticks on a day."""
        if day.month not in self._months:
            return False
        days_in_month = calendar.monthrange(day.year, day.month)[1]
        of_month = day.day in self._days or (self._last_day and day.day == days_in_month)
        weekday, place = day.isoweekday() % 7, (day.day + 6) // 7
        of_week = not self._weekdays.isdisjoint(
            [(weekday, 0), (weekday, place), (weekday, _LAST if day.day + 7 > days_in_month else 0)]
        )
        return (of_month and of_week) if self._both else (of_month or of_week)

    def _find_ticks(self, day: date) -> list[int]:
        """Give a day's ticks in seconds since 1970."""
        if not self.matches(day):
            return []
        midnight = datetime(day.year, day.month, day.day)
        found: set[int] = set()
        for hour in self._hours:
            begin = midnight.replace(hour=hour)
            end = begin.replace(minute=59, second=59)
            first = self._at(begin, 0)
            if {first + 3599} == {self._at(end, 0), self._at(end, 1), self._at(begin, 1) + 3599}:
                # No clock is set in this hour.
                found.update(first + minute * 60 for minute in self._minutes)
            else:
                for minute in self._minutes:
                    found.update(self._around(begin.replace(minute=minute)))
        return sorted(found)

    def _around(self, wall: datetime) -> Iterator[int]:
        """Give the moments that a time on the wall stands for, in an hour in which clocks are set."""
        first, second = self._at(wall, 0), self._at(wall, 1)
        if first > second:
            # It does not exist. `first` goes by the offset from before, and is after the gap; `second`
            # before.
            if not self._ignores_gaps:
                yield self._change(second, first)
            return
        yield first
        if first < second and self._repeats:
            yield second

    def _at(self, wall: datetime, fold: int) -> int:
        return (wall.replace(tzinfo=self.tz, fold=fold) - EPOCH) // _SECOND

    def _change(self, low: int, high: int) -> int:
        """Give the moment at which the clock was set, between two others."""
        before = self._offset(low)
        while high - low > 1:
            middle = (low + high) // 2
            if self._offset(middle) == before:
                low = middle
            else:
                high = middle
        return high

    def _offset(self, at: int) -> timedelta | None:
        return _moment(at).astimezone(self.tz).utcoffset()

    def __str__(self) -> str:
        """Give the expression and the zone."""
        return f"{self.expression} ({getattr(self.tz, 'key', self.tz)})"

    def __repr__(self) -> str:
        """Show the expression and the zone."""
        return f"Cron({self.expression!r}, {str(getattr(self.tz, 'key', self.tz))!r})"


def _moment(seconds: int) -> datetime:
    return EPOCH + seconds * _SECOND


def _days(day: date, step: timedelta) -> Iterator[date]:
    while True:
        yield day
        try:
            day += step
        except OverflowError:
            return


def _split(expression: str) -> list[str]:
    text = expression.strip()
    if text.startswith("@"):
        if text.lower() not in _NICKNAMES:
            raise ScheduleError(f"{expression!r} is none of {', '.join(_NICKNAMES)}")
        text = _NICKNAMES[text.lower()]
    fields = text.split()
    if "=" in text:
        raise ScheduleError(f"{expression!r}: a time zone is given as tz=")
    if len(fields) != 5:
        hint = " Seconds have no field: for intervals there is every=" if len(fields) == 6 else ""
        raise ScheduleError(
            f"{expression!r} has {len(fields)} fields; cron has five: minute, hour, day of the month, month, "
            f"day of the week.{hint}"
        )
    return fields


def _parse_weekdays(text: str) -> Iterator[tuple[int, int]]:
    """Give weekdays, 0 to 6, each with its place in the month, where it is given: 1 to 5, or the last."""
    for part in text.split(","):
        whole, hash_, place = part.partition("#")
        if not hash_:
            for number in _DAY_OF_WEEK.part(part, text):
                yield number % 7, 0
        elif place.upper() == "L":
            yield _DAY_OF_WEEK.number(whole, text) % 7, _LAST
        elif place in ("1", "2", "3", "4", "5"):
            yield _DAY_OF_WEEK.number(whole, text) % 7, int(place)
        else:
            raise _DAY_OF_WEEK.wrong(text, f"after # there is 1 to 5, or L for the last, and not {place!r}")


def _zone(tz: str | tzinfo) -> tzinfo:
    if isinstance(tz, tzinfo):
        return tz
    if not isinstance(tz, str):
        raise TypeError(f"tz= is a time zone's name or a tzinfo, and {tz!r} is neither")
    if tz.upper() == "UTC":
        # Where a machine has no time zones (slim containers), it has this one.
        return UTC
    try:
        return ZoneInfo(tz)
    except (ZoneInfoNotFoundError, ValueError, OSError) as error:
        raise ScheduleError(
            f"tz={tz!r}: this machine knows no such time zone (its own come with the package tzdata)"
        ) from error
