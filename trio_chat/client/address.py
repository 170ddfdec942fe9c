"""Where a server is: `HOST:PORT`, `tcp://HOST:PORT` or `tls://HOST:PORT`."""

from __future__ import annotations

from urllib.parse import urlsplit

import attrs

__all__ = ["DEFAULT_SERVER", "Address", "parse_address"]

#: Where a server listens that was started without any settings.
DEFAULT_SERVER = "127.0.0.1:6000"


@attrs.frozen
class Address:
    """A server's address; `tls` says whether the connection is encrypted."""

    host: str
    port: int
    tls: bool = False

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'tls://' if self.tls else ''}{host}:{self.port}"


def parse_address(text: str) -> Address:
    """Read an address; an IPv6 host stands in brackets. Raises `ValueError`, whose text says what is wrong."""
    parts = urlsplit(text if "://" in text else f"tcp://{text}")
    if parts.scheme not in ("tcp", "tls"):
        raise ValueError(f"{text!r}: an address begins with tcp:// or tls://, not {parts.scheme}://")
    try:
        host, port = parts.hostname, parts.port
    except ValueError:
        host, port = None, None
    if not host or not port or parts.path or parts.query or parts.username is not None:
        raise ValueError(f"{text!r} is not an address; an address looks like {DEFAULT_SERVER}")
    return Address(host, port, tls=parts.scheme == "tls")
