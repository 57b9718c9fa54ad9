"""Ages and timestamps as Kubernetes prints them."""

from __future__ import annotations

import re
import time
from datetime import UTC, datetime, timedelta, timezone
from functools import lru_cache

_GO_SECONDS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_GO_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)", re.ASCII)
_RFC3339 = re.compile(
    r"([0-9]{4})-([0-9]{2})-([0-9]{2})T([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]+))?"
    r"(?:Z|([+-])([0-9]{2}):([0-9]{2}))"
)


def human_duration(seconds: float) -> str:
    """An age with two or three significant figures, as kubectl's AGE column has it (`duration.HumanDuration`).

    A clock that is up to two seconds behind still reads as `0s`; further back is `<invalid>`.
    """
    total = int(seconds)
    if total < 0:
        return "<invalid>" if total < -1 else "0s"
    if total < 120:
        return f"{total}s"
    minutes, hours, days = total // 60, total // 3600, total // 86400
    if minutes < 10:
        return _pair(minutes, "m", total % 60, "s")
    if hours < 3:
        return f"{minutes}m"
    if hours < 8:
        return _pair(hours, "h", minutes % 60, "m")
    if hours < 48:
        return f"{hours}h"
    if days < 8:
        return _pair(days, "d", hours % 24, "h")
    if days < 365 * 2:
        return f"{days}d"
    if days < 365 * 8:
        return _pair(days // 365, "y", days % 365, "d")
    return f"{days // 365}y"


def parse_duration(text: str) -> float:
    """Seconds of a duration as Go writes it (`time.ParseDuration`): `1m30s`, `1.5h`, `-2s`, `0`. Raises ValueError."""
    unsigned = text[1:] if text[:1] in ("-", "+") else text
    parts = list(_GO_PART.finditer(unsigned))
    if unsigned != "0" and (not parts or "".join(part[0] for part in parts) != unsigned):
        raise ValueError(f"invalid duration {text!r}")
    total = sum(float(part[1]) * _GO_SECONDS[part[2]] for part in parts)
    return -total if text.startswith("-") else total


def rfc3339(moment: datetime) -> str:
    """`metav1.Time`: UTC, whole seconds, `Z`. The moment must know its zone."""
    return _utc(moment).isoformat(timespec="seconds").replace("+00:00", "Z")


def rfc3339_micro(moment: datetime) -> str:
    """`metav1.MicroTime`: UTC with six digits of fraction, as leases and events carry it."""
    return _utc(moment).isoformat(timespec="microseconds").replace("+00:00", "Z")


def parse_rfc3339(text: str) -> datetime:
    """An aware datetime in UTC; digits beyond microseconds are dropped. Raises ValueError."""
    matched = _RFC3339.fullmatch(text)
    if matched is None:
        raise ValueError(f"{text!r} is not an RFC 3339 timestamp")
    year, month, day, hour, minute, second = (int(part) for part in matched.groups()[:6])
    micro = int((matched[7] or "").ljust(6, "0")[:6])
    zone = UTC
    if matched[8]:
        if int(matched[10]) > 59:
            raise ValueError(f"{text!r} is not an RFC 3339 timestamp")
        offset = timedelta(hours=int(matched[9]), minutes=int(matched[10]))
        zone = timezone(offset if matched[8] == "+" else -offset)
    try:
        return datetime(year, month, day, hour, minute, second, micro, tzinfo=zone).astimezone(UTC)
    except OverflowError as error:
        raise ValueError(f"{text!r} is out of range") from error


def now_rfc3339() -> str:
    """This moment, as in `metadata.creationTimestamp`."""
    return _of_second(int(time.time()))


@lru_cache(maxsize=1)
def _of_second(unix: int) -> str:
    return rfc3339(datetime.fromtimestamp(unix, UTC))


def now_micro() -> str:
    """This moment, as in a Lease's `renewTime`."""
    return rfc3339_micro(datetime.now(UTC))


def _pair(large: int, large_unit: str, small: int, small_unit: str) -> str:
    return f"{large}{large_unit}{small}{small_unit}" if small else f"{large}{large_unit}"


def _utc(moment: datetime) -> datetime:
    if moment.tzinfo is None:
        raise ValueError("a timestamp without a time zone is ambiguous")
    return moment.astimezone(UTC)
