"""Resource quantities: `500m`, `4Gi`, `1.5`, `12e6`.

Parsing follows k8s.io/apimachinery `api/resource.ParseQuantity`: the same suffixes, the same three error texts, values
finer than one nano rounded away from zero and binary values capped at the largest signed 64-bit integer. Two limits are
our own, because quantities come from untrusted bodies: the length of the text and the magnitude of the exponent.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, ROUND_UP, Context, Decimal

_BINARY = {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40, "Pi": 2**50, "Ei": 2**60}
_DECIMAL = {"n": -9, "u": -6, "m": -3, "": 0, "k": 3, "M": 6, "G": 9, "T": 12, "P": 15, "E": 18}

_SPLIT_TEXT = r"^([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)$"
_SPLIT = re.compile(r"([+-]?[0-9.]+)([eEinumkKMGTP]*[-+]?[0-9]*)")
_NUMBER = re.compile(r"[+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)")
_EXPONENT = re.compile(r"[eE]([+-]?[0-9]{1,9})")

_MAX_TEXT = 256
_MAX_EXPONENT = 256
_MAX_BINARY = Decimal(2**63 - 1)
_NANO = Decimal(1).scaleb(-9)
# Wide enough that neither 256 digits nor an exponent of 256 is rounded before we round on purpose.
_CONTEXT = Context(prec=1024)


def parse_quantity(value: str | int | float) -> Decimal:
    """The exact number that a quantity stands for.

    Raises ValueError with the text that kube-apiserver gives (`quantities must match the regular expression ...`).
    """
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise ValueError(f"quantities must be numbers or strings, not {type(value).__name__}")
    text = value if isinstance(value, str) else _number_text(value)
    if len(text) > _MAX_TEXT:
        raise ValueError(f"quantities must have at most {_MAX_TEXT} characters")
    split = _SPLIT.fullmatch(text)
    if split is None:
        raise ValueError(f"quantities must match the regular expression '{_SPLIT_TEXT}'")
    number, suffix = split.groups()
    if _NUMBER.fullmatch(number) is None:
        raise ValueError("unable to parse numeric part of quantity")
    amount = Decimal(number)
    if suffix in _BINARY:
        amount = _CONTEXT.multiply(amount, Decimal(_BINARY[suffix]))
        amount = min(max(amount, -_MAX_BINARY), _MAX_BINARY)
    else:
        amount = amount.scaleb(_exponent(suffix), _CONTEXT)
    if amount.as_tuple().exponent < -9:  # type: ignore[operator]  # no NaN or infinity passes the pattern
        amount = amount.quantize(_NANO, rounding=ROUND_UP, context=_CONTEXT)
    return amount


def quantity_to_int(value: str | int | float) -> int:
    """A quantity as a whole number (bytes, cores), rounded up as `Quantity.Value` does. Raises ValueError."""
    return int(parse_quantity(value).to_integral_value(rounding=ROUND_CEILING, context=_CONTEXT))


def format_quantity(value: Decimal, *, binary: bool = False) -> str:
    """A number in canonical form: with the largest suffix that leaves it whole (`500m`, `12k`; with `binary`, `2Gi`).

    `value` has at most nine decimal places, as all that `parse_quantity` gives.
    """
    if binary and value == value.to_integral_value():
        for suffix, size in reversed(_BINARY.items()):
            if value and not value % size:
                return f"{value / size:f}{suffix}"
        return f"{value:f}"
    for suffix, exponent in sorted(_DECIMAL.items(), key=lambda item: -item[1]):
        scaled = value.scaleb(-exponent, _CONTEXT)
        if value and scaled == scaled.to_integral_value():
            return f"{int(scaled)}{suffix}"
    return "0"


def is_binary(value: str | int | float) -> bool:
    """Whether a quantity is written in powers of 1024."""
    return str(value).endswith(tuple(_BINARY))


def _number_text(value: int | float) -> str:
    """A JSON number as text; integers too large to be a quantity are refused before they are printed."""
    if isinstance(value, int) and value.bit_length() > 4 * _MAX_TEXT:
        raise ValueError(f"quantities must have at most {_MAX_TEXT} characters")
    return repr(value)


def _exponent(suffix: str) -> int:
    """The power of ten of a decimal suffix or of an `e` notation."""
    if suffix in _DECIMAL:
        return _DECIMAL[suffix]
    matched = _EXPONENT.fullmatch(suffix)
    if matched is None or abs(int(matched[1])) > _MAX_EXPONENT:
        raise ValueError("unable to parse quantity's suffix")
    return int(matched[1])
