"""WebSocket: each text message is a frame of the protocol, in either direction. Lies upon another transport.

The rules of RFC 6455 for what comes in are those of the library's sans-IO protocol. What goes out is put together here:
a frame from a server is a header and the text, the same bytes for every recipient, and a flush is one system call.
"""

from __future__ import annotations

import secrets
import struct
from typing import TYPE_CHECKING

from websockets.frames import Close, CloseCode, Frame, Opcode

from trio_chat.transport.contract import End, Reader, Transport, TransportBroken
from trio_chat.transport.reading import receive_from

if TYPE_CHECKING:
    from websockets.server import ServerProtocol

__all__ = ["WebSocketTransport"]

#: Bytes of frames that are put together for one system call; the rest of a long queue takes another turn.
_AT_ONCE = 262144
#: Bytes of pongs that wait. RFC 6455 allows to answer the latest ping only; it is done where the client floods.
_PONGS = 4096
#: With permessage-deflate, frames from this size on are compressed. Shorter ones gain nothing worth the time.
_WORTH_COMPRESSING = 512
#: What JSON allows outside of strings only, and what it allows nowhere: so one message is one frame, whatever it holds.
_INSIDE = bytes.maketrans(b"\n\0", b" \1")
#: How long a client is asked to stay away from a server that is full, in seconds.
_LATER = range(5, 31)

_CODES = {
    End.DONE: CloseCode.NORMAL_CLOSURE,
    End.BROKEN: CloseCode.INTERNAL_ERROR,
    End.DRAINING: CloseCode.GOING_AWAY,
    End.FULL: CloseCode.TRY_AGAIN_LATER,
    End.TOO_LONG: CloseCode.MESSAGE_TOO_BIG,
    End.DEAF: CloseCode.POLICY_VIOLATION,
    End.LATE: CloseCode.GOING_AWAY,
    End.HOARDING: CloseCode.POLICY_VIOLATION,
    End.SILENT: CloseCode.POLICY_VIOLATION,
    End.REVOKED: CloseCode.POLICY_VIOLATION,
    End.FAILED: CloseCode.INTERNAL_ERROR,
}


class WebSocketTransport:
    """A connection whose opening handshake is done; `protocol` has done it.

    It holds at most one message that is coming in (bounded by the protocol's `max_size`), one frame that went out in part
    or what `inner` is committed to, and some pongs: while the client does not read only its last pings are answered, and
    with what is sent to it next (a sign of life that the connection asks for, if nothing else).
    """

    kind = "websocket"

    __slots__ = (
        "_begun",
        "_begun_size",
        "_close",
        "_extensions",
        "_inner",
        "_message",
        "_over",
        "_pong",
        "_protocol",
        "_reader",
    )

    def __init__(self, inner: Transport, protocol: ServerProtocol) -> None:
        self._inner = inner
        self._reader: Reader | None = None
        self._protocol = protocol
        self._extensions = protocol.extensions
        # The message whose fragments are coming in.
        self._message = bytearray()
        # What is left of frames that went out in part or have to go out so, and of how many bytes of the caller's.
        self._begun = b""
        self._begun_size = 0
        self._pong = b""
        # The close frame to send: the protocol's own answer, once it has one. `_over`: it was sent.
        self._close = b""
        self._over = False

    @property
    def peer(self) -> str:
        return self._inner.peer

    @property
    def committed(self) -> int:
        return self._begun_size

    # -- receiving ----------------------------------------------------------------------------------------------------

    def attend(self, reader: Reader) -> None:
        self._reader = reader
        # With the opening handshake more may have come.
        if self._over or self._hand_over():
            self._inner.attend(self)

    def ignore(self) -> None:
        self._inner.ignore()

    async def receive(self) -> bytes:
        return await receive_from(self)

    def received(self, data: bytes) -> bool:
        """The transport below gives bytes of frames."""
        if self._over:
            # All that matters now is the end; whatever else comes is dropped.
            return True
        return self._hand_over(data)

    def ended(self, failure: Exception | None) -> None:
        """The transport below says that nothing more comes."""
        assert self._reader is not None
        self._reader.ended(failure)

    def _hand_over(self, data: bytes = b"") -> bool:
        """Give the messages that have come to the reader; returns whether to read on."""
        assert self._reader is not None
        try:
            if data:
                self._protocol.receive_data(data)
            messages = self._take_messages()
        except Exception as error:  # noqa: BLE001 - it is the reader's to judge
            self._reader.ended(error)
            return False
        if messages and not self._reader.received(messages):
            return False
        if self._close:
            self._reader.ended(None)
        return not self._close

    def _take_messages(self) -> bytes:
        """The whole messages that have come, as frames; notes what the protocol wants to be sent for the others."""
        frames = []
        for event in self._protocol.events_received():
            assert isinstance(event, Frame)
            if event.opcode not in {Opcode.TEXT, Opcode.CONT, Opcode.BINARY}:
                continue
            if event.opcode is Opcode.BINARY:
                self._fail(CloseCode.UNSUPPORTED_DATA, "a message is text")
                break
            if event.fin and not self._message:
                message = bytes(event.data)
            else:
                self._message += event.data
                if not event.fin:
                    continue
                message = bytes(self._message)
                self._message.clear()
            if not message.isascii():
                try:
                    message.decode()
                except UnicodeDecodeError:
                    self._fail(CloseCode.INVALID_DATA, "a message is UTF-8")
                    break
            if b"\n" in message or b"\0" in message:
                message = message.translate(_INSIDE)
            frames.append(message)
        for data in self._protocol.data_to_send():
            if data[:1] == b"\x8a":
                self._pong = self._pong + data if len(self._pong) + len(data) <= _PONGS else data
            elif data and not self._close:
                self._close = data
        # Behind a frame that went out in part it goes with the rest of that one, for which somebody waits.
        if self._pong and not self._begun_size:
            self._send([], [])
        if not frames:
            return b""
        frames.append(b"")
        return b"\n".join(frames)

    def _fail(self, code: CloseCode, text: str) -> None:
        if not self._close:
            self._close = _close_frame(code, text)

    # -- sending ------------------------------------------------------------------------------------------------------

    def send_nowait(self, data: bytes) -> int:
        """As in the contract; `data` is whole frames, each with its newline, and a frame counts when it went out whole."""
        pieces: list[bytes] = []
        sizes: list[int] = []
        position = self._begun_size
        total = 0
        while position < len(data) and total < _AT_ONCE:
            end = data.index(b"\n", position)
            piece = self._frame(data[position:end])
            pieces.append(piece)
            sizes.append(end + 1 - position)
            total += len(piece)
            position = end + 1
        return self._send(pieces, sizes)

    def _frame(self, payload: bytes) -> bytes:
        size = len(payload)
        if self._extensions and size >= _WORTH_COMPRESSING:
            return Frame(Opcode.TEXT, payload).serialize(mask=False, extensions=self._extensions)
        if size < 126:
            return b"\x81" + size.to_bytes(1) + payload
        if size < 65536:
            return struct.pack("!BBH", 0x81, 126, size) + payload
        return struct.pack("!BBQ", 0x81, 127, size) + payload

    def _send(self, pieces: list[bytes], sizes: list[int]) -> int:
        """Send what was begun, the pong, and then these frames; returns how many bytes of the caller's that finished."""
        if self._over:
            raise TransportBroken("the closing handshake has begun")
        if self._pong:
            pieces.insert(0, self._pong)
            sizes.insert(0, 0)
        if self._begun:
            pieces.insert(0, self._begun)
            sizes.insert(0, self._begun_size)
        data = b"".join(pieces)
        taken = self._inner.send_nowait(data)
        if taken == len(data):
            self._begun, self._begun_size, self._pong = b"", 0, b""
            return sum(sizes)
        # Frames that went out in part, or to which `inner` is committed, and those that were that already.
        fixed = max(taken + self._inner.committed, len(self._begun))
        begun: list[bytes] = []
        self._begun_size = 0
        count = start = 0
        for piece, size in zip(pieces, sizes, strict=True):
            end = start + len(piece)
            if end > taken and start >= fixed:
                break
            if piece is self._pong:
                self._pong = b""
            if end <= taken:
                count += size
            else:
                begun.append(piece[max(0, taken - start) :])
                self._begun_size += size
            start = end
        self._begun = b"".join(begun)
        return count

    async def wait_writable(self) -> None:
        await self._inner.wait_writable()

    # -- the end ------------------------------------------------------------------------------------------------------

    def end(self, reason: End) -> bool:
        """Send the close frame. Behind a frame that the kernel has no room for it is lost, and the client sees 1006."""
        if self._over:
            return True
        if not self._close:
            later = str(secrets.choice(_LATER)) if reason is End.FULL else reason.value
            self._close = _close_frame(_CODES[reason], later)
        try:
            self._send([self._close], [0])
        except TransportBroken:
            return False
        finally:
            self._over = True
        self._inner.end(reason)
        return True

    def close(self) -> None:
        self.end(End.FAILED)
        self._inner.close()
        self._reader = None


def _close_frame(code: CloseCode, text: str) -> bytes:
    return Frame(Opcode.CLOSE, Close(code, text).serialize()).serialize(mask=False)
