"""What has to be sent to very many is sent in turns, and whoever sent a message hears of it before them."""

from __future__ import annotations

from contextlib import AsyncExitStack

import pytest
import trio

from tests.server.stalling import Stalling, eventually, stalling_as
from tests.wire import register
from trio_chat import Address, Server
from trio_chat.wire.messages import Kind

_TURN = 8


@pytest.fixture(autouse=True)
def _short_turns(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_chat.fanout._AT_ONCE", _TURN)


def _received(client: Stalling) -> int:
    return sum(frame["msgid"] == Kind.DIRECT for frame in client.frames)


async def test_very_many_are_sent_to_in_turns(server: Server, address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with AsyncExitStack() as stack:
        _, sender = await stack.enter_async_context(stalling_as(server, alice))
        receivers = [(await stack.enter_async_context(stalling_as(server, bob)))[1] for _ in range(2 * _TURN + 10)]
        heard: list[tuple[int, bool]] = []

        async def watch() -> None:
            count = 0
            while count < len(receivers):
                count = sum(map(_received, receivers))
                if not heard or heard[-1][0] != count:
                    heard.append((count, sender.frames[-1]["msgid"] == Kind.REPLY))
                await trio.lowlevel.checkpoint()

        with trio.fail_after(10):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(watch)
                sender.request(Kind.DIRECT, toid=bob, msg="to all of them")
    # The sender was among the first, and other tasks ran between the turns: not between all of them, as Trio has its own order.
    counts = [count for count, _ in heard]
    assert set(counts) <= {0, _TURN - 1, 2 * _TURN - 1, 3 * _TURN - 1, len(receivers)}
    assert len(counts) > 2
    assert all(answered == (count > 0) for count, answered in heard)


async def test_who_is_told_something_meanwhile_waits_for_his_turn(server: Server, address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with AsyncExitStack() as stack:
        connection, client = await stack.enter_async_context(stalling_as(server, alice))
        receivers = [await stack.enter_async_context(stalling_as(server, bob)) for _ in range(_TURN + 1)]
        for receiver, _ in receivers:
            receiver.answer(Kind.REPLY, 1, {})
        router = server.node.router
        router.flush()
        connection.answer(Kind.REPLY, 2, {})
        router.flush()
        last = receivers[-1][1]
        assert last.frames[-1]["msgid"] == client.frames[-1]["msgid"] == Kind.LOGIN_ACK
        await eventually(lambda: client.frames[-1].get("ref") == 2)
        assert last.frames[-1]["ref"] == 1
        # It is over: now it is sent at once again.
        connection.answer(Kind.REPLY, 3, {})
        router.flush()
        assert client.frames[-1]["ref"] == 3
