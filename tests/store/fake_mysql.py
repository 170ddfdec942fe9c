"""The server's side of MySQL 8's log-in, packet by packet: for what no server at hand can be made to do."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Awaitable, Callable

import attrs
import trio

__all__ = ["NONCE", "OK", "FakeServer", "knows_password"]

#: The 20 random bytes that caching_sha2_password mixes with the password.
NONCE = bytes(range(1, 21))
OK = b"\0\0\0\2\0\0\0"

_PROTOCOL_41, _SSL, _SECURE, _PLUGIN_AUTH = 1 << 9, 1 << 11, 1 << 15, 1 << 19


def knows_password(proof: bytes, password: bytes) -> bool:
    """The server's test of a proof: it has only the double hash, and uncovers the single one from the proof."""
    stored = hashlib.sha256(hashlib.sha256(password).digest()).digest()
    mask = hashlib.sha256(stored + NONCE).digest()
    uncovered = bytes(one ^ other for one, other in zip(proof, mask, strict=True))
    return hashlib.sha256(uncovered).digest() == stored


@attrs.define(eq=False)
class FakeServer:
    """One connection, from the server's side."""

    stream: trio.abc.Stream
    sequence: int = 0
    received: bytearray = attrs.field(factory=bytearray)

    async def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            await self.stream.send_all(len(payload).to_bytes(3, "little") + bytes([self.sequence]) + payload)
            self.sequence += 1

    async def receive(self) -> bytes:
        while len(self.received) < 4 or len(self.received) < 4 + int.from_bytes(self.received[:3], "little"):
            data = await self.stream.receive_some()
            if not data:
                raise EOFError
            self.received += data
        end = 4 + int.from_bytes(self.received[:3], "little")
        payload = bytes(self.received[4:end])
        assert self.received[3] == self.sequence
        self.sequence += 1
        del self.received[:end]
        return payload

    async def greet(self, *, plugin: bytes = b"caching_sha2_password", tls: bool = False, extra: bytes = b"") -> None:
        """The greeting of a MySQL 8, and `extra` right behind it."""
        flags = _PROTOCOL_41 | _SECURE | _PLUGIN_AUTH | (_SSL if tls else 0)
        greeting = b"\x0a8.0.36\0" + struct.pack("<I", 7) + NONCE[:8] + b"\0"
        greeting += struct.pack("<HBHHB", flags & 0xFFFF, 255, 2, flags >> 16, 21) + bytes(10)
        greeting += NONCE[8:] + b"\0" + plugin + b"\0"
        header = len(greeting).to_bytes(3, "little") + b"\0"
        self.sequence = 1
        await self.stream.send_all(header + greeting + extra)

    async def switch(self, plugin: bytes) -> bytes:
        """Ask for another method of authentication; returns what the client answers."""
        await self.send(b"\xfe" + plugin + b"\0" + NONCE + b"\0")
        return await self.receive()

    @staticmethod
    async def serve(
        talk: Callable[[FakeServer], Awaitable[None]],
        listener: trio.SocketListener,
        *,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve one connection, by `talk`."""
        async with listener:
            task_status.started()
            stream = await listener.accept()
        async with stream:
            await talk(FakeServer(stream))
