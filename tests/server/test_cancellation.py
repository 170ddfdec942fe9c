"""The cancellation sweep: end a connection at each of its steps in turn, and nothing of it may remain."""

from __future__ import annotations

import json

import trio
import trio.abc

from tests.wire import connect, log_in, register
from trio_chat import Server
from trio_chat.connection import Connection
from trio_chat.transport.contract import End, Reader
from trio_chat.wire.messages import Kind


class Script:
    """A transport whose client sends everything at once, reads everything, and ends."""

    peer = "script"
    kind = "test"
    committed = 0

    def __init__(self, *requests: dict[str, object]) -> None:
        self._data = [b"".join(json.dumps(request).encode() + b"\n" for request in requests)]

    def attend(self, reader: Reader) -> None:
        while self._data:
            if not reader.received(self._data.pop()):
                return
        reader.ended(None)

    def ignore(self) -> None:
        pass

    async def receive(self) -> bytes:
        await trio.lowlevel.checkpoint()
        return self._data.pop() if self._data else b""

    def send_nowait(self, data: bytes) -> int:
        return len(data)

    async def wait_writable(self) -> None:
        await trio.lowlevel.checkpoint()

    def end(self, _: End) -> bool:
        return False

    def close(self) -> None:
        pass


#: The tasks of a connection, by the modules of what they run.
CONNECTION = ("trio_chat.connection.", "trio_chat.receiving.", "trio_chat.sending.")


class CloseAtStep(trio.abc.Instrument):
    """Closes the connection before the Nth step of any of its tasks."""

    def __init__(self, connection: Connection, step: int) -> None:
        self._connection = connection
        self._left = step

    @property
    def fired(self) -> bool:
        return self._left <= 0

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        if task.name.startswith(CONNECTION) and self._left > 0:
            self._left -= 1
            if not self._left:
                self._connection.close(End.BROKEN)


async def test_a_connection_that_ends_at_any_step_leaves_nothing(server: Server) -> None:
    node, address = server.node, server.addresses[0]
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, bob) as b:
        await b.ok(Kind.DIRECT, toid=alice, msg="missed")
    async with connect(address) as wire:
        token = (await wire.ok(Kind.LOGIN, id=alice, password="secret"))["token"]
    with trio.fail_after(10):
        while node.router.accounts:
            await trio.sleep(0.001)
    requests: list[dict[str, object]] = [
        {"msgid": 20, "version": 1},
        {"msgid": 1, "token": token},
        {"msgid": 6, "toid": bob, "msg": "x"},
        {"msgid": 27, "conv": f"d:{alice}:{bob}"},
        {"msgid": 28},
    ]
    step, fired = 0, True
    while fired:
        step += 1
        connection = Connection(node, Script(*requests))
        node.connections[connection] = None
        sweep = CloseAtStep(connection, step)
        trio.lowlevel.add_instrument(sweep)
        try:
            with trio.fail_after(10):
                await connection.run()
        finally:
            trio.lowlevel.remove_instrument(sweep)
        fired = sweep.fired
        assert not node.router.accounts, step
        with trio.fail_after(10):
            while node.presence.busy or node.writer.queued:
                await trio.sleep(0.001)
        statistics = dict(node.router.statistics())
        assert (statistics["accounts"], statistics["conversations"], statistics["holes"]) == (0, 0, 0), step
    assert step > 10
    # Whoever was swept away is offline, and every message that was stored is there, once, without a hole.
    async with log_in(address, alice, modern=False), log_in(address, bob) as b:
        history = (await b.ok(Kind.HISTORY, conv=f"d:{alice}:{bob}", after=0, limit=200))["messages"]
        assert [m["seq"] for m in history] == list(range(1, len(history) + 1))
