"""A connected socket as a Trio stream, for a protocol in which each command has one answer.

It is what `trio.SocketStream` is, with fewer steps for each: nobody sends while an answer is awaited, so there is nothing
to guard against, and an answer is never there at once, so it is waited for first.
"""

from __future__ import annotations

import socket
from typing import Final

import trio

__all__ = ["AnswerStream"]

_RECEIVE: Final = 65536


class AnswerStream(trio.abc.Stream):
    """Owns a connected, non-blocking socket. One task at a time. All raise `trio.BrokenResourceError`."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected

    async def send_all(self, data: bytes | bytearray | memoryview) -> None:
        """Cancelling leaves it unknown how much was sent: close then."""
        await trio.lowlevel.checkpoint_if_cancelled()
        with memoryview(data) as rest:
            sent = 0
            while sent < len(rest):
                try:
                    sent += self._socket.send(rest[sent:])
                except BlockingIOError:
                    await self.wait_send_all_might_not_block()
                except OSError as error:
                    raise trio.BrokenResourceError(str(error)) from error

    async def wait_send_all_might_not_block(self) -> None:
        await trio.lowlevel.wait_writable(self._socket)

    async def receive_some(self, max_bytes: int | None = None) -> bytes:
        """Cancelling is safe."""
        while True:
            await trio.lowlevel.wait_readable(self._socket)
            try:
                return self._socket.recv(max_bytes or _RECEIVE)
            except BlockingIOError:
                continue
            except OSError as error:
                raise trio.BrokenResourceError(str(error)) from error

    async def aclose(self) -> None:
        self._socket.close()
        await trio.lowlevel.checkpoint()
