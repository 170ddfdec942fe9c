"""The PROXY protocol's header, versions 1 and 2, with which a load balancer says who the client is. Pure.

Specification: https://www.haproxy.org/download/3.0/doc/proxy-protocol.txt
"""

from __future__ import annotations

import ipaddress
import struct
from collections.abc import Iterable

__all__ = ["BadProxyHeader", "TrustedProxies", "begins_proxied", "parse_proxy_header"]

_V2_SIGNATURE = b"\r\n\r\n\0\r\nQUIT\n"
_V1_LIMIT = 107


class BadProxyHeader(ValueError):
    """The connection does not begin with a PROXY header."""


class TrustedProxies:
    """The networks of the load balancers that are believed when they say who the client is."""

    def __init__(self, networks: Iterable[str]) -> None:
        """Each is an address or a network, as "192.0.2.7" or "2001:db8::/32". Raises `ValueError`."""
        self._networks = [ipaddress.ip_network(network) for network in networks]

    def __contains__(self, peer: str) -> bool:
        """Whether a peer, an address with or without a port, is one of them."""
        if not self._networks:
            return False
        try:
            address = ipaddress.ip_address(_host(peer))
        except ValueError:
            return False
        return any(address in network for network in self._networks)

    def client_of(self, peer: str, forwarded: str) -> str:
        """Who the client is, where a request comes from `peer` with this X-Forwarded-For.

        Each proxy appends whom it heard; so the last one that none of ours appended is the client, and what stands before
        that the client may have made up. Of a peer that is not trusted the header means nothing.
        """
        for said in reversed(forwarded.split(",")):
            if peer not in self:
                break
            try:
                ipaddress.ip_address(_host(said.strip()))
            except ValueError:
                break
            peer = said.strip()
        return peer


def _host(peer: str) -> str:
    if peer.startswith("["):
        return peer[1:].partition("]")[0]
    return peer.partition(":")[0] if peer.count(":") == 1 else peer


def begins_proxied(data: bytes) -> bool:
    """Whether bytes begin with a PROXY header, to judge by the part that no client sends by chance."""
    return data.startswith((b"PROXY ", _V2_SIGNATURE))


def parse_proxy_header(data: bytes) -> tuple[str | None, int] | None:
    """Read the header that a connection begins with.

    Returns the client's address (None where the balancer speaks for itself) and the header's length; None while it is
    incomplete. Raises `BadProxyHeader`.
    """
    if data.startswith(_V2_SIGNATURE):
        return _version_2(data)
    if _V2_SIGNATURE.startswith(data):
        return None
    if data.startswith(b"PROXY "):
        return _version_1(data)
    if b"PROXY ".startswith(data):
        return None
    raise BadProxyHeader("no PROXY header, which an address that is in proxy_from has to send")


def _version_1(data: bytes) -> tuple[str | None, int] | None:
    line, end, _ = data[:_V1_LIMIT].partition(b"\r\n")
    if not end:
        if len(data) >= _V1_LIMIT:
            raise BadProxyHeader("the PROXY header does not end")
        return None
    fields = line.decode("ascii", "replace").split(" ")
    size = len(line) + 2
    if fields[1:2] == ["UNKNOWN"]:
        return None, size
    try:
        _, family, source, _, port, _ = fields
        address = ipaddress.ip_address(source)
    except ValueError:
        raise BadProxyHeader("the PROXY header is malformed") from None
    # An IPv6 zone ("%eth0") may hold any text, which the specification does not allow here.
    if family != f"TCP{address.version}" or "%" in source or not port.isdecimal() or int(port) > 65535:
        raise BadProxyHeader("the PROXY header is malformed")
    host = str(address) if address.version == 4 else f"[{address}]"
    return f"{host}:{int(port)}", size


def _version_2(data: bytes) -> tuple[str | None, int] | None:
    if len(data) < 16:
        return None
    command, family, length = data[12], data[13], int.from_bytes(data[14:16], "big")
    size = 16 + length
    if command not in {0x20, 0x21}:
        raise BadProxyHeader("the PROXY header has an unknown version or command")
    if len(data) < size:
        return None
    if command == 0x20:
        return None, size
    if family == 0x11 and length >= 12:
        source, _, port, _ = struct.unpack("!4s4sHH", data[16:28])
        return f"{ipaddress.IPv4Address(source)}:{port}", size
    if family == 0x21 and length >= 36:
        source, _, port, _ = struct.unpack("!16s16sHH", data[16:52])
        return f"[{ipaddress.IPv6Address(source)}]:{port}", size
    return None, size
