"""A MySQL 8, packet by packet: for what no server at hand can be made to do.

Made from the protocol's documentation, https://dev.mysql.com/doc/dev/mysql-server/latest/PAGE_PROTOCOL.html: its log-in
(Connection Phase, caching_sha2_password information) and what it answers to statements (Command Phase).
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Awaitable, Callable

import attrs
import trio
import trio.testing

__all__ = ["NONCE", "OK", "FakeServer", "column", "error", "knows_password"]

#: The 20 random bytes that caching_sha2_password mixes with the password.
NONCE = bytes(range(1, 21))
OK = b"\0\0\0\2\0\0\0"

#: The random bytes of the greeting; a later question has others, and those count then.
_GREETING = bytes(range(21, 41))

#: What a MySQL 8.0 can do (without and with TLS), and what of it changes the answers to statements: nobody may ask for
#: that and then read them as if he had not. COMPRESS, LOCAL_FILES, SESSION_TRACK, DEPRECATE_EOF, OPTIONAL_RESULTSET_METADATA,
#: ZSTD, QUERY_ATTRIBUTES.
_ABILITIES, _SSL = 0xDFFF_F7FF, 1 << 11
_OTHER_ANSWERS = sum(1 << bit for bit in (5, 7, 23, 24, 25, 26, 27))


def error(errno: int, text: str, state: str = "HY000") -> bytes:
    """What a server says to a request that it refuses."""
    return b"\xff" + errno.to_bytes(2, "little") + f"#{state}{text}".encode()


def column(name: str, kind: int, *, charset: int = 255) -> bytes:
    """A column of a result; `kind` is the type's number in the protocol, 255 the character set utf8mb4_0900_ai_ci."""
    texts = b"".join(bytes([len(text)]) + text for text in (b"def", b"", b"", b"", name.encode(), b""))
    return texts + b"\x0c" + struct.pack("<HIBHBxx", charset, 1024, kind, 0x81, 0)


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
    #: Whether every byte goes out alone.
    drip: bool = False
    sequence: int = 0
    received: bytearray = attrs.field(factory=bytearray)

    async def send(self, *payloads: bytes) -> None:
        for payload in payloads:
            await self._send(len(payload).to_bytes(3, "little") + bytes([self.sequence]) + payload)
            self.sequence += 1

    async def _send(self, data: bytes) -> None:
        for size in range(1, len(data)) if self.drip else ():
            await self.stream.send_all(data[size - 1 : size])
            await trio.testing.wait_all_tasks_blocked()
        await self.stream.send_all(data[-1:] if self.drip else data)

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
        flags = _ABILITIES | (_SSL if tls else 0)
        greeting = b"\x0a8.0.36\0" + struct.pack("<I", 7) + _GREETING[:8] + b"\0"
        greeting += struct.pack("<HBHHB", flags & 0xFFFF, 255, 2, flags >> 16, 21) + bytes(10)
        greeting += _GREETING[8:] + b"\0" + plugin + b"\0"
        header = len(greeting).to_bytes(3, "little") + b"\0"
        self.sequence = 1
        await self._send(header + greeting + extra)

    async def response(self) -> bytes:
        """What the client answers to the greeting."""
        answer = await self.receive()
        flags = int.from_bytes(answer[:4], "little")
        assert not flags & _OTHER_ANSWERS
        assert not flags & ~(_ABILITIES | _SSL)
        return answer

    async def statement(self) -> str:
        """The next statement of the client."""
        self.sequence = 0
        command = await self.receive()
        assert command[:1] == b"\3"
        return command[1:].decode()

    async def rows(self, columns: list[bytes], *rows: list[bytes | None]) -> None:
        """Answer with a result."""
        end = b"\xfe\0\0\2\0"
        texts = [b"".join(b"\xfb" if value is None else bytes([len(value)]) + value for value in row) for row in rows]
        await self.send(bytes([len(columns)]), *columns, end, *texts, end)

    async def switch(self, plugin: bytes) -> bytes:
        """Ask for another method of authentication; returns what the client answers."""
        await self.send(b"\xfe" + plugin + b"\0" + NONCE + b"\0")
        return await self.receive()

    @staticmethod
    async def serve(
        talk: Callable[[FakeServer], Awaitable[None]],
        listener: trio.SocketListener,
        *,
        drip: bool = False,
        task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED,
    ) -> None:
        """Serve one connection, by `talk`."""
        async with listener:
            task_status.started()
            stream = await listener.accept()
        async with stream:
            await talk(FakeServer(stream, drip))
