"""One connection of a scenario: frames as they are written, and what came back."""

from __future__ import annotations

import socket
import struct
from collections import deque
from typing import Any

import anyio
import msgspec
from anyio.abc import ByteStream, SocketAttribute

from trio_chat.client.connection import Signal, tcp_dial
from trio_chat.client.options import Endpoint
from trio_chat.client.script_file import Connect
from trio_chat.errors import ChatError
from trio_chat.wire.frames import FrameSplitter
from trio_chat.wire.messages import Kind, encode

__all__ = ["Person", "WireError"]

_CHUNK = 64 * 1024
#: What the existing clients read at once.
_CLASSIC_READ = 1024
_FRAME_LIMIT = 16 * 1024 * 1024
#: Frames that no step has looked at yet; more than that is a server gone wild, and ends the listening.
_UNREAD = 100_000
#: Between two pieces of a frame, so that each becomes a segment of its own.
_PAUSE = 0.005

_OBJECT = msgspec.json.Decoder(dict[str, Any])


class WireError(ChatError):
    """What came over the wire cannot be, whatever was expected; or nothing can be sent any more."""


class Person:
    """Somebody with a connection. `listen` has to run in a task; it ends when the connection does."""

    def __init__(self, step: Connect, stream: ByteStream) -> None:
        self.name = step.connect
        self._stream = stream
        self._step = step
        self._terminator = b"\0" if step.terminator == "nul" else b"\n"
        self._splitter = FrameSplitter(_FRAME_LIMIT)
        self._frames: deque[dict[str, Any]] = deque()
        self._changed = Signal()
        self._has_sent = False
        self._closed = False
        self._failure: str | None = None

    @classmethod
    async def connect(cls, step: Connect, address: Endpoint) -> Person:
        """Raises `OSError`."""
        return cls(step, await tcp_dial()(address))

    def terminated(self, fields: dict[str, Any]) -> bytes:
        """A frame as it is sent."""
        return encode(fields) + self._terminator

    async def send(self, data: bytes, pieces: int = 1) -> None:
        """Send bytes, in so many pieces. Raises `WireError` where the connection is closed."""
        self._has_sent = True
        size = max(1, -(-len(data) // pieces))
        try:
            for start in range(0, len(data), size):
                if start:
                    await anyio.sleep(_PAUSE)
                await self._stream.send(data[start : start + size])
        except (anyio.BrokenResourceError, anyio.ClosedResourceError):
            raise WireError(f"{self.name} cannot send: the server has closed the connection") from None

    async def receive(self) -> dict[str, Any]:
        """The next frame. Waits for ever; raises `WireError` where there cannot be one any more. Cancelling is safe."""
        while (frame := self.receive_nowait()) is None:
            if self._closed:
                raise WireError(f"the server has closed {self.name}'s connection")
            await self._changed.wait()
        return frame

    def receive_nowait(self) -> dict[str, Any] | None:
        """The next frame if it is there. Raises `WireError` where something impossible came."""
        if self._frames:
            return self._frames.popleft()
        if self._failure is not None:
            raise WireError(f"{self.name}: {self._failure}")
        return None

    async def wait_closed(self) -> None:
        """Wait until the server has closed the connection. Cancelling is safe."""
        while not self._closed:
            await self._changed.wait()

    async def listen(self) -> None:
        """Take what comes until the connection ends."""
        try:
            while self._failure is None:
                data = await self._stream.receive(_CLASSIC_READ if self._step.whole_reads else _CHUNK)
                await self._take(data)
                self._changed.fire()
        except (anyio.EndOfStream, anyio.BrokenResourceError, anyio.ClosedResourceError):
            pass
        finally:
            self._closed = True
            self._changed.fire()

    async def close(self) -> None:
        await anyio.aclose_forcefully(self._stream)

    async def abort(self) -> None:
        """Reset the connection: the server learns that nothing more was read."""
        raw: socket.socket = self._stream.extra(SocketAttribute.raw_socket)
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        await self.close()

    async def _take(self, data: bytes) -> None:
        frames = self._splitter.feed(data)
        if self._step.whole_reads and (len(frames) != 1 or len(frames[0]) + 1 != len(data)):
            self._failure = (
                f"one read gave {len(data)} bytes with {len(frames)} whole frames; the existing clients die of it"
            )
        if frames and self._has_sent and self._splitter.terminator != self._terminator:
            self._failure = "the server ends its frames otherwise than this client does"
        for frame in frames:
            await self._sort(frame)
        if len(self._frames) > _UNREAD:
            self._failure = f"more than {_UNREAD} frames came that no step has looked at"

    async def _sort(self, frame: bytes) -> None:
        try:
            fields = _OBJECT.decode(frame)
        except (msgspec.MsgspecError, UnicodeDecodeError):
            self._failure = f"not a JSON object: {frame[:200]!r}"
            return
        kind = fields.get("msgid")
        if kind == Kind.PING and self._step.pong:
            await self.send(self.terminated({"msgid": int(Kind.PONG), "data": fields.get("data")}))
        elif kind not in self._step.ignore:
            self._frames.append(fields)
