"""TCP: listeners, and connections as plain non-blocking sockets.

The standard library's socket is used directly, with Trio only waiting for it: a delivery is then one system call on the
router's own task, and no task has to be woken for it.
"""

from __future__ import annotations

import contextlib
import errno
import socket
import sys
from collections.abc import Awaitable, Callable

import structlog
import trio

from trio_chat.config import Address
from trio_chat.errors import StartupError
from trio_chat.transport.contract import End, Reader, TransportBroken
from trio_chat.transport.poller import Poller
from trio_chat.transport.reading import receive_from

__all__ = ["TcpTransport", "Turn", "accept_loop", "listen"]

log = structlog.get_logger(__name__)

_CHUNK = 65536
_BACKLOG = 1024
#: Connections that are accepted in one go, at most.
_AT_ONCE = 64
_OUT_OF_RESOURCES = {errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.ENOBUFS}
#: TCP keepalive for clients that send no heartbeats: idle, interval (seconds) and probes until a peer is dead.
_KEEPALIVE = (60, 15, 4)

#: Linux gives a connection the options of its listener; elsewhere each is given them.
_HANDED_DOWN = sys.platform == "linux"

#: For listeners that several processes share: waits for this one's turn, and returns how many connections it may accept.
Turn = Callable[[], Awaitable[int]]


class TcpTransport:
    """One accepted connection."""

    kind = "tcp"
    committed = 0

    __slots__ = ("_poller", "_reader", "_socket", "peer")

    def __init__(self, sock: socket.socket, peer: str, poller: Poller) -> None:
        self._socket = sock
        self._poller = poller
        self._reader: Reader | None = None
        self.peer = peer
        sock.setblocking(False)

    def attend(self, reader: Reader) -> None:
        self._reader = reader
        self._poller.attend(self._socket, self)

    def ignore(self) -> None:
        self._reader = None

    async def receive(self) -> bytes:
        return await receive_from(self)

    def readable(self) -> bool:
        """The poller calls: read, and give it to the reader, if there is one."""
        reader = self._reader
        if reader is None:
            return False
        try:
            data = self._socket.recv(_CHUNK)
        except BlockingIOError:
            return True
        except OSError as error:
            broken = TransportBroken(str(error))
            broken.__cause__ = error
            self._reader = None
            reader.ended(broken)
            return True
        if not data:
            self._reader = None
            reader.ended(None)
        elif not reader.received(data):
            self._reader = None
        return True

    async def peek(self) -> bytes:
        """As `receive`, but what it returns comes again unless it is skipped."""
        while True:
            try:
                await trio.lowlevel.wait_readable(self._socket)
                return self._socket.recv(_CHUNK, socket.MSG_PEEK)
            except BlockingIOError:
                continue
            except (OSError, trio.ClosedResourceError) as error:
                raise TransportBroken(str(error)) from error

    def skip(self, size: int) -> None:
        """Take away bytes that `peek` has shown. Raises `TransportBroken`."""
        try:
            self._socket.recv(size)
        except OSError as error:
            raise TransportBroken(str(error)) from error

    def send_nowait(self, data: bytes) -> int:
        try:
            return self._socket.send(data)
        except BlockingIOError:
            return 0
        except OSError as error:
            raise TransportBroken(str(error)) from error

    async def wait_writable(self) -> None:
        try:
            await trio.lowlevel.wait_writable(self._socket)
        except (OSError, trio.ClosedResourceError) as error:
            raise TransportBroken(str(error)) from error

    def end(self, reason: End) -> bool:
        """Ends this half; what is behind the end of the stream nobody can be told."""
        with contextlib.suppress(OSError):
            self._socket.shutdown(socket.SHUT_WR)
        return reason in {End.TOO_LONG, End.FULL, End.REVOKED}

    def close(self) -> None:
        # The reader knows this transport: the two would wait for the garbage collection.
        self._reader = None
        if self._socket.fileno() >= 0:
            self._poller.forget(self._socket)
            trio.lowlevel.notify_closing(self._socket)
            self._socket.close()


def _set_options(sock: socket.socket) -> None:
    """What a connection's socket is to be like."""
    # Frames are collected before they are sent; the kernel must not hold them back as well.
    options = [(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1), (socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)]
    idle, interval, probes = _KEEPALIVE
    for name, value in (
        ("TCP_KEEPIDLE", idle),
        ("TCP_KEEPALIVE", idle),  # macOS's name for it
        ("TCP_KEEPINTVL", interval),
        ("TCP_KEEPCNT", probes),
    ):
        if (option := getattr(socket, name, None)) is not None:
            options.append((socket.IPPROTO_TCP, option, value))
    for each in options:
        # macOS refuses options of a connection that its peer has broken off already; reading will tell of that.
        with contextlib.suppress(OSError):
            sock.setsockopt(*each)


def listen(address: Address, flag: str = "--tcp") -> list[socket.socket]:
    """Listen on every address that the host has. Raises `StartupError` where that is not possible.

    `flag` is the setting with which another address can be chosen.
    """
    listeners: list[socket.socket] = []
    try:
        found = socket.getaddrinfo(
            address.host, address.port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE | socket.AI_ADDRCONFIG
        )
        for family, kind, protocol, _, where in dict.fromkeys(found):
            sock = socket.socket(family, kind, protocol)
            listeners.append(sock)
            sock.setblocking(False)
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            if family == socket.AF_INET6:
                sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
            if _HANDED_DOWN:
                _set_options(sock)
            sock.bind(where)
            sock.listen(_BACKLOG)
    except OSError as error:
        for sock in listeners:
            sock.close()
        hint = (
            f"; is another server running there? choose another with {flag}" if error.errno == errno.EADDRINUSE else ""
        )
        raise StartupError(f"cannot listen on {address}: {error.strerror or error}{hint}") from None
    return listeners


async def accept_loop(
    listener: socket.socket, poller: Poller, handle: Callable[[TcpTransport], None], turn: Turn | None = None
) -> None:
    """Accept connections until cancelled and give each to `handle`, which must not block; then close the listener.

    Where the process is out of descriptors it waits a little instead of spinning (as Trio's serve_listeners does).
    """
    with listener:
        while True:
            await trio.lowlevel.wait_readable(listener)
            for _ in range(_AT_ONCE if turn is None else await turn()):
                try:
                    sock, where = listener.accept()
                except BlockingIOError:
                    break
                except OSError as error:
                    if error.errno in _OUT_OF_RESOURCES:
                        log.error("cannot accept connections", reason=error.strerror, retry_seconds=0.1)
                        await trio.sleep(0.1)
                    break
                # macOS has no address for a connection that its peer has broken off already.
                peer = str(Address(*where[:2])) if where else "unknown"
                if not _HANDED_DOWN:
                    _set_options(sock)
                handle(TcpTransport(sock, peer, poller))
