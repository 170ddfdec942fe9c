"""What happens between the moment a login has read the database and the moment it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import pytest
import trio

from tests.wire import Wire, connect, log_in, register
from trio_chat import Address
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.wire.messages import Kind


class Slow:
    """Holds the next login at the point where it has read its cursors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read = MessageLog.cursors
        self._monkeypatch = monkeypatch

    @asynccontextmanager
    async def login(self, wire: Wire, userid: int) -> AsyncIterator[None]:
        reached, go_on = trio.Event(), trio.Event()
        read: Callable[[MessageLog, int], Awaitable[list[Cursor]]] = self._read

        async def held(log: MessageLog, of: int) -> list[Cursor]:
            cursors = await read(log, of)
            reached.set()
            await go_on.wait()
            return cursors

        with self._monkeypatch.context() as patch:
            patch.setattr(MessageLog, "cursors", held)
            await wire.send(Kind.LOGIN, id=userid, password="secret")
            with trio.fail_after(5):
                await reached.wait()
            patch.setattr(MessageLog, "cursors", self._read)
            yield
            go_on.set()
            assert (await wire.receive(Kind.LOGIN_ACK))["errno"] == 0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


async def received_seq(wire: Wire, conv: str) -> int:
    found = {each["conv"]: each for each in (await wire.ok(Kind.CONVERSATIONS))["conversations"]}
    seq: int = found[conv]["received_seq"]
    return seq


@pytest.mark.parametrize("before", [0, 1, 3], ids=["a first message", "a second", "later"])
@pytest.mark.parametrize("device", ["first", "second"])
async def test_a_message_that_comes_during_a_login(address: Address, slow: Slow, before: int, device: str) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, bob) as b, connect(address) as wire, connect(address) as other:
        if before:
            async with log_in(address, alice) as earlier:
                for _ in range(before):
                    await b.ok(Kind.DIRECT, toid=alice, msg="before")
                await earlier.messages(before)
                await earlier.send(Kind.RECEIVED, conv=conv, seq=before)
                assert await received_seq(earlier, conv) == before
        if device == "second":
            await other.ok(Kind.LOGIN, id=alice, password="secret")
        async with slow.login(wire, alice):
            await b.ok(Kind.DIRECT, toid=alice, msg="during")
        await b.ok(Kind.DIRECT, toid=alice, msg="after")
        assert [m["seq"] for m in await wire.messages(2)] == [before + 1, before + 2]
        await wire.quiet()
        # It is not received before the client says so, not even where he answers,
        await wire.ok(Kind.DIRECT, toid=bob, msg="answer")
        assert await received_seq(wire, conv) == before
        # and it is as soon as he does.
        await wire.send(Kind.RECEIVED, conv=conv, seq=before + 3)
        assert await received_seq(wire, conv) == before + 3


async def test_what_was_not_received_comes_again(address: Address, slow: Slow) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, bob) as b, log_in(address, alice) as a:
        await b.ok(Kind.DIRECT, toid=alice, msg="before")
        await a.messages(1)
        await a.send(Kind.RECEIVED, conv=f"d:{alice}:{bob}", seq=1)
        await a.quiet()
        async with connect(address) as wire:
            await a.aclose()
            async with slow.login(wire, alice):
                await b.ok(Kind.DIRECT, toid=alice, msg="during")
            await wire.ok(Kind.DIRECT, toid=bob, msg="answer")
        async with log_in(address, alice) as again:
            assert [m["msg"] for m in await again.messages(1)] == ["during"]


async def test_a_group_message_that_comes_during_a_login(address: Address, slow: Slow) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, bob) as b, connect(address) as wire, log_in(address, alice) as a:
        old = (await b.ok(Kind.CREATE_GROUP, groupname="old"))["groupid"]
        new = (await b.ok(Kind.CREATE_GROUP, groupname="new"))["groupid"]
        await a.ok(Kind.JOIN_GROUP, groupid=old)
        async with slow.login(wire, alice):
            await b.ok(Kind.GROUP, groupid=old, msg="o1")
            await a.ok(Kind.JOIN_GROUP, groupid=new)
            await b.ok(Kind.GROUP, groupid=new, msg="n1")
        await b.ok(Kind.GROUP, groupid=old, msg="o2")
        await b.ok(Kind.GROUP, groupid=new, msg="n2")
        got = await wire.messages(4)
        assert [m["msg"] for m in got if m["groupid"] == old] == ["o1", "o2"]
        assert [m["msg"] for m in got if m["groupid"] == new] == ["n1", "n2"]
        for group in (old, new):
            await wire.send(Kind.RECEIVED, conv=f"g:{group}", seq=2)
            assert await received_seq(wire, f"g:{group}") == 2
