"""What lies between an accepted connection and its first byte of chat: a load balancer's PROXY header, and TLS.

Whoever is in there has not said a word yet, so he is held to a time and to a number: where there is no room it is the
one who is in there longest that has to go. Clients take a moment, and only those that want to be in the way take long.
"""

from __future__ import annotations

import contextlib
import socket
from collections import Counter
from collections.abc import Callable

import attrs
import structlog
import trio

from trio_chat.transport.certificate import Certificate
from trio_chat.transport.contract import Transport, TransportBroken
from trio_chat.transport.poller import Poller
from trio_chat.transport.proxy import BadProxyHeader, TrustedProxies, begins_proxied, parse_proxy_header
from trio_chat.transport.tcp import TcpTransport, Turn, accept_loop
from trio_chat.transport.tls import TlsTransport

__all__ = ["Entrance", "NotEntered", "accept_clients"]

log = structlog.get_logger(__name__)


class NotEntered(Exception):
    """A connection ended at the entrance. `reason` is one of `proxy`, `tls`, `slow`, `crowded`.

    `plain_http`: the client spoke HTTP where TLS was wanted, and would understand to be told so.
    """

    def __init__(self, reason: str, text: str) -> None:
        self.reason = reason
        self.plain_http = reason == "tls" and text == "http request"
        super().__init__(text)


@attrs.define(eq=False, kw_only=True)
class Entrance:
    """What every connection has to come through.

    `trusted` proxies say who the client is. With a `certificate` everything is TLS. All that may take at most `patience`
    seconds, for at most `room` connections at a time. `failed` counts those that did not come through, by the reason.
    """

    trusted: TrustedProxies = attrs.field(factory=lambda: TrustedProxies(()))
    certificate: Certificate | None = None
    patience: float = 10.0
    room: int = 1000
    failed: Counter[str] = attrs.field(factory=Counter)
    _inside: dict[trio.CancelScope, None] = attrs.field(init=False, factory=dict)

    def stands_open(self, transport: TcpTransport) -> bool:
        """Whether a connection may pass at once."""
        return self.certificate is None and transport.peer not in self.trusted

    async def enter(self, transport: TcpTransport, *, header: bool) -> Transport:
        """Bring a connection in and return what to talk to it by; its peer is the client from then on.

        `header`: a trusted proxy has to say who the client is. Raises `NotEntered`; the transport is the caller's to
        close.
        """
        if self.stands_open(transport):
            return transport
        if len(self._inside) >= self.room:
            next(iter(self._inside)).cancel()
        with trio.move_on_after(self.patience) as scope:
            self._inside[scope] = None
            try:
                return await self._enter(transport, header=header)
            except BadProxyHeader as error:
                self.failed["proxy"] += 1
                log.warning("connection refused", peer=transport.peer, reason=str(error))
                raise NotEntered("proxy", str(error)) from None
            except TransportBroken as error:
                self.failed["tls"] += 1
                log.debug("no TLS connection", peer=transport.peer, reason=str(error))
                raise NotEntered("tls", str(error)) from None
            finally:
                del self._inside[scope]
        reason = "slow" if trio.current_time() >= scope.deadline else "crowded"
        self.failed[reason] += 1
        raise NotEntered(reason, "the client took too long")

    async def _enter(self, transport: TcpTransport, *, header: bool) -> Transport:
        if transport.peer in self.trusted and (header or begins_proxied(await transport.peek())):
            transport.peer = await _read_header(transport) or transport.peer
        if self.certificate is None:
            return transport
        encrypted = TlsTransport(transport, self.certificate.context)
        await encrypted.handshake()
        return encrypted


async def _read_header(transport: TcpTransport) -> str | None:
    """Read a PROXY header and nothing behind it; returns the client's address, None where the proxy speaks for itself.

    Raises `BadProxyHeader` and `TransportBroken`. Cancelling leaves a part of it read.
    """
    data = b""
    while True:
        more = await transport.peek()
        if not more:
            raise TransportBroken("the client left")
        try:
            header = parse_proxy_header(data + more)
        except BadProxyHeader:
            transport.skip(len(more))  # bytes that nobody has read would make a reset of the end
            raise
        if header is not None:
            peer, size = header
            transport.skip(size - len(data))
            return peer
        data += more
        transport.skip(len(more))


async def accept_clients(
    listener: socket.socket,
    poller: Poller,
    entrance: Entrance,
    handle: Callable[[Transport], None],
    turn: Turn | None = None,
) -> None:
    """Accept connections until cancelled, bring them in, and give each to `handle`, which must not block."""

    async def bring_in(transport: TcpTransport) -> None:
        entered = None
        try:
            with contextlib.suppress(NotEntered):
                entered = await entrance.enter(transport, header=True)
        finally:
            if entered is None:
                transport.close()
        if entered is not None:
            handle(entered)

    def accept(transport: TcpTransport) -> None:
        if entrance.stands_open(transport):
            handle(transport)
        else:
            nursery.start_soon(bring_in, transport)

    async with trio.open_nursery() as nursery:
        await accept_loop(listener, poller, accept, turn=turn)
