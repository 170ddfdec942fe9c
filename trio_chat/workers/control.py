"""The line between the supervisor and one worker: a socket pair that carries JSON, one message a line.

It is also how each hears of the other's end, however that came: the kernel closes it.
"""

from __future__ import annotations

import contextlib
import json
import socket
from typing import Any

import trio

__all__ = ["Control", "Message"]

#: A worker's figures are the longest message: some tens of kilobytes.
_LONGEST = 4 * 1024 * 1024

Message = dict[str, Any]


class Control:
    """One end. Both are the same program, so what arrives is believed."""

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._stream = trio.SocketStream(trio.socket.from_stdlib_socket(sock))
        self._sending = trio.Lock()
        self._received = bytearray()

    async def send(self, **message: Any) -> None:
        """Nothing happens where the other is gone. Cancelled within, this end is finished: a part may have been sent."""
        async with self._sending:
            with contextlib.suppress(trio.BrokenResourceError, trio.ClosedResourceError):
                await self._stream.send_all(json.dumps(message).encode() + b"\n")

    async def receive(self) -> Message | None:
        """The next message, or None once the other is gone. Cancelling is safe."""
        while True:
            line, newline, rest = self._received.partition(b"\n")
            if newline:
                self._received = rest
                message: Message = json.loads(line)
                return message
            try:
                data = await self._stream.receive_some()
            except (trio.BrokenResourceError, trio.ClosedResourceError):
                return None
            if not data or len(self._received) > _LONGEST:
                return None
            self._received += data

    def close(self) -> None:
        """The other is told by the kernel."""
        self._stream.socket.close()
