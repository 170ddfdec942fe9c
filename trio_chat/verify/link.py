"""One connection in the modern dialect, as plain as can be: each frame goes into the history as it is sent or comes."""

from __future__ import annotations

import itertools
import ssl
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import msgspec
import trio

from trio_chat.config import Address
from trio_chat.verify.history import Delivered, Left, LoggedIn, Noticed, Received
from trio_chat.verify.recorder import Recorder
from trio_chat.wire.conversation import group_conv
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import Kind, encode

__all__ = ["Encrypted", "Frame", "Link", "LinkBroken", "open_link", "parse_address"]

Frame = dict[str, Any]

#: How long connecting may take, in seconds.
_CONNECT = 3.0
#: No frame to a client is near this size.
_FRAME = 16 * 1024 * 1024
_DECODER = msgspec.json.Decoder(Frame)


class LinkBroken(Exception):
    """The connection is over; the text says why."""


class Encrypted(Address):
    """An address where TLS is spoken; the server's certificate has to be one that the system trusts."""

    __slots__ = ()

    def __str__(self) -> str:
        return f"tls://{super().__str__()}"


def parse_address(text: str) -> Address:
    """Read `HOST:PORT` or `tls://HOST:PORT`. Raises `ValueError`."""
    if text.startswith("tls://"):
        return Encrypted(*Address.parse(text.removeprefix("tls://")))
    return Address.parse(text)


class Link:
    """Made by `open_link`. `read` and `write` are run by its owner's nursery, and raise `LinkBroken` at its end.

    A blackholed link sends and gets nothing more, and neither side is told: as if a cable had been pulled.
    """

    def __init__(self, stream: trio.abc.Stream, tcp: trio.SocketStream, recorder: Recorder, client: str) -> None:
        self.number = recorder.opened(client)
        self.user = 0
        self.heard = trio.current_time()
        self.blackholed = False
        self._stream = stream
        self._tcp = tcp  # below it, or it itself
        self._recorder = recorder
        self._refs = itertools.count(1)
        self._splitter = FrameSplitter(_FRAME)
        self._calls: dict[int, tuple[trio.Event, list[Frame]]] = {}
        self._unsent = bytearray()
        self._wake = trio.Event()
        self._dropped = trio.Event()

    # -- sending ------------------------------------------------------------------------------------------------------

    def request(self, kind: Kind, conv: str = "", /, **fields: Any) -> int:
        """Send a request; its ref. Never blocks."""
        ref = next(self._refs)
        if "groupid" in fields:
            conv = group_conv(fields["groupid"])
        about = fields.get("userid", 0)
        self._recorder.requested(self.number, ref, kind.name, conv, fields.get("key"), fields.get("msg", ""), about)
        self._send({"msgid": int(kind), "ref": ref, **fields})
        return ref

    async def call(self, kind: Kind, **fields: Any) -> Frame:
        """A request and its answer. Cancelling is safe."""
        ref = self.request(kind, **fields)
        event, answer = self._calls[ref] = (trio.Event(), [])
        await event.wait()
        return answer[0]

    def received(self, conv: str, seq: int) -> None:
        self._recorder.add(Received(self._recorder.now(), self.number, conv, seq))
        self._send({"msgid": int(Kind.RECEIVED), "conv": conv, "seq": seq})

    def _send(self, frame: Frame) -> None:
        if not self.blackholed:
            self._unsent += encode(frame) + b"\n"
            self._wake.set()

    async def write(self) -> None:
        """Send what was queued, until cancelled. Raises `LinkBroken`."""
        while True:
            await self._wake.wait()
            self._wake = trio.Event()
            data, self._unsent = self._unsent, bytearray()
            try:
                await self._stream.send_all(data)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise LinkBroken("reset") from None

    # -- receiving ----------------------------------------------------------------------------------------------------

    async def read(self, take: Callable[[Frame], object]) -> None:
        """Record each frame, and hand it on to `take`; until cancelled. Raises `LinkBroken`."""
        while True:
            try:
                data = await self._stream.receive_some(65536)
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                raise LinkBroken("reset") from None
            if self.blackholed:
                await self._dropped.wait()
                raise LinkBroken("reset after a silence")
            if not data:
                raise LinkBroken("closed by the server")
            self.heard = trio.current_time()
            for raw in self._splitter.feed(bytes(data)):
                try:
                    frame = _DECODER.decode(raw)
                except msgspec.MsgspecError:
                    raise LinkBroken(f"sent what is no frame: {raw[:80]!r}") from None
                self._record(frame)
                take(frame)

    def _record(self, frame: Frame) -> None:
        kind, recorder = frame["msgid"], self._recorder
        if kind in (Kind.DIRECT, Kind.GROUP):
            recorder.delivery(delivered(frame, recorder.now(), self.number))
        elif "ref" in frame:
            ref: int = frame["ref"]
            error = frame.get("error", "")
            conv = group_conv(frame["groupid"]) if "groupid" in frame else frame.get("conv", "")
            recorder.answered(self.number, ref, error, conv, frame.get("seq", 0), frame.get("ts", 0))
            if kind == Kind.LOGIN_ACK and not error:
                self._logged_in(frame)
            elif "friend" in frame:
                recorder.add(Noticed(recorder.now(), self.number, frame["friend"]["id"], frame["friend"]["state"]))
            if (call := self._calls.pop(ref, None)) is not None:
                call[1].append(frame)
                call[0].set()
        elif kind == Kind.PRESENCE:
            recorder.add(Noticed(recorder.now(), self.number, frame["id"], frame["state"]))
        elif kind == Kind.LEAVE_GROUP:
            recorder.add(Left(recorder.now(), self.number, group_conv(frame["groupid"])))
        elif kind == Kind.PING:
            self._send({"msgid": int(Kind.PONG)})

    def _logged_in(self, frame: Frame) -> None:
        now = self._recorder.now()
        self.user = frame["id"]
        groups = [group_conv(group["id"]) for group in frame["groups"]]
        self._recorder.add(LoggedIn(now, self.number, self.user, groups))
        for friend in frame["friends"]:
            self._recorder.add(Noticed(now, self.number, friend["id"], friend["state"]))

    # -- ending -------------------------------------------------------------------------------------------------------

    def close(self, why: str) -> None:
        """The client has done with it. The socket of a blackholed link stays open: see `drop`."""
        self._recorder.closed(self.number, why)
        if not self.blackholed:
            self._tcp.socket.close()

    def reset(self) -> None:
        """Break off: the server gets a reset, and the next `read` or `write` fails."""
        self._tcp.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self._tcp.socket.close()

    def drop(self) -> None:
        """The end of a blackhole: what is left of the connection is reset."""
        self._dropped.set()
        if self._tcp.socket.fileno() >= 0:
            self.reset()


def delivered(frame: Frame, at: float, connection: int) -> Delivered:
    return Delivered(
        at, connection, frame["conv"], frame["seq"], frame["id"], frame.get("key"), frame["msg"], frame["ts"]
    )


@asynccontextmanager
async def open_link(address: Address, recorder: Recorder, client: str = "") -> AsyncIterator[Link]:
    """Connect and ask for the modern dialect; HELLO is not awaited. Raises `LinkBroken` where nobody is there."""
    try:
        with trio.fail_after(_CONNECT):
            tcp = await trio.open_tcp_stream(address.host, address.port)
            stream = await _encrypt(tcp, address.host) if isinstance(address, Encrypted) else tcp
    except (OSError, trio.TooSlowError) as error:
        raise LinkBroken(str(error) or "too slow") from None
    link = Link(stream, tcp, recorder, client)
    why = "left"
    try:
        link.request(Kind.HELLO, version=1, client="trio-chat verify")
        yield link
    except BaseException as error:
        why = _reason(error)
        raise
    finally:
        link.close(why)


async def _encrypt(tcp: trio.SocketStream, host: str) -> trio.abc.Stream:
    """Raises `LinkBroken`."""
    # Every frame is complete in itself, so a connection that just ends hides nothing.
    stream = trio.SSLStream(tcp, ssl.create_default_context(), server_hostname=host, https_compatible=True)
    try:
        await stream.do_handshake()
    except trio.BrokenResourceError as error:
        tcp.socket.close()
        raise LinkBroken(f"TLS failed: {error.__cause__ or error}") from None
    except BaseException:
        tcp.socket.close()
        raise
    return stream


def _reason(error: BaseException) -> str:
    while isinstance(error, BaseExceptionGroup):
        error = next((each for each in error.exceptions if isinstance(each, LinkBroken)), error.exceptions[0])
    return str(error) if isinstance(error, LinkBroken) else "ended"
