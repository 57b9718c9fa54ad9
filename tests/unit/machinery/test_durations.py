"""Ages as kubectl prints them, and timestamps."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta, timezone

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery import durations

MINUTE, HOUR, DAY, YEAR = 60, 3600, 86400, 365 * 86400


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (-3, "<invalid>"),
        (-2, "<invalid>"),
        (-1.9, "0s"),
        (-1, "0s"),
        (0, "0s"),
        (5, "5s"),
        (119.9, "119s"),
        (120, "2m"),
        (150, "2m30s"),
        (10 * MINUTE - 1, "9m59s"),
        (10 * MINUTE, "10m"),
        (3 * HOUR - 1, "179m"),
        (3 * HOUR, "3h"),
        (3 * HOUR + 5 * MINUTE, "3h5m"),
        (8 * HOUR - 1, "7h59m"),
        (8 * HOUR, "8h"),
        (48 * HOUR - 1, "47h"),
        (48 * HOUR, "2d"),
        (51 * HOUR, "2d3h"),
        (8 * DAY - 1, "7d23h"),
        (8 * DAY, "8d"),
        (2 * YEAR - 1, "729d"),
        (2 * YEAR, "2y"),
        (2 * YEAR + DAY, "2y1d"),
        (8 * YEAR - 1, "7y364d"),
        (8 * YEAR, "8y"),
        (100 * YEAR, "100y"),
    ],
)
def test_ages(seconds, text):
    assert durations.human_duration(seconds) == text


def test_timestamps_are_in_utc():
    moment = datetime(2024, 2, 29, 1, 2, 3, 456789, tzinfo=timezone(timedelta(hours=2)))
    assert durations.rfc3339(moment) == "2024-02-28T23:02:03Z"
    assert durations.rfc3339_micro(moment) == "2024-02-28T23:02:03.456789Z"
    assert durations.rfc3339_micro(moment.replace(microsecond=0)) == "2024-02-28T23:02:03.000000Z"
    assert durations.rfc3339(datetime(1, 1, 1, tzinfo=UTC)) == "0001-01-01T00:00:00Z"


def test_a_timestamp_without_a_zone_is_refused():
    with pytest.raises(ValueError, match="time zone"):
        durations.rfc3339(datetime(2024, 1, 1))


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("2024-01-02T03:04:05Z", datetime(2024, 1, 2, 3, 4, 5, tzinfo=UTC)),
        ("2024-01-02T03:04:05.5Z", datetime(2024, 1, 2, 3, 4, 5, 500000, tzinfo=UTC)),
        ("2024-01-02T03:04:05.123456789Z", datetime(2024, 1, 2, 3, 4, 5, 123456, tzinfo=UTC)),
        ("2024-01-02T03:04:05-05:30", datetime(2024, 1, 2, 8, 34, 5, tzinfo=UTC)),
    ],
)
def test_parsed(text, moment):
    assert durations.parse_rfc3339(text) == moment


@pytest.mark.parametrize(
    "text",
    [
        "", "2024-01-02", "2024-01-02 03:04:05Z", "2024-13-02T03:04:05Z", "2024-01-02T03:04:05", "20240102T030405Z",
        "2024-01-02T03:04:05Z\n", "2024-01-02T03:04:05+01:60", "2024-01-02T03:04:05+24:00", "2024-02-30T00:00:00Z",
        "0001-01-01T00:00:00+01:00",
    ],
)  # fmt: skip
def test_not_parsed(text):
    with pytest.raises(ValueError):
        durations.parse_rfc3339(text)


@given(st.datetimes(timezones=st.just(UTC)))
def test_what_is_written_is_read_again(moment):
    assert durations.parse_rfc3339(durations.rfc3339_micro(moment)) == moment


def test_now_has_the_two_forms():
    before = datetime.now(UTC)
    assert durations.parse_rfc3339(durations.now_micro()) - before < timedelta(seconds=10)
    assert len(durations.now_rfc3339()) == len("2024-01-02T03:04:05Z")


@pytest.mark.parametrize(
    ("text", "seconds"),
    [("0", 0), ("0s", 0), ("3m", 180), ("1m30s", 90), ("1.5h", 5400), ("-.5s", -0.5), ("250ms", 0.25), ("2us", 2e-6)],
)
def test_durations_of_go(text, seconds):
    assert durations.parse_duration(text) == pytest.approx(seconds)


@pytest.mark.parametrize("text", ["", "invalid", "1", "1m 2s", "s", "1s2", "٣s", "-"])
def test_what_is_no_duration(text):
    with pytest.raises(ValueError, match="invalid duration"):
        durations.parse_duration(text)
