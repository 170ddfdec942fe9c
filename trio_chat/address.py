"""A host and a port, and how people write them: pure."""

from __future__ import annotations

import functools
import ipaddress
from typing import NamedTuple

__all__ = ["Address", "network_of"]


class Address(NamedTuple):
    """A host and a port to listen on or to connect to; port 0 lets the system choose."""

    host: str
    port: int

    @classmethod
    def parse(cls, text: str) -> Address:
        """Read `HOST:PORT` (an IPv6 host in brackets). Raises `ValueError`."""
        host, colon, port = text.rpartition(":")
        if host.startswith("[") and host.endswith("]"):
            host = host[1:-1]
        number = int(port) if port.isascii() and port.isdecimal() and len(port) <= 5 else -1
        if not colon or not host or any(c in "/@[] " for c in host) or not 0 <= number <= 65535:
            raise ValueError("an address is HOST:PORT")
        return cls(host, number)

    def __str__(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def network_of(peer: str) -> str:
    """What counts as one address: an IPv4 address, or the /64 that every IPv6 host has for itself.

    `peer` is an address with or without a port. Anything else stands for itself.
    """
    if peer.startswith("["):
        return _network_of_host(peer[1:].partition("]")[0])
    return _network_of_host(peer.partition(":")[0] if peer.count(":") == 1 else peer)


@functools.lru_cache(1000)
def _network_of_host(host: str) -> str:
    # Remembered: very many may come from one address, and then have this text in common.
    try:
        address = ipaddress.ip_address(host.partition("%")[0])
    except ValueError:
        return host
    if isinstance(address, ipaddress.IPv4Address):
        return str(address)
    if address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(ipaddress.ip_network((int(address) >> 64 << 64, 64)))
