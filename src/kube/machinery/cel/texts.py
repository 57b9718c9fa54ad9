"""Functions on texts and times: CEL's own and those of cel-go's strings extension."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

from kube.machinery.cel.conversions import (
    moment_of,
    to_bool,
    to_bytes,
    to_double,
    to_duration,
    to_int,
    to_text,
    to_timestamp,
    to_uint,
)
from kube.machinery.cel.values import NANOS, TYPES, CelError, CelType, Duration, Timestamp, no_overload, type_name
from kube.machinery.goregex import Pattern, RegexError, compile_go_regex


def _texts(*values: Any) -> None:
    if not all(isinstance(value, str) for value in values):
        raise no_overload()


def size(value: Any) -> int:
    if isinstance(value, (str, bytes, list, dict)):
        return len(value)
    raise no_overload()


def _contains(text: str, part: str) -> bool:
    _texts(text, part)
    return part in text


def _starts(text: str, part: str) -> bool:
    _texts(text, part)
    return text.startswith(part)


def _ends(text: str, part: str) -> bool:
    _texts(text, part)
    return text.endswith(part)


def _pattern(text: str, pattern: str) -> Pattern:
    _texts(text, pattern)
    try:
        return compile_go_regex(pattern)
    except RegexError as problem:
        raise CelError(str(problem)) from None


def _matches(text: str, pattern: str) -> bool:
    return _pattern(text, pattern).test(text)


def _find(text: str, pattern: str) -> str:
    return next(iter(_pattern(text, pattern).find_all(text)), "")


def _find_all(text: str, pattern: str, limit: int = -1) -> list[str]:
    found = _pattern(text, pattern).find_all(text)
    return found if limit < 0 else found[:limit]


def _char_at(text: str, index: int) -> str:
    _texts(text)
    if not 0 <= index <= len(text):
        raise CelError(f"index out of range: {index}")
    return text[index : index + 1]


def index_of_text(text: str, part: str, offset: int = 0) -> int:
    _texts(text, part)
    if not part:
        return offset
    if offset < 0:
        raise CelError(f"index out of range: {offset}")
    return text.find(part, offset)


def last_index_of_text(text: str, part: str, offset: int | None = None) -> int:
    _texts(text, part)
    if not part:
        return len(text) if offset is None else offset
    if offset is None:
        return text.rfind(part)
    if offset < 0:
        raise CelError(f"index out of range: {offset}")
    return text.rfind(part, 0, offset + len(part))


def _join(items: list[Any], separator: str = "") -> str:
    _texts(separator, *items)
    return separator.join(items)


def _ascii(text: str, change: Callable[[str], str]) -> str:
    _texts(text)
    return "".join(change(char) if char.isascii() else char for char in text)


def _replace(text: str, old: str, new: str, limit: int = -1) -> str:
    _texts(text, old, new)
    return text.replace(old, new, limit)


def _split(text: str, separator: str, limit: int = -1) -> list[str]:
    _texts(text, separator)
    if limit == 0:
        return []
    if not separator:
        letters = list(text)
        return letters if limit < 0 or limit >= len(letters) else [*letters[: limit - 1], "".join(letters[limit - 1 :])]
    return text.split(separator, limit - 1 if limit > 0 else -1)


def _substring(text: str, start: int, end: int | None = None) -> str:
    _texts(text)
    last = len(text) if end is None else end
    if not 0 <= start <= len(text):
        raise CelError(f"index out of range: {start}")
    if not 0 <= last <= len(text):
        raise CelError(f"index out of range: {last}")
    if start > last:
        raise CelError(f"invalid substring range. start: {start}, end: {last}")
    return text[start:last]


_QUOTED = {
    **{char: f"\\{name}" for char, name in zip("\a\b\f\n\r\t\v", "abfnrtv", strict=True)},
    "\\": "\\\\",
    '"': '\\"',
}


def quote(text: str) -> str:
    _texts(text)
    return '"' + "".join(_QUOTED.get(char, char) for char in text) + '"'


# --- format

_CLAUSE = re.compile(r"%(?:%|(?:\.(\d+))?(.))", re.DOTALL)


def format_text(form: str, arguments: list[Any]) -> str:
    """`'%s: %d'.format([a, b])`."""
    _texts(form)
    rest = iter(arguments)
    used = 0

    def fill(found: re.Match[str]) -> str:
        nonlocal used
        if found[0] == "%%":
            return "%"
        used += 1
        try:
            value = next(rest)
        except StopIteration:
            raise CelError(f"index {used - 1} out of range") from None
        return _clause(found[2], int(found[1] or 6), value)

    return _CLAUSE.sub(fill, form)


def _clause(verb: str, precision: int, value: Any) -> str:
    if verb == "s":
        return _shown(value)
    form = _CLAUSES.get(verb)
    if form is None:
        raise CelError(f'could not parse formatting clause: unrecognized formatting clause "{verb}"')
    types, name, wanted, write = form
    if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
        problem = f"{name} clause can only be used on {wanted}, was given {type_name(value)}"
        raise CelError(f"error during formatting: {problem}")
    return write(value, precision)


def _exponent(value: float, precision: int) -> str:
    """Scientific notation as it is printed: `1.5×10⁰³`."""
    mantissa, _, exponent = f"{value:.{precision}e}".partition("e")
    sign = "⁻" if exponent.startswith("-") else ""
    return f"{mantissa}×10{sign}{exponent[1:].translate(_RAISED)}"


def _hexadecimal(value: Any, _: int) -> str:
    return f"{value:x}" if isinstance(value, int) else to_bytes(value).hex()


_RAISED = str.maketrans("0123456789", "⁰¹²³⁴⁵⁶⁷⁸⁹")
# What each clause takes, and what messages call it and its values.
_CLAUSES: dict[str, tuple[tuple[type, ...], str, str, Callable[[Any, int], str]]] = {
    "d": ((int,), "decimal", "integers", lambda value, _: str(int(value))),
    "f": ((float,), "fixed-point", "doubles", lambda value, digits: f"{value:.{digits}f}"),
    "e": ((float,), "scientific", "doubles", _exponent),
    "b": ((int, bool), "binary", "integers and bools", lambda value, _: f"{int(value):b}"),
    "x": ((int, str, bytes), "hex", "integers, byte buffers, and strings", _hexadecimal),
    "X": ((int, str, bytes), "hex", "integers, byte buffers, and strings", lambda v, d: _hexadecimal(v, d).upper()),
    "o": ((int,), "octal", "integers", lambda value, _: f"{value:o}"),
}


def _shown(value: Any, *, inner: bool = False) -> str:
    if value is None:
        return "null"
    if isinstance(value, list):
        return f"[{', '.join(_shown(item, inner=True) for item in value)}]"
    if isinstance(value, dict):
        shown = sorted((_shown(key, inner=True), _shown(item, inner=True)) for key, item in value.items())
        return "{" + ", ".join(f"{key}:{item}" for key, item in shown) + "}"
    if isinstance(value, CelType):
        return value.name
    if inner and isinstance(value, float):
        return f"{value:f}"
    return quote(value) if inner and isinstance(value, str) else to_text(value)


# --- times


def _part(read: Callable[[Any], int]) -> Callable[..., int]:
    def get(value: Any, zone: str = "") -> int:
        if not isinstance(value, Timestamp):
            raise no_overload()
        return read(moment_of(value, zone))

    return get


def _clock(of_time: Callable[[Any], int], unit: int) -> Callable[..., int]:
    """A part of a time of day, or a span in whole units."""

    def get(value: Any, zone: str = "") -> int:
        if isinstance(value, Duration):
            whole = abs(value.nanos) // unit
            return whole if value.nanos >= 0 else -whole
        return _part(of_time)(value, zone)

    return get


def _milliseconds(value: Any, zone: str = "") -> int:
    if isinstance(value, Duration):
        return abs(value.nanos) // 10**6 * (1 if value.nanos >= 0 else -1)
    if not isinstance(value, Timestamp):
        raise no_overload()
    return value.nanos % NANOS // 10**6


def _type(value: Any) -> CelType:
    name = type_name(value)
    return TYPES.get(name) or CelType(name)


TEXT_FUNCTIONS: dict[str, Callable[..., Any]] = {
    "size": size,
    "contains": _contains,
    "startsWith": _starts,
    "endsWith": _ends,
    "matches": _matches,
    "find": _find,
    "findAll": _find_all,
    "charAt": _char_at,
    "join": _join,
    "lowerAscii": lambda text: _ascii(text, str.lower),
    "upperAscii": lambda text: _ascii(text, str.upper),
    "replace": _replace,
    "split": _split,
    "substring": _substring,
    "trim": lambda text: text.strip(" \t\n\v\f\r\x85\xa0"),
    "strings.quote": quote,
    "format": format_text,
    "string": to_text,
    "int": to_int,
    "uint": to_uint,
    "double": to_double,
    "bool": to_bool,
    "bytes": to_bytes,
    "timestamp": to_timestamp,
    "duration": to_duration,
    "dyn": lambda value: value,
    "type": _type,
    "getFullYear": _part(lambda moment: moment.year),
    "getMonth": _part(lambda moment: moment.month - 1),
    "getDate": _part(lambda moment: moment.day),
    "getDayOfMonth": _part(lambda moment: moment.day - 1),
    "getDayOfYear": _part(lambda moment: moment.timetuple().tm_yday - 1),
    "getDayOfWeek": _part(lambda moment: moment.isoweekday() % 7),
    "getHours": _clock(lambda moment: moment.hour, 3600 * NANOS),
    "getMinutes": _clock(lambda moment: moment.minute, 60 * NANOS),
    "getSeconds": _clock(lambda moment: moment.second, NANOS),
    "getMilliseconds": _milliseconds,
}
