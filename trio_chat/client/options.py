"""What can be set on a client: where the server is, limits and times."""

from __future__ import annotations

import attrs

from trio_chat.address import Address

__all__ = ["DEFAULT_SERVER", "Endpoint", "Options"]

#: Where a server listens that was started without any settings.
DEFAULT_SERVER = "127.0.0.1:6000"


@attrs.frozen
class Endpoint:
    """Where a server is; `tls` says whether the connection is encrypted."""

    address: Address
    tls: bool = False

    @classmethod
    def parse(cls, text: str) -> Endpoint:
        """Read `HOST:PORT`, `tcp://HOST:PORT` or `tls://HOST:PORT`; an IPv6 host stands in brackets.

        Raises `ValueError`, whose text says what is wrong.
        """
        scheme, separator, rest = text.partition("://")
        if separator and scheme not in ("tcp", "tls"):
            raise ValueError(f"{text!r}: an address begins with tcp:// or tls://, not {scheme}://")
        try:
            address = Address.parse(rest if separator else text)
        except ValueError:
            address = Address("", 0)
        if not address.port:
            raise ValueError(f"{text!r} is not an address; an address looks like {DEFAULT_SERVER}")
        return cls(address, tls=scheme == "tls" and bool(separator))

    def __str__(self) -> str:
        return f"{'tls://' if self.tls else ''}{self.address}"


@attrs.frozen(kw_only=True)
class Options:
    """Limits and times of one client. Times are in seconds.

    `inbox_limit`: messages kept for the application. Where it is full, further messages are not kept in memory: they
    stay on the server and are fetched, in order, once the application has taken half of them. Nothing is lost, and
    requests go on being answered.
    `event_limit`: events kept for the application. A newer event on the same subject replaces the older one; where
    the limit is reached the oldest is dropped.
    `send_limit`: messages that wait for their acknowledgement; further `send` calls wait for their turn.
    `request_limit`: the same for all other requests.
    `receipt_delay`: how long receipts are collected before they are sent.
    `connect_timeout`: for opening a connection, and for the server's greeting.
    `reconnect_first`, `reconnect_limit`: the back-off between attempts to connect; it starts anew after a connection
    that lasted `steady_after`, so that a server which drops its clients at once is not hammered.
    `retry_first`, `retry_limit`: the back-off between attempts of a message that the server could not store.
    `frame_limit`: the longest frame, in bytes, that is accepted from the server.
    `output_limit`: bytes waiting to be sent at which nothing more is read from the server.
    `receipts`: whether `events` tells what others have received in conversations of two (`ReceivedBy`).
    `farewell`: how long leaving the block may take for sending the last receipts.
    """

    inbox_limit: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    event_limit: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    send_limit: int = attrs.field(default=1000, validator=attrs.validators.ge(1))
    request_limit: int = attrs.field(default=100, validator=attrs.validators.ge(1))
    receipt_delay: float = 0.2
    connect_timeout: float = 10.0
    reconnect_first: float = 0.5
    reconnect_limit: float = 30.0
    steady_after: float = 5.0
    retry_first: float = 0.2
    retry_limit: float = 10.0
    frame_limit: int = 16 * 1024 * 1024
    output_limit: int = 1024 * 1024
    receipts: bool = False
    farewell: float = 1.0
