"""Raw HTTP and WebSocket clients: bytes written out, so that they can be wrong."""

from __future__ import annotations

import os
import struct
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import NamedTuple

import attrs
import trio

from trio_chat import Address, Server

__all__ = ["Answer", "Event", "Raw", "address_of", "ask", "masked", "open_raw", "request", "upgrade"]


def address_of(server: Server) -> Address:
    """Where the server's HTTP is."""
    return Address.parse(server.pages[0].removeprefix("http://").removesuffix("/"))


@attrs.frozen
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


def request(path: str = "/", method: str = "GET", **headers: str) -> bytes:
    """`Accept_Encoding` is the header `Accept-Encoding`; one that is empty is left out. The last one, unless `Connection` says else."""
    lines = [f"{method} {path} HTTP/1.1"]
    given = {
        "Host": "chat.example",
        "Connection": "close",
        **{name.replace("_", "-"): value for name, value in headers.items()},
    }
    lines += [f"{name}: {value}" for name, value in given.items() if value]
    return "\r\n".join([*lines, "", ""]).encode()


def upgrade(path: str = "/ws", **headers: str) -> bytes:
    standard = {
        "Upgrade": "websocket",
        "Connection": "keep-alive, Upgrade",
        "Sec_WebSocket_Key": "dGhlIHNhbXBsZSBub25jZQ==",
        "Sec_WebSocket_Version": "13",
    }
    return request(path, **(standard | headers))


def masked(opcode: int, payload: bytes = b"", *, fin: bool = True, reserved: int = 0, mask: bool = True) -> bytes:
    """A frame as a client sends it."""
    key = os.urandom(4)
    head = bytes([(fin << 7) | (reserved << 4) | opcode])
    size = len(payload)
    bit = 0x80 if mask else 0
    if size < 126:
        head += bytes([bit | size])
    elif size < 65536:
        head += struct.pack("!BH", bit | 126, size)
    else:
        head += struct.pack("!BQ", bit | 127, size)
    if not mask:
        return head + payload
    return head + key + bytes(byte ^ key[index % 4] for index, byte in enumerate(payload))


class Event(NamedTuple):
    """A frame from the server."""

    opcode: int
    payload: bytes

    @property
    def code(self) -> int:
        assert self.opcode == 8, self
        return int.from_bytes(self.payload[:2], "big")


class Raw:
    """A connection. Every wait has a deadline."""

    def __init__(self, stream: trio.SocketStream) -> None:
        self.stream = stream
        self._buffer = b""

    async def send(self, *pieces: bytes) -> None:
        for piece in pieces:
            await self.stream.send_all(piece)

    async def _more(self) -> bool:
        data = await self.stream.receive_some(65536)
        self._buffer += data
        return bool(data)

    async def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            if not await self._more():
                raise trio.EndOfChannel
        data, self._buffer = self._buffer[:size], self._buffer[size:]
        return data

    async def answer(self, *, body: bool = True) -> Answer:
        """One answer, whose body ends with the connection or by Content-Length."""
        with trio.fail_after(20):
            while b"\r\n\r\n" not in self._buffer:
                if not await self._more():
                    raise trio.EndOfChannel
            head, _, self._buffer = self._buffer.partition(b"\r\n\r\n")
            first, *lines = head.decode().split("\r\n")
            headers = {}
            for line in lines:
                name, _, value = line.partition(": ")
                assert name.lower() not in headers
                headers[name.lower()] = value
            size = int(headers.get("content-length", 0)) if body else 0
            return Answer(int(first.split(" ")[1]), headers, await self._exactly(size))

    async def event(self) -> Event:
        with trio.fail_after(20):
            first, second = await self._exactly(2)
            assert not second & 0x80, "a server masks nothing"
            assert first & 0x80, "no fragments"
            size = second & 0x7F
            if size == 126:
                size = int.from_bytes(await self._exactly(2), "big")
            elif size == 127:
                size = int.from_bytes(await self._exactly(8), "big")
            return Event(first & 0x0F, await self._exactly(size))

    async def at_end(self) -> bool:
        """Whether nothing more comes: the server has ended the connection, and not broken it off."""
        with trio.fail_after(20):
            return not self._buffer and not await self._more()


@asynccontextmanager
async def open_raw(address: Address) -> AsyncIterator[Raw]:
    stream = await trio.open_tcp_stream(*address)
    try:
        yield Raw(stream)
    finally:
        await trio.aclose_forcefully(stream)


async def ask(address: Address, data: bytes) -> Answer:
    """One request and its answer, after which the connection is ended."""
    async with open_raw(address) as raw:
        await raw.send(data)
        answer = await raw.answer(body=not data.startswith(b"HEAD"))
        assert await raw.at_end()
        return answer
