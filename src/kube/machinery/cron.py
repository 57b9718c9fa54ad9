"""Cron schedules as CronJobs have them: five fields, names, ranges, steps, `@hourly` and its kin, and a time zone.

Or `@every 90m`, which has nothing to do with the clock.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta, tzinfo
from functools import lru_cache
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from kube.machinery.durations import parse_duration

_MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_MONTHS = {
    name: number
    for number, name in enumerate(
        ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"], 1
    )
}
_DAYS = {name: number for number, name in enumerate(["sun", "mon", "tue", "wed", "thu", "fri", "sat"])}
_FIELDS: tuple[tuple[str, int, int, dict[str, int]], ...] = (
    ("minute", 0, 59, {}),
    ("hour", 0, 23, {}),
    ("day of month", 1, 31, {}),
    ("month", 1, 12, _MONTHS),
    ("day of week", 0, 7, _DAYS),
)
_HORIZON = timedelta(days=366 * 5)
_EVERY = "@every "
_LONGEST = 2**63 / 1e9
"""Seconds that a duration may have in Go."""


class CronError(ValueError):
    """A schedule (or, with `zone`, a time zone) that cannot be read."""

    def __init__(self, message: str, *, zone: bool = False) -> None:
        super().__init__(message)
        self.zone = zone


@dataclass(frozen=True, slots=True)
class Schedule:
    """A parsed schedule; it fires at the beginning of minutes."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    either_day: bool
    """Both day fields are restricted, and one of them suffices."""
    zone: tzinfo

    def following(self, moment: datetime) -> datetime | None:
        """The first time after `moment`, in UTC; None when there is none within five years (30th of February)."""
        at = (moment.astimezone(self.zone) + timedelta(minutes=1)).replace(second=0, microsecond=0)
        end = at + _HORIZON
        while at < end:
            if at.month not in self.months or not self._on_day(at):
                at = (at + timedelta(days=1)).replace(hour=0, minute=0)
            elif at.hour not in self.hours:
                at = (at + timedelta(hours=1)).replace(minute=0)
            elif at.minute not in self.minutes:
                at += timedelta(minutes=1)
            else:
                found = at.astimezone(UTC)
                if found > moment and found.astimezone(self.zone).replace(tzinfo=None) == at.replace(tzinfo=None):
                    return found
                at += timedelta(minutes=1)  # an hour that the clock skips or repeats
        return None

    def _on_day(self, at: datetime) -> bool:
        by_date, by_weekday = at.day in self.days, at.isoweekday() % 7 in self.weekdays
        return by_date or by_weekday if self.either_day else by_date and by_weekday


@dataclass(frozen=True, slots=True)
class Interval:
    """The schedule `@every`: it fires whole seconds after it did before."""

    seconds: int

    def following(self, moment: datetime) -> datetime:
        """The time after one of its times, in UTC."""
        return moment.astimezone(UTC).replace(microsecond=0) + timedelta(seconds=self.seconds)

    def latest(self, moment: datetime, now: datetime) -> datetime | None:
        """The last of the times after one of its times that has come by now; None when none has."""
        first = self.following(moment)
        if first > now:
            return None
        passed = int((now - first).total_seconds()) // self.seconds
        return first + timedelta(seconds=passed * self.seconds)


@lru_cache(maxsize=256)
def parse_cron(text: str, zone: str | None = None) -> Schedule | Interval:
    """Read a schedule; `zone` is an IANA name, UTC when there is none. Raises CronError."""
    if "TZ=" in text:
        raise CronError("cannot use TZ or CRON_TZ in schedule, use timeZone field instead")
    if text.startswith(_EVERY):
        return _interval(text)
    fields = _MACROS.get(text.strip(), text).split()
    if len(fields) != len(_FIELDS):
        raise CronError(f"expected exactly 5 fields, found {len(fields)}: {fields}")
    parsed = [_field(given, *rule) for given, rule in zip(fields, _FIELDS, strict=True)]
    weekdays = frozenset(day % 7 for day in parsed[4])
    either = not fields[2].startswith(("*", "?")) and not fields[4].startswith(("*", "?"))
    return Schedule(parsed[0], parsed[1], parsed[2], parsed[3], weekdays, either, time_zone(zone))


def _interval(text: str) -> Interval:
    wanted = text.removeprefix(_EVERY)
    try:
        seconds = parse_duration(wanted)
    except ValueError:
        seconds = _LONGEST
    if not -_LONGEST <= seconds < _LONGEST:
        raise CronError(f'failed to parse duration {text}: time: invalid duration "{wanted}"')
    return Interval(max(1, int(seconds)))


def time_zone(name: str | None) -> tzinfo:
    """The zone of an IANA name, UTC when there is none. Raises CronError."""
    if not name:
        return UTC
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError):
        raise CronError("unknown time zone " + name, zone=True) from None


def _field(text: str, what: str, low: int, high: int, names: dict[str, int]) -> frozenset[int]:
    found: set[int] = set()
    for part in text.split(","):
        span, slash, step_text = part.partition("/")
        first_text, dash, last_text = span.partition("-")
        if span in ("*", "?"):
            first, last = low, 6 if names is _DAYS else high
        else:
            first = _number(first_text, what, names)
            last = _number(last_text, what, names) if dash else (high if slash else first)
        step = _number(step_text, what, {}) if slash else 1
        if not low <= first <= last <= high or step < 1:
            raise CronError(f"{part!r} is not within {low} to {high} ({what})")
        found.update(range(first, last + 1, step))
    return frozenset(found)


def _number(text: str, what: str, names: dict[str, int]) -> int:
    value = names.get(text.lower())
    if value is not None:
        return value
    if not text.isdecimal() or len(text) > 4:
        raise CronError(f"failed to parse {text!r} as {what}")
    return int(text)
