"""The DHCP answerer: what clients are told, and that no bytes of a guest upset it."""

import ipaddress
import struct

from hypothesis import given
from hypothesis import strategies as st

from vmruntime.engines.qemu import dhcp
from vmruntime.engines.qemu.dhcp import ACK, DISCOVER, INFORM, NAK, OFFER, REQUEST, Lease, Surroundings

AROUND = Surroundings(ipaddress.IPv4Network("10.144.0.0/22"), "10.144.0.1", ("9.9.9.9", "1.1.1.1"))
LEASE = Lease("10.144.1.2", "web")
MAC = bytes.fromhex("525400000001")
SERVER = bytes([10, 144, 0, 1])


def message(kind, options=(), client="0.0.0.0"):
    header = struct.pack(
        "!BBBBIHH4s4s4s4s16s64s128s4s", 1, 1, 6, 0, 7, 0, 0, ipaddress.IPv4Address(client).packed,
        b"", b"", b"", MAC, b"", b"", b"\x63\x82\x53\x63",
    )  # fmt: skip
    body = bytes([0, 53, 1, kind]) + b"".join(bytes([code, len(value)]) + value for code, value in options)
    return header + body + b"\xff"


def told(kind, options=(), client="0.0.0.0", lease=LEASE):
    """(kind, address, options) of the answer; None if there is none."""
    query = dhcp.parse(message(kind, options, client))
    reply = dhcp.answer(query, lease, AROUND)
    if reply is None:
        return None
    assert reply[4:8] == struct.pack("!I", 7) and reply[28:34] == MAC and len(reply) >= 300
    content, place = {}, 240
    while reply[place] != 255:
        content[reply[place]] = reply[place + 2 : place + 2 + reply[place + 1]]
        place += 2 + reply[place + 1]
    return content[53][0], str(ipaddress.IPv4Address(reply[16:20])), content


def test_a_card_is_offered_its_own_address():
    query = dhcp.parse(message(DISCOVER))
    assert query.mac == "52:54:00:00:00:01"
    kind, address, options = told(DISCOVER)
    assert (kind, address) == (OFFER, "10.144.1.2")
    assert options[1] == bytes([255, 255, 252, 0])
    assert options[3] == options[54] == SERVER
    assert options[6] == bytes([9, 9, 9, 9, 1, 1, 1, 1])
    assert options[12] == b"web"
    assert options[51] == b"\xff\xff\xff\xff"


def test_a_request_for_another_address_is_refused():
    mine, other = bytes([10, 144, 1, 2]), bytes([10, 144, 1, 3])
    assert told(REQUEST, [(50, mine), (54, SERVER)])[:2] == (ACK, "10.144.1.2")
    assert told(REQUEST, client="10.144.1.2")[:2] == (ACK, "10.144.1.2")
    assert told(REQUEST, [(50, other)])[:2] == (NAK, "0.0.0.0")
    assert told(REQUEST, [(50, mine), (54, bytes([10, 0, 0, 1]))]) is None
    assert told(4, [(50, mine)]) is None


def test_a_card_with_an_address_of_its_own_is_told_the_rest():
    kind, address, options = told(INFORM, client="10.144.1.2")
    assert (kind, address) == (ACK, "0.0.0.0")
    assert 51 not in options and options[3] == SERVER


@given(st.binary(max_size=400) | st.binary(max_size=80).map(lambda tail: message(DISCOVER)[:-1] + tail))
def test_no_bytes_upset_it(data):
    query = dhcp.parse(data)
    if query is not None:
        dhcp.answer(query, LEASE, AROUND)
