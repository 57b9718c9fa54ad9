"""Quantities read as kube-apiserver reads them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from kube.machinery.quantity import parse_quantity, quantity_to_int

SUFFIXES = {
    "n": Decimal("1e-9"), "u": Decimal("1e-6"), "m": Decimal("1e-3"), "": Decimal(1), "k": Decimal(10**3),
    "M": Decimal(10**6), "G": Decimal(10**9), "T": Decimal(10**12), "P": Decimal(10**15), "E": Decimal(10**18),
    "Ki": Decimal(2**10), "Mi": Decimal(2**20), "Gi": Decimal(2**30), "Ti": Decimal(2**40), "Pi": Decimal(2**50),
    "Ei": Decimal(2**60),
}  # fmt: skip


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("0", 0),
        ("500m", Decimal("0.5")),
        ("1.5", Decimal("1.5")),
        (".5", Decimal("0.5")),
        ("1.", 1),
        ("4Gi", 4 * 2**30),
        ("1.5Gi", 1536 * 2**20),
        ("+2", 2),
        ("-3k", -3000),
        ("12e6", 12_000_000),
        ("12E6", 12_000_000),
        ("1E", 10**18),
        ("5e-3", Decimal("0.005")),
        (3, 3),
        (0.1, Decimal("0.1")),
        (1e-05, Decimal("0.00001")),
        ("0.1n", Decimal("1e-9")),
        ("-0.1n", Decimal("-1e-9")),
        ("100Ei", 2**63 - 1),
    ],
)
def test_accepted(text, number):
    assert parse_quantity(text) == number


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("", "must match the regular expression"),
        ("20GiB", "must match the regular expression"),
        ("1 Gi", "must match the regular expression"),
        (" 1", "must match the regular expression"),
        ("1\n", "must match the regular expression"),
        ("ten", "must match the regular expression"),
        ("٣", "must match the regular expression"),
        ("inf", "must match the regular expression"),
        (float("nan"), "must match the regular expression"),
        ("1.2.3", "unable to parse numeric part of quantity"),
        (".", "unable to parse numeric part of quantity"),
        ("1ki", "unable to parse quantity's suffix"),
        ("1g", "must match the regular expression"),
        ("1mi", "unable to parse quantity's suffix"),
        ("1e", "unable to parse quantity's suffix"),
        ("1e999999999", "unable to parse quantity's suffix"),
        ("9" * 300, "at most 256 characters"),
        (10**4000, "at most 256 characters"),
        (True, "must be numbers or strings"),
        (None, "must be numbers or strings"),
    ],
)
def test_refused(text, problem):
    with pytest.raises(ValueError, match=problem):
        parse_quantity(text)


@pytest.mark.parametrize(("text", "number"), [("1m", 1), ("1001m", 2), ("-1500m", -1), ("1Ki", 1024), ("2", 2)])
def test_whole_numbers_round_up(text, number):
    assert quantity_to_int(text) == number


@given(st.integers(-(10**12), 10**12), st.sampled_from(sorted(SUFFIXES)))
def test_every_suffix_is_its_factor(number, suffix):
    expected = number * SUFFIXES[suffix]
    if suffix.endswith("i"):
        expected = max(min(expected, 2**63 - 1), -(2**63 - 1))
    assert parse_quantity(f"{number}{suffix}") == expected


@given(st.decimals(-(10**15), 10**15, places=9, allow_nan=False))
def test_plain_decimals_survive_exactly(number):
    assert parse_quantity(f"{number:f}") == number
