"""Protobuf's wire format: integers at their limits, and messages that end too early."""

from __future__ import annotations

import pytest

from kube.machinery.protobuf import wire
from kube.machinery.protobuf.wire import ProtobufError


def view(text: str) -> memoryview:
    return memoryview(bytes.fromhex(text))


@pytest.mark.parametrize(
    ("data", "value"),
    [("00", 0), ("7f", 127), ("9601", 150), ("ff" * 9 + "01", (1 << 64) - 1), ("80" * 9 + "00", 0)],
)
def test_varints(data, value):
    assert wire.varint(view(data + "05"), 0) == (value, len(data) // 2)


@pytest.mark.parametrize(
    ("data", "text"),
    [("", "end"), ("80", "end"), ("ff" * 9, "end"), ("ff" * 9 + "02", "64 bits"), ("80" * 10 + "00", "64 bits")],
)
def test_broken_varints(data, text):
    with pytest.raises(ProtobufError, match=text):
        wire.varint(view(data), 0)


@pytest.mark.parametrize(
    ("value", "bits", "number"),
    [((1 << 64) - 1, 32, -1), ((1 << 64) - (1 << 31), 32, -(1 << 31)), ((1 << 31) - 1, 32, (1 << 31) - 1)],
)
def test_signed(value, bits, number):
    assert wire.signed(value, bits) == number


@pytest.mark.parametrize("value", [1 << 31, (1 << 32) - 1, (1 << 64) - (1 << 31) - 1])
def test_signed_out_of_range(value):
    with pytest.raises(ProtobufError, match="32 bits"):
        wire.signed(value, 32)


def test_fields_of_all_wire_types():
    found = list(wire.fields(view("089601" + "1202ffee" + "190102030405060708" + "2501020304")))
    assert [(number, kind) for number, kind, _ in found] == [(1, 0), (2, 2), (3, 1), (4, 5)]
    assert found[0][2] == 150
    assert [bytes(value).hex() for _, _, value in found[1:]] == ["ffee", "0102030405060708", "01020304"]


@pytest.mark.parametrize(
    ("data", "text"),
    [
        ("0a02ff", "unexpected end"),
        ("0affffffffffffffffff01", "unexpected end"),
        ("0901020304050607", "unexpected end"),
        ("0d010203", "unexpected end"),
        ("08", "unexpected end"),
        ("0b0c", "wire type 3"),
        ("0f", "wire type 7"),
        ("0000", "field number 0"),
        ("808080801000", "field number 536870912"),
    ],
)
def test_broken_fields(data, text):
    with pytest.raises(ProtobufError, match=text):
        list(wire.fields(view(data)))
