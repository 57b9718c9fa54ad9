"""Schedules of CronJobs: when they fire, and what is refused."""

from datetime import UTC, datetime

import pytest

from kube.machinery.cron import CronError, parse_cron


def at(text):
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


@pytest.mark.parametrize(
    ("schedule", "after", "next_time"),
    [
        ("* * * * *", "2026-01-01T00:00:30", "2026-01-01T00:01:00"),
        ("*/15 * * * *", "2026-01-01T00:45:00", "2026-01-01T01:00:00"),
        ("@hourly", "2026-01-01T23:00:00", "2026-01-02T00:00:00"),
        ("30 4 1,15 * *", "2026-01-01T04:30:00", "2026-01-15T04:30:00"),
        ("0 9 * * mon-fri", "2026-01-02T09:00:00", "2026-01-05T09:00:00"),
        ("0 0 * * 7", "2026-01-01T00:00:00", "2026-01-04T00:00:00"),
        ("0 0 13 * fri", "2026-01-01T00:00:00", "2026-01-02T00:00:00"),  # either day is enough
        ("0 0 29 feb *", "2026-01-01T00:00:00", "2028-02-29T00:00:00"),
        ("@every 1h30m", "2026-01-01T00:00:07.5", "2026-01-01T01:30:07"),
        ("@every 2.9s", "2026-01-01T00:00:00", "2026-01-01T00:00:02"),
        ("@every -1h", "2026-01-01T00:00:00", "2026-01-01T00:00:01"),
    ],
)
def test_next_time(schedule, after, next_time):
    assert parse_cron(schedule).following(at(after)) == at(next_time)


def test_a_day_that_never_comes():
    assert parse_cron("0 0 30 2 *").following(at("2026-01-01T00:00:00")) is None


def test_time_zones_and_the_hour_that_is_skipped():
    assert parse_cron("0 9 * * *", "Europe/Berlin").following(at("2026-07-01T00:00:00")) == at("2026-07-01T07:00:00")
    # On 2026-03-29 clocks go from 02:00 to 03:00.
    assert parse_cron("30 2 * * *", "Europe/Berlin").following(at("2026-03-29T00:00:00")) == at("2026-03-30T00:30:00")


@pytest.mark.parametrize(
    "schedule", ["", "* * * *", "60 * * * *", "* * 0 * *", "a * * * *", "*/0 * * * *", "5-1 * * * *",
                 "@every", "@every 1", "@every 1d", "@every  1h", "@every 99999999999h", "@EVERY 1h"]
)  # fmt: skip
def test_refused(schedule):
    with pytest.raises(CronError):
        parse_cron(schedule)


def test_an_unknown_zone_is_told_apart():
    with pytest.raises(CronError) as problem:
        parse_cron("* * * * *", "Nowhere/Land")
    assert problem.value.zone
