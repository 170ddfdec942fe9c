"""A connection on a transport that misbehaves."""

from __future__ import annotations

import trio
import trio.testing

from trio_chat import Server
from trio_chat.connection import Connection
from trio_chat.transport.contract import End, Reader, TransportBroken


class Breaking:
    """Takes nothing at first; then the other side is gone."""

    peer = "nobody"
    kind = "test"
    committed = 0

    def __init__(self) -> None:
        self.gone = trio.Event()
        self.closed = False

    async def receive(self) -> bytes:
        await trio.Event().wait()
        return b""

    def attend(self, _: Reader) -> None:
        pass

    def ignore(self) -> None:
        pass

    def send_nowait(self, data: bytes) -> int:
        assert data
        if self.gone.is_set():
            raise TransportBroken
        return 0

    async def wait_writable(self) -> None:
        await self.gone.wait()

    def end(self, _: End) -> bool:
        return False

    def close(self) -> None:
        self.closed = True


async def test_a_break_while_writing_ends_the_connection(server: Server) -> None:
    transport = Breaking()
    connection = Connection(server.node, transport)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(connection.run)
        await trio.testing.wait_all_tasks_blocked()
        connection.send(b"{}")
        connection.flush()
        await trio.testing.wait_all_tasks_blocked()
        transport.gone.set()
    await trio.testing.wait_all_tasks_blocked()
    assert transport.closed


async def test_nonsense_on_the_bus_is_logged_and_dropped(server: Server) -> None:
    events = [b"", b"x", b"node\n{}", b'node\n{"msgid":26,"a":1}', b"node\n" + b"[" * 100_000, b"node\n[1]"]
    server.node.hints.receive([("u:1", payload) for payload in events])
    server.node.hints.receive([("presence", payload) for payload in events])
