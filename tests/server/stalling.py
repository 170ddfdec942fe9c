"""A client in the test's own hands: what it sends comes in chunks, and its kernel takes no more than it is told to."""

from __future__ import annotations

import json
from collections import deque
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import pytest
import trio

from tests.wire import Frame
from trio_chat import Server
from trio_chat.connection import Connection
from trio_chat.transport.contract import End, Reader
from trio_chat.transport.reading import receive_from
from trio_chat.wire.messages import Kind

__all__ = ["Hold", "Stalling", "eventually", "stalling", "stalling_as"]

_PLENTY = 1 << 40


class Stalling:
    """A transport. `takes` is how many bytes it takes until `go_on`; `sent` has those that it took."""

    peer = "stalling"
    kind = "test"
    committed = 0

    def __init__(self) -> None:
        self._requests: deque[bytes] = deque()
        self._reader: Reader | None = None
        self.takes = _PLENTY
        self.sent = b""
        self._writable = trio.Event()
        #: Set once the server reads from this client.
        self.reading = trio.Event()

    def request(self, kind: Kind, **fields: Any) -> None:
        """Send one frame as one chunk."""
        self._requests.append(json.dumps({"msgid": int(kind), **fields}).encode() + b"\n")
        self._carry()

    @property
    def unread(self) -> int:
        """How many chunks the server has not read."""
        return len(self._requests)

    @property
    def frames(self) -> list[Frame]:
        """Every whole frame that was sent to this client."""
        return [json.loads(frame) for frame in self.sent.split(b"\n")[:-1]]

    def go_on(self) -> None:
        self.takes = _PLENTY
        self._writable.set()

    def attend(self, reader: Reader) -> None:
        self.reading.set()
        self._reader = reader
        self._carry()

    def ignore(self) -> None:
        self._reader = None

    async def receive(self) -> bytes:
        return await receive_from(self)

    def _carry(self) -> None:
        while self._requests and self._reader is not None:
            if not self._reader.received(self._requests.popleft()):
                self._reader = None

    def send_nowait(self, data: bytes) -> int:
        taken = data[: self.takes]
        self.takes -= len(taken)
        self.sent += taken
        return len(taken)

    async def wait_writable(self) -> None:
        await self._writable.wait()

    def end(self, _: End) -> bool:
        return False

    def close(self) -> None:
        pass


@asynccontextmanager
async def stalling(server: Server) -> AsyncIterator[tuple[Connection, Stalling]]:
    """A connection to the server that ends with the block."""
    transport = Stalling()
    connection = Connection(server.node, transport)
    server.node.connections[connection] = None
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await transport.reading.wait()
        try:
            yield connection, transport
        finally:
            connection.close(End.BROKEN)


@asynccontextmanager
async def stalling_as(server: Server, who: int) -> AsyncIterator[tuple[Connection, Stalling]]:
    """A modern connection that is logged in."""
    async with stalling(server) as (connection, client):
        client.request(Kind.HELLO, version=1)
        client.request(Kind.LOGIN, id=who, password="secret")
        await eventually(lambda: connection.account)
        yield connection, client


async def eventually(condition: Callable[[], object]) -> None:
    """Wait until a condition holds that the server brings about by itself."""
    with trio.fail_after(10):
        while not condition():
            await trio.sleep(0.001)


class Hold:
    """Holds every call of an async method until `release`; `waiting` is how many have come to it so far."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, owner: type, name: str) -> None:
        self.waiting = 0
        self._go_on = trio.Event()
        method = getattr(owner, name)

        async def held(*args: Any) -> Any:
            self.waiting += 1
            await self._go_on.wait()
            return await method(*args)

        monkeypatch.setattr(owner, name, held)

    def release(self) -> None:
        self._go_on.set()
