"""Protobuf's wire format: a message is a row of fields, each with a number, a wire type and a value.

Source: https://protobuf.dev/programming-guides/encoding/. Groups (wire types 3 and 4), which Kubernetes never writes,
are refused. Every read checks its bounds; slices are views, so that nested messages are not copied at every level.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

VARINT, FIXED64, BYTES, FIXED32 = 0, 1, 2, 5
Value = int | memoryview

_MAX_NUMBER = (1 << 29) - 1
_MAX_UINT64 = (1 << 64) - 1


class ProtobufError(ValueError):
    """The body is no protobuf that can be read here; the text says why."""


def fields(data: memoryview) -> Iterator[tuple[int, int, Value]]:
    """A message's fields in their order: number, wire type, value (an int where it is a varint, else its bytes)."""
    place, end = 0, len(data)
    while place < end:
        key, place = varint(data, place)
        number, wire_type = key >> 3, key & 7
        if not 0 < number <= _MAX_NUMBER:
            raise ProtobufError(f"illegal field number {number}")
        if wire_type == VARINT:
            value, place = varint(data, place)
            yield number, wire_type, value
            continue
        if wire_type == BYTES:
            size, place = varint(data, place)
        elif wire_type in (FIXED64, FIXED32):
            size = 8 if wire_type == FIXED64 else 4
        else:
            raise ProtobufError(f"illegal wire type {wire_type} of field {number}")
        if size > end - place:
            raise ProtobufError("unexpected end of the message")
        yield number, wire_type, data[place : place + size]
        place += size


def varint(data: memoryview, place: int) -> tuple[int, int]:
    """The unsigned 64-bit integer at a place, and the place after it."""
    if place < len(data) and data[place] < 0x80:
        return data[place], place + 1  # most of them
    value = 0
    for shift, byte in zip(range(0, 70, 7), data[place : place + 10], strict=False):
        place += 1
        value |= (byte & 0x7F) << shift
        if byte < 0x80:
            if value > _MAX_UINT64:
                break
            return value, place
    else:
        if place >= len(data):
            raise ProtobufError("unexpected end of the message")
    raise ProtobufError("an integer has more than 64 bits")


def varints(data: memoryview) -> Iterator[int]:
    """The integers of a packed repeated field."""
    place = 0
    while place < len(data):
        value, place = varint(data, place)
        yield value


def bytes_field(number: int, data: bytes) -> bytes:
    """A field of bytes, a text or a message."""
    return _key(number, BYTES) + varint_bytes(len(data)) + data


def integer_field(number: int, value: int) -> bytes:
    """A field of an integer or a bool; negative ones take 64 bits."""
    return _key(number, VARINT) + varint_bytes(int(value) & _MAX_UINT64)


def double_field(number: int, value: float) -> bytes:
    """A field of a floating-point number."""
    return _key(number, FIXED64) + struct.pack("<d", value)


def _key(number: int, wire_type: int) -> bytes:
    """What stands before a field's value."""
    return varint_bytes(number << 3 | wire_type)


def varint_bytes(value: int) -> bytes:
    """An unsigned integer of up to 64 bits, seven of them in each byte."""
    found = bytearray()
    while value > 0x7F:
        found.append(value & 0x7F | 0x80)
        value >>= 7
    found.append(value)
    return bytes(found)


def signed(value: int, bits: int) -> int:
    """The two's complement integer that a varint holds; negative ones take 64 bits whatever their type."""
    number = value - (1 << 64) if value >> 63 else value
    if not -(1 << (bits - 1)) <= number < 1 << (bits - 1):
        raise ProtobufError(f"{number} does not fit in {bits} bits")
    return number


def double(data: memoryview) -> float:
    """The number in eight bytes."""
    return float(struct.unpack("<d", data)[0])


def text(data: memoryview) -> str:
    """A string, which must be UTF-8."""
    try:
        return str(data, "utf-8")
    except UnicodeDecodeError:
        raise ProtobufError("a string is not UTF-8") from None
