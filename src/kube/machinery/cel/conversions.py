"""Conversions between CEL's types, with the texts of times and numbers as Go writes them."""

from __future__ import annotations

import datetime
import math
import re
from typing import Any

from kube.machinery.cel.values import (
    MAX_INT,
    MAX_UINT,
    MIN_INT,
    NANOS,
    CelError,
    Duration,
    Timestamp,
    UInt,
    no_overload,
)

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.UTC)
_TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d+))?(?:[Zz]|([+-])(\d\d):(\d\d))", re.ASCII)
_SPAN = re.compile(r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_UNITS = {"ns": 1, "us": 1000, "µs": 1000, "μs": 1000, "ms": 10**6, "s": NANOS, "m": 60 * NANOS, "h": 3600 * NANOS}
_MIN_TIME, _MAX_TIME = -62135596800, 253402300799
_INTEGER = re.compile(r"[+-]?[0-9]+", re.ASCII)
_BOOLS = {
    **dict.fromkeys(("1", "t", "T", "true", "TRUE", "True"), True),
    **dict.fromkeys(("0", "f", "F", "false", "FALSE", "False"), False),
}


def in_range(value: int) -> int:
    """An int of 64 bits. Raises CelError for one that is longer."""
    if MIN_INT <= value <= MAX_INT:
        return value
    raise CelError("integer overflow")


def unsigned(value: int) -> UInt:
    """A uint of 64 bits. Raises CelError for a number that is none."""
    if 0 <= value <= MAX_UINT:
        return UInt(value)
    raise CelError("unsigned integer overflow")


def to_int(value: Any) -> int:
    if isinstance(value, bool):
        raise no_overload()
    if isinstance(value, float):
        if math.isnan(value) or not MIN_INT < value < MAX_INT:
            raise CelError("integer overflow")
        return int(value)
    if isinstance(value, int):
        return in_range(int(value))
    if isinstance(value, Timestamp):
        return value.nanos // NANOS
    if isinstance(value, Duration):
        return value.nanos
    if isinstance(value, str):
        return _parse_integer(value, "int", MIN_INT, MAX_INT)
    raise no_overload()


def _not_converted(type_: str) -> CelError:
    return CelError(f"type conversion error from 'string' to '{type_}'")


def _parse_integer(text: str, type_: str, low: int, high: int) -> int:
    if not _INTEGER.fullmatch(text) or (low == 0 and text[0] in "+-") or not low <= int(text) <= high:
        raise _not_converted(type_)
    return int(text)


def to_uint(value: Any) -> UInt:
    if isinstance(value, str):
        return UInt(_parse_integer(value, "uint", 0, MAX_UINT))
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise no_overload()
    if isinstance(value, float) and (math.isnan(value) or math.isinf(value)):
        raise CelError("unsigned integer overflow")
    return unsigned(int(value))


def to_double(value: Any) -> float:
    if isinstance(value, str):
        try:
            return float(value.replace("_", "x"))
        except ValueError:
            raise _not_converted("double") from None
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise no_overload()
    return float(value)


def to_bool(value: Any) -> bool:
    if isinstance(value, bool):
        return value
    if isinstance(value, str):
        if value in _BOOLS:
            return _BOOLS[value]
        raise _not_converted("bool")
    raise no_overload()


def to_bytes(value: Any) -> bytes:
    if isinstance(value, str):
        return value.encode("utf-8", "surrogatepass")
    if isinstance(value, bytes):
        return value
    raise no_overload()


def to_text(value: Any) -> str:
    if isinstance(value, str):
        return value
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return double_text(value)
    if isinstance(value, int):
        return str(int(value))
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise CelError("invalid UTF-8 in bytes, cannot convert to string") from None
    if isinstance(value, Timestamp):
        return time_text(value)
    if isinstance(value, Duration):
        return span_text(value)
    shown = getattr(value, "cel_text", None)
    if shown is None:
        raise no_overload()
    return str(shown)


def double_text(value: float) -> str:
    """A double as Go's %g writes it at full precision."""
    if math.isinf(value):
        return "+Inf" if value > 0 else "-Inf"
    if math.isnan(value):
        return "NaN"
    from kube.machinery.schema.values import show_number

    return show_number(value)


def to_timestamp(value: Any) -> Timestamp:
    if isinstance(value, Timestamp):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return checked_time(value * NANOS)
    if not isinstance(value, str):
        raise no_overload()
    found = _TIME.fullmatch(value)
    try:
        if found is None:
            raise ValueError
        year, month, day, hour, minute, second = (int(found[group]) for group in range(1, 7))
        moment = datetime.datetime(year, month, day, hour, minute, second, tzinfo=datetime.UTC)
    except ValueError:
        raise _not_converted("google.protobuf.Timestamp") from None
    seconds = int((moment - _EPOCH).total_seconds())
    if found[8]:
        offset = (int(found[9]) * 60 + int(found[10])) * 60
        seconds -= offset if found[8] == "+" else -offset
    return checked_time(seconds * NANOS + int((found[7] or "0")[:9].ljust(9, "0")))


def checked_time(nanos: int) -> Timestamp:
    """A time within the years 1 to 9999. Raises CelError for any other."""
    if not _MIN_TIME <= nanos // NANOS <= _MAX_TIME:
        raise CelError("timestamp overflow")
    return Timestamp(nanos)


def checked_span(nanos: int) -> Duration:
    """A span that 64 bits hold. Raises CelError for a longer one."""
    if not MIN_INT <= nanos <= MAX_INT:
        raise CelError("duration overflow")
    return Duration(nanos)


def to_duration(value: Any) -> Duration:
    if isinstance(value, Duration):
        return value
    if isinstance(value, int) and not isinstance(value, bool):
        return checked_span(int(value))
    if not isinstance(value, str):
        raise no_overload()
    text = value.lstrip("+-") if value[:1] in ("+", "-") else value
    if text == "0":
        return Duration(0)
    nanos, place = 0.0, 0
    whole = 0
    for found in _SPAN.finditer(text):
        if found.start() != place:
            break
        place = found.end()
        number, unit = found[1], _UNITS[found[2]]
        integer, _, fraction = number.partition(".")
        whole += int(integer or 0) * unit
        nanos += float(f"0.{fraction}") * unit if fraction else 0
    if not text or place != len(text):
        raise _not_converted("google.protobuf.Duration")
    total = whole + int(nanos)
    return checked_span(-total if value.startswith("-") else total)


def moment_of(value: Timestamp, zone: str = "") -> datetime.datetime:
    """A time in a time zone: a name, or `+HH:MM`; UTC where there is none. Without its nanoseconds."""
    utc = _EPOCH + datetime.timedelta(seconds=value.nanos // NANOS)
    if not zone:
        return utc
    found = re.fullmatch(r"([+-])?(\d\d):(\d\d)", zone)
    if found:
        minutes = int(found[2]) * 60 + int(found[3])
        return utc.astimezone(datetime.timezone(datetime.timedelta(minutes=-minutes if found[1] == "-" else minutes)))
    import zoneinfo

    try:
        return utc.astimezone(zoneinfo.ZoneInfo(zone))
    except (zoneinfo.ZoneInfoNotFoundError, ValueError, OSError):
        raise CelError(f"unknown time zone {zone}") from None


def time_text(value: Timestamp) -> str:
    """RFC 3339, with as many digits of the second as are needed."""
    base = moment_of(value).strftime("%Y-%m-%dT%H:%M:%S")
    base = base if base[4] == "-" else base.rjust(19, "0")
    nanos = value.nanos % NANOS
    return f"{base}.{nanos:09d}".rstrip("0") + "Z" if nanos else f"{base}Z"


def span_text(value: Duration) -> str:
    """Seconds, as protobuf's JSON has them: `1.5s`."""
    sign = "-" if value.nanos < 0 else ""
    seconds, nanos = divmod(abs(value.nanos), NANOS)
    return f"{sign}{seconds}.{nanos:09d}".rstrip("0") + "s" if nanos else f"{sign}{seconds}s"
