"""HTTP: requests, one after the other, answered from a table of pages, until one turns the connection into a WebSocket.

There is no more of HTTP than browsers, load balancers and Prometheus need here: GET and HEAD, no bodies. A request ends with
its head, so each gets a sans-IO protocol of the library's own, which reads it. What a connection may hold back (time,
memory, tasks) is bounded here.
"""

from __future__ import annotations

import contextlib
import email.utils
import http
import socket
from collections.abc import Awaitable, Callable, Mapping, Sequence
from urllib.parse import urlsplit

import attrs
import structlog
import trio
from websockets.datastructures import Headers, MultipleValuesError
from websockets.exceptions import HeaderLineTooLong, InvalidUpgrade, RequestLineTooLong, TooManyHeaders
from websockets.extensions.permessage_deflate import ServerPerMessageDeflateFactory
from websockets.http11 import Request
from websockets.server import ServerProtocol

from trio_chat.transport.contract import End, Transport, TransportBroken
from trio_chat.transport.entrance import Entrance, NotEntered
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import TcpTransport, Turn, accept_loop
from trio_chat.transport.websocket import WebSocketTransport

__all__ = ["Page", "Reply", "Site", "serve_http"]

log = structlog.get_logger(__name__)

#: How long a request may take to arrive (and a connection be kept without one), and its answer to be taken, in seconds.
_REQUEST = 10.0
_ANSWER = 60.0
#: How long bytes that nobody expects are read, so that closing does not destroy the answer.
_DISCARD = 1.0
#: The head of a request, in bytes: every line within the library's 8 KiB, and all of them within this.
_HEAD = 32768
#: Connections that are no WebSockets; those beyond it are closed as they come. Where half of them are taken, each is closed
#: after its answer: then the places are for who has a request.
_PENDING = 1000
#: Requests that one connection may bring: the page has some 70 files.
_REQUESTS = 100
_RETRY_SECONDS = 5
_WANTS_TLS = "this server speaks TLS here: the address begins with https://"

#: On every answer: this site needs nothing but itself, and nobody else needs to embed it.
_HEADERS = {
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; "
    "connect-src 'self'; manifest-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}

#: The window of permessage-deflate, 4 KiB. No context is kept between messages, so an idle connection holds no memory.
_DEFLATE = ServerPerMessageDeflateFactory(
    server_no_context_takeover=True,
    client_no_context_takeover=True,
    server_max_window_bits=12,
    client_max_window_bits=12,
    compress_settings={"memLevel": 5},
)


@attrs.frozen
class Reply:
    """The answer to a request."""

    status: int
    body: bytes = b""
    content_type: str = "text/plain; charset=utf-8"
    headers: Mapping[str, str] = attrs.field(factory=dict)

    @classmethod
    def text(cls, status: int, text: str, **headers: str) -> Reply:
        """A line for people; `Retry_After` is the header `Retry-After`."""
        return cls(status, f"{text}\n".encode(), headers={name.replace("_", "-"): v for name, v in headers.items()})


#: Answers GET; HEAD gets the same without the body. Gets the request's headers.
Page = Callable[[Headers], Awaitable[Reply]]


@attrs.frozen(kw_only=True)
class Site:
    """What is to be had: `pages` by their paths, and at `websocket` the chat itself.

    `origins` are those of other sites' pages that may connect. While `closed` nobody can begin to chat. A frame is at
    most `frame` bytes; `compression` allows permessage-deflate.
    """

    pages: Mapping[str, Page]
    websocket: str
    origins: Sequence[str]
    closed: Callable[[], bool]
    frame: int
    compression: bool


class _Refused(Exception):
    """The request is answered with `reply` and nothing else happens."""

    def __init__(self, reply: Reply) -> None:
        self.reply = reply
        super().__init__(reply.status)


async def serve_http(
    listeners: Sequence[socket.socket],
    poller: Poller,
    entrance: Entrance,
    site: Site,
    handle: Callable[[Transport], None],
    turn: Turn | None = None,
) -> None:
    """Answer requests until cancelled, and give each connection that became a WebSocket to `handle`.

    Of a trusted proxy's header X-Forwarded-For it is believed who the client is.
    """
    pending = 0

    def keep() -> bool:
        return pending <= _PENDING // 2 and not site.closed()

    async def serve(transport: TcpTransport) -> None:
        nonlocal pending
        try:
            await _serve_one(transport, entrance, site, keep, handle)
        finally:
            pending -= 1

    def accept(transport: TcpTransport) -> None:
        nonlocal pending
        if pending >= _PENDING:
            transport.close()
            return
        pending += 1
        nursery.start_soon(serve, transport)

    async with trio.open_nursery() as nursery:
        for listener in listeners:
            nursery.start_soon(accept_loop, listener, poller, accept, turn)


async def _serve_one(
    accepted: TcpTransport,
    entrance: Entrance,
    site: Site,
    keep: Callable[[], bool],
    handle: Callable[[Transport], None],
) -> None:
    """Answer a connection's requests, for as long as `keep` allows. Never raises but `Cancelled`."""
    handed_over = False
    transport: Transport = accepted
    rest = b""
    try:
        transport = await entrance.enter(accepted, header=False)
        balancer = accepted.peer
        for number in range(1, _REQUESTS + 1):
            data = await _read_head(transport, rest)
            if data is None:
                return
            if isinstance(data, Reply):
                await _answer(transport, data, body=True, last=True)
                return
            method, head, rest = data[: data.find(b" ")], *_parted(data)
            protocol = ServerProtocol(
                origins=None, max_size=site.frame, extensions=[_DEFLATE] if site.compression else None
            )
            last = number == _REQUESTS
            try:
                request = _parse(protocol, head, method)
                forwarded = ",".join(request.headers.get_all("X-Forwarded-For"))
                accepted.peer = entrance.trusted.client_of(balancer, forwarded)
                reply = await _route(request, site, protocol)
                last = last or _wants_end(head, request.headers) or not keep()
            except _Refused as refused:
                # Nobody knows where the next request would begin.
                reply, last = refused.reply, True
            if reply is not None:
                await _answer(transport, reply, body=method != b"HEAD", last=last)
                if last:
                    return
                continue
            with trio.move_on_after(_ANSWER) as patience:
                await _send_all(transport, b"".join(protocol.data_to_send()))
            if patience.cancelled_caught:
                return
            if rest:
                protocol.receive_data(rest)
            handed_over = True
            handle(WebSocketTransport(transport, protocol))
            return
    except NotEntered as refused:
        if refused.plain_http:
            with contextlib.suppress(TransportBroken):
                await _answer(accepted, Reply.text(400, _WANTS_TLS), body=True, last=True)
    except TransportBroken:
        pass
    except Exception:
        log.exception("request failed", peer=transport.peer)
    finally:
        if not handed_over:
            transport.close()


async def _read_head(transport: Transport, data: bytes) -> bytes | Reply | None:
    """The bytes up to the end of the head, at least; None where the client has gone, or what to answer instead.

    `data` is what came behind the request before.
    """
    if b"\r\n\r\n" in data:
        await trio.lowlevel.checkpoint()
        return data
    with trio.move_on_after(_REQUEST):
        while True:
            more = await transport.receive()
            if not more:
                return None
            searched = max(0, len(data) - 3)
            data += more
            if data.find(b"\r\n\r\n", searched) >= 0:
                return data
            if len(data) > _HEAD:
                return Reply.text(431, "the request's head is too large")
    return Reply.text(408, "the request did not come within 10 seconds") if data else None


def _parted(data: bytes) -> tuple[bytes, bytes]:
    end = data.find(b"\r\n\r\n") + 4
    return data[:end], data[end:]


def _parse(protocol: ServerProtocol, head: bytes, method: bytes) -> Request:
    """The request in a whole head. Raises `_Refused`."""
    protocol.receive_data(head)
    events = protocol.events_received()
    if events and isinstance(events[0], Request):
        return events[0]
    if isinstance(protocol.handshake_exc, RequestLineTooLong):
        raise _Refused(Reply.text(414, "the address is too long"))
    if isinstance(protocol.handshake_exc, HeaderLineTooLong | TooManyHeaders):
        raise _Refused(Reply.text(431, "the request's head is too large"))
    if method.isalpha() and method not in {b"GET", b"HEAD"}:
        raise _Refused(_method_not_allowed())
    raise _Refused(Reply.text(400, "this is not a request of HTTP/1.1 without a body"))


def _method_not_allowed() -> Reply:
    return Reply.text(405, "only GET and HEAD are allowed here", Allow="GET, HEAD")


async def _route(request: Request, site: Site, protocol: ServerProtocol) -> Reply | None:
    """The answer, or None where the protocol has accepted a WebSocket. Raises `_Refused`."""
    path, _, _ = request.path.partition("?")
    if request.method not in {"GET", "HEAD"}:
        return _method_not_allowed()
    if path != site.websocket:
        page = site.pages.get(path)
        return Reply.text(404, "there is nothing here") if page is None else await page(request.headers)
    _check_origin(request.headers, site.origins)
    response = protocol.accept(request)
    if response.status_code != 101:
        # The library's words, with our headers. A page cannot be had here: this is said by 426 and its header Upgrade.
        upgrade = {"Upgrade": "websocket"} if isinstance(protocol.handshake_exc, InvalidUpgrade) else {}
        return Reply(response.status_code, bytes(response.body), headers=upgrade)
    if site.closed():
        return Reply.text(503, "this server is shutting down", Retry_After=str(_RETRY_SECONDS))
    protocol.send_response(response)
    return None


def _check_origin(headers: Headers, origins: Sequence[str]) -> None:
    """A browser says which site's page wants to connect: it has to be this one. Raises `_Refused`.

    The page has no cookies to be abused; but without this any page could log in with a password that it guesses, from
    within a network that it cannot reach by itself.
    """
    try:
        origin, host = headers.get("Origin"), headers.get("Host")
    except MultipleValuesError:
        raise _Refused(Reply.text(400, "Origin and Host stand once")) from None
    if origin is None or origin in origins:
        return
    if not host or urlsplit(origin).netloc.lower() != host.lower():
        raise _Refused(Reply.text(403, "this page may not connect here; the setting origins allows more"))


def _wants_end(head: bytes, headers: Headers) -> bool:
    """Whether the client wants no further answer on this connection, or speaks HTTP/1.0, where that is the rule."""
    if head[: head.find(b"\r\n")].endswith(b" HTTP/1.0"):
        return True
    said = ",".join(headers.get_all("Connection")).lower().split(",")
    return "close" in (word.strip() for word in said)


async def _answer(transport: Transport, reply: Reply, *, body: bool, last: bool) -> None:
    """Send the answer, and after the `last` one the end. Raises `TransportBroken`, also where it is not taken in time."""
    headers = {
        "Date": email.utils.formatdate(usegmt=True),
        "Connection": "close" if last else "keep-alive",
        "Content-Length": str(len(reply.body)),
        "Content-Type": reply.content_type,
        **_HEADERS,
        **reply.headers,
    }
    if reply.status == 304:
        del headers["Content-Length"], headers["Content-Type"]
    lines = [f"HTTP/1.1 {reply.status} {http.HTTPStatus(reply.status).phrase}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    data = "\r\n".join([*lines, "", ""]).encode("iso-8859-1")
    with trio.move_on_after(_ANSWER) as patience:
        await _send_all(transport, data + reply.body if body else data)
    if patience.cancelled_caught:
        raise TransportBroken("the client does not take the answer")
    if last:
        transport.end(End.DONE)
        with trio.move_on_after(_DISCARD):
            while await transport.receive():
                pass


async def _send_all(transport: Transport, data: bytes) -> None:
    while data:
        data = data[transport.send_nowait(data) :]
        if data:
            await transport.wait_writable()
