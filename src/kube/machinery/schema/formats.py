"""The string formats of schemas (kube-openapi's pkg/validation/strfmt). Formats that are none of these are not checked.

Their laxness is upstream's: objects that were accepted there must be accepted here.
"""

from __future__ import annotations

import datetime
import ipaddress
import re
import unicodedata
from collections.abc import Callable
from typing import Any

from kube.machinery.gourl import UrlError, parse_request_uri
from kube.machinery.mailaddress import is_mail_address
from kube.machinery.quantity import parse_quantity

FormatCheck = Callable[[str], bool]

_TIME = re.compile(r"([0-9]{2}):([0-9]{2}):([0-9]{2})(.[0-9]+)?(z|([+-][0-9]{2}:[0-9]{2}))")
_DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# Over the classes of characters that _hostname makes: one label, with a dash at its second place at most, or several.
_HOSTNAME = re.compile(r"[LSD](-?[LSD]{0,62})?|([LSD]([LSD-]{0,61}[LSD])?\.)+L{2,63}")
_GO_DURATION = re.compile(r"[+-]?(0|((\d+(\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h))+)")
_DURATION_WORD = re.compile(r"(\d+)\s*([A-Za-zµ]+)")
_UNITS = (
    ("ns", "nano"), ("us", "µs", "micro"), ("ms", "milli"), ("s", "sec"), ("m", "min"), ("h", "hr", "hour"),
    ("d", "day"), ("w", "wk", "week"),
)  # fmt: skip
_CARD = re.compile(
    r"(?:4[0-9]{12}(?:[0-9]{3})?|5[1-5][0-9]{14}|6(?:011|5[0-9][0-9])[0-9]{12}|3[47][0-9]{13}"
    r"|3(?:0[0-5]|[68][0-9])[0-9]{11}|(?:2131|1800|35\d{3})\d{11})"
)
_BYTE = r"\s*(0|[1-9]\d?|1\d\d?|2[0-4]\d|25[0-5])\s*"
_LABEL = "[a-z0-9]([-a-z0-9]*[a-z0-9])?"


def _date_time(text: str) -> bool:
    date, mark, time = text.lower().partition("t")
    found = _TIME.fullmatch(time.partition("t")[0])
    if not mark or found is None or not _date(date):
        return False
    return found[1] <= "23" and found[2] <= "59" and found[3] <= "59"


def _date(text: str) -> bool:
    if _DATE.fullmatch(text) is None:
        return False
    try:
        datetime.date.fromisoformat(text if text[:4] != "0000" else f"2000{text[4:]}")
    except ValueError:
        return False
    return True


def _uri(text: str) -> bool:
    try:
        parse_request_uri(text)
    except UrlError:
        return False
    return True


def _hostname(text: str) -> bool:
    """A label, or several of which the last has letters only; letters and symbols of any script are taken."""
    if len(text.encode()) > 255 or any(len(label.encode()) > 63 for label in text.split(".")):
        return False
    return _HOSTNAME.fullmatch("".join(map(_character_class, text))) is not None


def _character_class(char: str) -> str:
    if char in "-.":
        return char
    if char in "0123456789":
        return "D"
    category = unicodedata.category(char)[0]
    return category if category in "LS" else "?"


def _ipv4(text: str) -> bool:
    """Zeros in front are let through, as by Go before 1.17; so is an IPv6 address that ends in an IPv4 one."""
    if ":" in text:
        return "." in text and _ipv6(text)
    parts = text.split(".")
    return len(parts) == 4 and all(re.fullmatch(r"[0-9]+", part) and int(part) <= 255 for part in parts)


def _ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return "%" not in text


def _cidr(text: str) -> bool:
    address, slash, length = text.partition("/")
    if not slash or not re.fullmatch(r"[0-9]+", length):
        return False
    return (_ipv6(address) and int(length) <= 128) or (":" not in address and _ipv4(address) and int(length) <= 32)


def _duration(text: str) -> bool:
    """A Go duration, or one in the words of Scala anywhere in the text."""
    return _GO_DURATION.fullmatch(text) is not None or any(
        unit == variant or (variant == variants[-1] and unit.startswith(variant))
        for _, word in _DURATION_WORD.findall(text)
        for unit in (word.lower(),)
        for variants in _UNITS
        for variant in variants
    )


def _pattern(pattern: str) -> FormatCheck:
    compiled = re.compile(pattern, re.ASCII)
    return lambda text: compiled.fullmatch(text) is not None


def _uuid(version: str, variant: str = "[0-9a-fA-F]") -> FormatCheck:
    return _pattern(
        rf"[0-9a-fA-F]{{8}}-?[0-9a-fA-F]{{4}}-?{version}[0-9a-fA-F]{{3}}-?{variant}[0-9a-fA-F]{{3}}-?[0-9a-fA-F]{{12}}"
    )


def _isbn10(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch(r"[0-9]{9}[0-9X]", digits):
        return False
    values = [10 if digit == "X" else int(digit) for digit in digits]
    return sum(place * value for place, value in enumerate(values, 1)) % 11 == 0


def _isbn13(text: str) -> bool:
    digits = re.sub(r"[\s-]+", "", text)
    if not re.fullmatch(r"[0-9]{13}", digits):
        return False
    return sum((3 if place % 2 else 1) * int(digit) for place, digit in enumerate(digits)) % 10 == 0


def _credit_card(text: str) -> bool:
    """A card's number with the checksum of Luhn; what is no digit does not count."""
    digits = re.sub(r"[^0-9]+", "", text)
    if not _CARD.fullmatch(digits):
        return False
    doubled = (int(digit) * (2 if place % 2 else 1) for place, digit in enumerate(reversed(digits)))
    return sum(value - 9 if value > 9 else value for value in doubled) % 10 == 0


def _quantity(text: str) -> bool:
    try:
        parse_quantity(text)
    except ValueError:
        return False
    return True


FORMATS: dict[str, FormatCheck] = {
    "date-time": _date_time,
    "datetime": _date_time,
    "date": _date,
    "duration": _duration,
    "byte": _pattern(r"(?:[A-Za-z0-9+/]{4})*(?:[A-Za-z0-9+/]{2}==|[A-Za-z0-9+/]{3}=|[A-Za-z0-9+/]{4})"),
    "uri": _uri,
    "hostname": _hostname,
    "ipv4": _ipv4,
    "ipv6": _ipv6,
    "cidr": _cidr,
    "mac": _pattern(
        r"(?:[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\1){4}[0-9a-fA-F]{2}|[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\2){6}"
        r"[0-9a-fA-F]{2}|[0-9a-fA-F]{2}([:-])(?:[0-9a-fA-F]{2}\3){18}[0-9a-fA-F]{2}"
        r"|[0-9a-fA-F]{4}\.[0-9a-fA-F]{4}\.[0-9a-fA-F]{4}(?:\.[0-9a-fA-F]{4}(?:(?:\.[0-9a-fA-F]{4}){6})?)?)"
    ),
    "email": is_mail_address,
    "uuid": _uuid("[0-9a-fA-F]"),
    "uuid3": _uuid("3"),
    "uuid4": _uuid("4", "[89abAB]"),
    "uuid5": _uuid("5", "[89abAB]"),
    "isbn": lambda text: _isbn10(text) or _isbn13(text),
    "isbn10": _isbn10,
    "isbn13": _isbn13,
    "creditcard": _credit_card,
    "ssn": lambda text: len(text) == 11 and re.fullmatch(r"[0-9]{3}[- ]?[0-9]{2}[- ]?[0-9]{4}", text) is not None,
    "hexcolor": _pattern(r"#?([0-9a-fA-F]{3}|[0-9a-fA-F]{6})"),
    "rgbcolor": _pattern(rf"rgb\({_BYTE},{_BYTE},{_BYTE}\)"),
    "bsonobjectid": _pattern(r"[0-9a-fA-F]{24}"),
    "password": lambda _: True,
    "k8s-short-name": lambda text: len(text) <= 63 and re.fullmatch(_LABEL, text) is not None,
    "k8s-long-name": lambda text: len(text) <= 253 and re.fullmatch(rf"{_LABEL}(\.{_LABEL})*", text) is not None,
    "quantity": _quantity,
}

_OF_STRINGS = {name.replace("-", "") for name in FORMATS} - {"quantity"}
_OF_TYPES = {"integer": {"int32", "int64"}, "number": {"float", "double"}}


def is_known(name: str, type_: str) -> bool:
    """Whether a format means anything for values of a type ("": any) in a definition's schema."""
    if type_ in ("", "string"):
        return name.replace("-", "") in _OF_STRINGS
    return name in _OF_TYPES.get(type_, ())


def find_format(node: dict[str, Any]) -> FormatCheck | None:
    """The check of a schema's format for texts."""
    name = node.get("format")
    if not isinstance(name, str):
        return None
    return FORMATS.get(name) or FORMATS.get(name.replace("-", ""))


# Inclusive bounds of the integer formats.
INTEGER_BOUNDS = {
    "int32": (-(2**31), 2**31 - 1),
    "int64": (-(2**63), 2**63 - 1),
    "uint32": (0, 2**32 - 1),
    "uint64": (0, 2**64 - 1),
}
FLOAT_MAX = 3.40282346638528859811704183484516925440e38
