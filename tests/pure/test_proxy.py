"""The PROXY header, byte by byte: a part of it is never mistaken for the whole, nor for what it is not."""

from __future__ import annotations

import contextlib
import ipaddress
import struct

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.pure.bounds import BOUNDED
from trio_chat.transport.proxy import BadProxyHeader, parse_proxy_header

SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"

LOCAL, PROXY = 0x20, 0x21
UNSPECIFIED, TCP4, UDP4, TCP6, UNIX = 0x00, 0x11, 0x12, 0x21, 0x31


def version_2(command: int, family: int, addresses: bytes, more: bytes = b"") -> bytes:
    return SIGNATURE + struct.pack("!BBH", command, family, len(addresses) + len(more)) + addresses + more


def inet(source: str, port: int) -> bytes:
    packed = ipaddress.ip_address(source).packed
    return packed + packed + struct.pack("!HH", port, 6000)


#: A TLV as load balancers append them: a CRC-32C.
TLV = b"\x03\x00\x04abcd"
LONGEST_1 = b"PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535".ljust(105, b"f") + b"\r\n"

# How such an address is written depends on the version of Python.
MAPPED = f"[{ipaddress.IPv6Address('::ffff:192.0.2.1')}]:1"

VALID = {
    "1 TCP4": (b"PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "192.0.2.1:56324"),
    "1 TCP4 widest": (b"PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n", "255.255.255.255:65535"),
    "1 TCP4 port 0": (b"PROXY TCP4 1.2.3.4 5.6.7.8 0 0\r\n", "1.2.3.4:0"),
    "1 TCP6": (b"PROXY TCP6 2001:db8::1 ::1 56324 443\r\n", "[2001:db8::1]:56324"),
    "1 TCP6 written out": (
        b"PROXY TCP6 2001:0DB8:0000:0000:0000:0000:0000:0001 0000:0000:0000:0000:0000:0000:0000:0001 65535 65535\r\n",
        "[2001:db8::1]:65535",
    ),
    "1 UNKNOWN": (b"PROXY UNKNOWN\r\n", None),
    "1 UNKNOWN and more": (b"PROXY UNKNOWN ffff::ffff ::1 65535 65535\r\n", None),
    "1 as long as allowed": (LONGEST_1, None),
    "2 TCP4": (version_2(PROXY, TCP4, inet("192.0.2.1", 56324)), "192.0.2.1:56324"),
    "2 TCP4 and a TLV": (version_2(PROXY, TCP4, inet("192.0.2.1", 56324), TLV), "192.0.2.1:56324"),
    "2 TCP6": (version_2(PROXY, TCP6, inet("2001:db8::1", 1)), "[2001:db8::1]:1"),
    "2 TCP6 and a TLV": (version_2(PROXY, TCP6, inet("::ffff:192.0.2.1", 1), TLV * 3), MAPPED),
    "2 LOCAL": (version_2(LOCAL, UNSPECIFIED, b""), None),
    "2 LOCAL with addresses": (version_2(LOCAL, TCP4, inet("192.0.2.1", 1)), None),
    "2 LOCAL with a TLV": (version_2(LOCAL, UNSPECIFIED, b"", TLV), None),
    "2 unspecified": (version_2(PROXY, UNSPECIFIED, b""), None),
    "2 UDP": (version_2(PROXY, UDP4, inet("192.0.2.1", 1)), None),
    "2 unix": (version_2(PROXY, UNIX, b"/run/x".ljust(216, b"\0")), None),
    "2 family unknown": (version_2(PROXY, 0xFF, b"whatever"), None),
    "2 TCP4 too short": (version_2(PROXY, TCP4, b"\x01\x02\x03"), None),
    "2 longest": (version_2(PROXY, TCP4, inet("192.0.2.1", 1), b"\0" * (65535 - 12)), "192.0.2.1:1"),
}

INVALID = {
    "chat": b'{"msgid":20}\n',
    "TLS": b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03",
    "HTTP": b"GET / HTTP/1.1\r\n\r\n",
    "blank first": b" PROXY UNKNOWN\r\n",
    "lower case": b"proxy UNKNOWN\r\n",
    "another word": b"PROXIES UNKNOWN\r\n",
    "no blank": b"PROXY\r\n",
    "1 nothing": b"PROXY \r\n",
    "1 family": b"PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
    "1 family in lower case": b"PROXY tcp4 192.0.2.1 198.51.100.1 1 2\r\n",
    "1 UNKNOWN glued": b"PROXY UNKNOWNS\r\n",
    "1 addresses missing": b"PROXY TCP4\r\n",
    "1 port missing": b"PROXY TCP4 192.0.2.1 198.51.100.1 1\r\n",
    "1 one field more": b"PROXY TCP4 192.0.2.1 198.51.100.1 1 2 3\r\n",
    "1 two blanks": b"PROXY TCP4  192.0.2.1 198.51.100.1 1 2\r\n",
    "1 tab": b"PROXY\tTCP4 192.0.2.1 198.51.100.1 1 2\r\n",
    "1 IPv6 as TCP4": b"PROXY TCP4 ::1 ::1 1 2\r\n",
    "1 IPv4 as TCP6": b"PROXY TCP6 192.0.2.1 192.0.2.1 1 2\r\n",
    "1 IPv6 with a zone": b"PROXY TCP6 fe80::1%\x1b[2J ::1 1 2\r\n",
    "1 no address": b"PROXY TCP4 localhost 198.51.100.1 1 2\r\n",
    "1 address with a leading zero": b"PROXY TCP4 192.0.2.01 198.51.100.1 1 2\r\n",
    "1 address not ASCII": b"PROXY TCP4 192.0.2.\xff 198.51.100.1 1 2\r\n",
    "1 port too large": b"PROXY TCP4 192.0.2.1 198.51.100.1 65536 2\r\n",
    "1 port negative": b"PROXY TCP4 192.0.2.1 198.51.100.1 -1 2\r\n",
    "1 port with a sign": b"PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
    "1 port with an underscore": b"PROXY TCP4 192.0.2.1 198.51.100.1 1_0 2\r\n",
    "1 port empty": b"PROXY TCP4 192.0.2.1 198.51.100.1  2\r\n",
    "1 without an end": b"PROXY UNKNOWN " + b"x" * 200,
    "1 end one byte too late": b"PROXY UNKNOWN".ljust(106, b"x") + b"\r\n",
    "1 ended by a newline": b"PROXY UNKNOWN\n".ljust(107, b"x"),
    "2 signature broken": SIGNATURE[:-1] + b"\r" + b"\x21\x11\x00\x00",
    "2 version 1": version_2(0x11, TCP4, inet("192.0.2.1", 1)),
    "2 version 3": version_2(0x31, TCP4, inet("192.0.2.1", 1)),
    "2 command": version_2(0x22, TCP4, inet("192.0.2.1", 1)),
}

REST = [b"", b'{"msgid":20,"version":1}\n', b"\r\n", b"PROXY UNKNOWN\r\n", SIGNATURE]


@pytest.mark.parametrize(("header", "peer"), VALID.values(), ids=VALID.keys())
def test_a_header_says_who_the_client_is_and_where_its_bytes_begin(header: bytes, peer: str | None) -> None:
    for rest in REST:
        assert parse_proxy_header(header + rest) == (peer, len(header))


@pytest.mark.parametrize("header", [header for header, _ in VALID.values()], ids=VALID.keys())
def test_a_part_of_a_header_is_incomplete(header: bytes) -> None:
    for end in range(min(len(header), 300)):
        assert parse_proxy_header(header[:end]) is None
    assert parse_proxy_header(header[:-1]) is None


@pytest.mark.parametrize("data", INVALID.values(), ids=INVALID.keys())
def test_what_is_no_header_is_refused_and_never_read_as_one_on_the_way(data: bytes) -> None:
    for end in range(len(data)):
        with contextlib.suppress(BadProxyHeader):
            assert parse_proxy_header(data[:end]) is None
    with pytest.raises(BadProxyHeader):
        parse_proxy_header(data)
    with pytest.raises(BadProxyHeader):
        parse_proxy_header(data + b"\r\n")


def test_what_begins_differently_is_refused_at_its_first_byte() -> None:
    for first in range(256):
        data = bytes([first])
        if data in (b"P", b"\r"):
            assert parse_proxy_header(data) is None
        else:
            with pytest.raises(BadProxyHeader, match="proxy_from"):
                parse_proxy_header(data)


ADDRESSES = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6))


@BOUNDED
@given(ADDRESSES, st.integers(0, 65535), st.binary(max_size=20))
def test_any_address_in_either_version(
    address: ipaddress.IPv4Address | ipaddress.IPv6Address, port: int, rest: bytes
) -> None:
    is_6 = address.version == 6
    peer = f"[{address}]:{port}" if is_6 else f"{address}:{port}"
    for header in (
        f"PROXY TCP{address.version} {address} {address} {port} 6000\r\n".encode(),
        version_2(PROXY, TCP6 if is_6 else TCP4, inet(str(address), port), TLV),
    ):
        assert parse_proxy_header(header + rest) == (peer, len(header))


BEGINNINGS = st.sampled_from(
    [b"", b"PROXY ", b"PROXY TCP4 1.2.3.4 ", b"PROXY UNKNOWN", SIGNATURE, SIGNATURE + b"\x21\x11\x00\x0c"]
)


@BOUNDED
@given(BEGINNINGS, st.binary(max_size=130) | st.text("0123456789.: \r\n%f", max_size=110).map(str.encode))
def test_only_its_own_error_escapes_and_more_bytes_change_no_answer(beginning: bytes, more: bytes) -> None:
    data = beginning + more
    answers = []
    for end in range(len(data) + 1):
        try:
            answers.append(parse_proxy_header(data[:end]))
        except BadProxyHeader:
            assert all(answer is None for answer in answers)
            return
    found = [answer for answer in answers if answer is not None]
    assert len(set(found)) <= 1
    if found:
        size = found[0][1]
        assert answers == [None] * size + found
