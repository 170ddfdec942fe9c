"""A client that speaks the wire and nothing else: what it sends is written out, what it gets is taken as it comes."""

from __future__ import annotations

import itertools
import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import trio

from trio_chat.config import Address
from trio_chat.verify.programs.network import Network
from trio_chat.wire.messages import Kind

__all__ = ["Frame", "Wire", "WireClosed", "connect", "log_in", "register"]

Frame = dict[str, Any]

_refs = itertools.count(1)


class WireClosed(Exception):
    """The server has closed the connection."""


class Wire:
    """One connection. Every wait has a deadline, so a missing frame is a failure and not a hang."""

    def __init__(self, stream: trio.SocketStream, terminator: bytes = b"\n") -> None:
        self.stream = stream
        self.terminator = terminator
        self.id = 0
        self.name = ""
        self.node = ""
        self.ack: Frame = {}
        self._buffer = b""
        self._frames: deque[Frame] = deque()

    async def send_bytes(self, data: bytes) -> None:
        await self.stream.send_all(data)

    async def send(self, kind: Kind, **fields: Any) -> None:
        frame = json.dumps({"msgid": int(kind), **fields}, ensure_ascii=False).encode()
        await self.send_bytes(frame + self.terminator)

    async def _next(self) -> Frame:
        while self.terminator not in self._buffer:
            try:
                data = await self.stream.receive_some(65536)
            except trio.BrokenResourceError:
                raise WireClosed from None
            if not data:
                raise WireClosed
            self._buffer += data
        frame, _, self._buffer = self._buffer.partition(self.terminator)
        decoded: Frame = json.loads(frame)
        return decoded

    async def receive(self, kind: Kind | None = None, *, within: float = 5.0) -> Frame:
        """The next frame (of a kind; others are kept for later)."""
        return await self.receive_where(lambda frame: kind is None or frame["msgid"] == kind, within=within)

    async def receive_where(self, wanted: Callable[[Frame], bool], *, within: float = 5.0) -> Frame:
        for frame in self._frames:
            if wanted(frame):
                self._frames.remove(frame)
                return frame
        try:
            with trio.fail_after(within):
                while not wanted(frame := await self._next()):
                    self._frames.append(frame)
        except trio.TooSlowError:
            raise AssertionError(f"nothing came within {within} s but {list(self._frames)}") from None
        return frame

    async def call(self, kind: Kind, **fields: Any) -> Frame:
        """A modern request and its answer."""
        ref = next(_refs)
        await self.send(kind, ref=ref, **fields)
        return await self.receive_where(lambda frame: frame.get("ref") == ref)

    async def ok(self, kind: Kind, **fields: Any) -> Frame:
        """A modern request that must succeed."""
        answer = await self.call(kind, **fields)
        assert answer.get("errno", 0) == 0, answer
        return answer

    async def log_in(self, who: int | str, password: str = "secret") -> None:
        """Log in, by id or name, in either dialect."""
        await self.send(Kind.LOGIN, **{"id" if isinstance(who, int) else "name": who, "password": password})
        self.ack = await self.receive(Kind.LOGIN_ACK)
        assert self.ack["errno"] == 0, self.ack
        self.id, self.name = self.ack["id"], self.ack["name"]

    async def messages(self, count: int, *, within: float = 5.0) -> list[Frame]:
        """The next `count` DIRECT and GROUP frames."""
        return [
            await self.receive_where(lambda frame: frame["msgid"] in {Kind.DIRECT, Kind.GROUP}, within=within)
            for _ in range(count)
        ]

    async def quiet(self) -> None:
        """Nothing has been sent here that was not taken: a PING comes back before anything else does."""
        data = next(_refs)
        await self.send(Kind.PING, data=data)
        pong = await self.receive_where(lambda frame: frame == {"msgid": Kind.PONG, "data": data})
        assert pong
        assert not self._frames, list(self._frames)

    async def aclose(self) -> None:
        await self.stream.aclose()

    def abort(self) -> None:
        """Break off: the server gets a reset."""
        self.stream.setsockopt(trio.socket.SOL_SOCKET, trio.socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        self.stream.socket.close()


@asynccontextmanager
async def connect(
    address: Address, *, modern: bool = True, terminator: bytes = b"\n", network: Network | None = None
) -> AsyncIterator[Wire]:
    """A connection, from this machine or from a network of its own."""
    if network is None:
        stream = await trio.open_tcp_stream(address.host, address.port)
    else:
        sock = trio.socket.from_stdlib_socket(network.socket())
        await sock.connect(address)
        stream = trio.SocketStream(sock)
    wire = Wire(stream, terminator)
    try:
        if modern:
            await wire.send(Kind.HELLO, version=1)
            hello = await wire.receive(Kind.HELLO_ACK)
            wire.node = hello["node"]
        yield wire
    finally:
        with trio.CancelScope(shield=True):
            await trio.aclose_forcefully(stream)


async def register(address: Address, name: str, password: str = "secret") -> int:
    async with connect(address) as wire:
        answer = await wire.ok(Kind.REGISTER, name=name, password=password)
        userid: int = answer["id"]
        return userid


@asynccontextmanager
async def log_in(
    address: Address,
    who: int | str,
    password: str = "secret",
    *,
    modern: bool = True,
    terminator: bytes = b"\n",
    network: Network | None = None,
) -> AsyncIterator[Wire]:
    """A connection that is logged in, by id or name."""
    async with connect(address, modern=modern, terminator=terminator, network=network) as wire:
        await wire.log_in(who, password)
        yield wire
