"""A WebSocket that looks like a stream of frames: what tests say over TCP they can say over it too."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any, cast

import trio

from tests.http.raw import Raw, address_of, masked, upgrade
from tests.wire import Wire
from trio_chat import Server
from trio_chat.wire.messages import Kind

__all__ = ["CARRIERS", "enter", "open_wire"]

CARRIERS = ("tcp", "websocket")


class _Stream:
    def __init__(self, raw: Raw) -> None:
        self._raw = raw

    async def send_all(self, data: bytes) -> None:
        await self._raw.send(*(masked(1, frame) for frame in data.split(b"\n")[:-1]))

    async def receive_some(self, _: int) -> bytes:
        event = await self._raw.event()
        return event.payload + b"\n" if event.opcode == 1 else b""


@asynccontextmanager
async def open_wire(server: Server, carrier: str) -> AsyncIterator[Wire]:
    """A connection that has said nothing yet."""
    address = server.addresses[0] if carrier == "tcp" else address_of(server)
    stream = await trio.open_tcp_stream(*address)
    try:
        if carrier == "tcp":
            yield Wire(stream)
        else:
            raw = Raw(stream)
            await raw.send(upgrade())
            assert (await raw.answer()).status == 101
            yield Wire(cast(trio.SocketStream, _Stream(raw)))
    finally:
        await trio.aclose_forcefully(stream)


@asynccontextmanager
async def enter(server: Server, carrier: str, name: str, **hello: Any) -> AsyncIterator[Wire]:
    """A modern session of an account that is made where there is none."""
    async with open_wire(server, carrier) as wire:
        await wire.ok(Kind.HELLO, version=1, **hello)
        await wire.call(Kind.REGISTER, name=name, password="secret")
        wire.ack = await wire.ok(Kind.LOGIN, name=name, password="secret")
        wire.id = wire.ack["id"]
        yield wire
