"""Two accounts in turn on one connection: nothing of the one's is the other's."""

from __future__ import annotations

import pytest
import trio
import trio.testing

from tests.wire import Wire, connect, log_in, register
from trio_chat import Address, Server
from trio_chat.connection import Connection
from trio_chat.wire.messages import Kind


async def received_seq(wire: Wire, conv: str) -> int:
    found = {each["conv"]: each for each in (await wire.ok(Kind.CONVERSATIONS))["conversations"]}
    seq: int = found[conv]["received_seq"]
    return seq


async def group_of(address: Address, *names: str) -> int:
    """A group whose first member, its creator, has logged out again like all others."""
    first, *others = names
    async with log_in(address, first) as wire:
        groupid: int = (await wire.ok(Kind.CREATE_GROUP, groupname="group"))["groupid"]
    for name in others:
        async with log_in(address, name) as wire:
            await wire.ok(Kind.JOIN_GROUP, groupid=groupid)
    return groupid


@pytest.mark.settings(pace=0.2)
async def test_what_one_account_was_sent_is_not_received_by_the_next(address: Address) -> None:
    """A classic client whose frames go out one by one: most of them wait when he logs out."""
    alice, bob, _ = [await register(address, name) for name in ("alice", "bob", "carol")]
    groupid = await group_of(address, "carol", "alice", "bob")
    async with log_in(address, "carol") as carol:
        async with connect(address, modern=False, terminator=b"\0") as wire:
            await wire.send(Kind.LOGIN, id=alice, password="secret")
            assert (await wire.receive())["id"] == alice
            for number in range(1, 5):
                await carol.ok(Kind.GROUP, groupid=groupid, msg=f"{number} " + "x" * 700)
            await wire.receive()
            await wire.send(Kind.LOGOUT)
            await wire.send(Kind.LOGIN, id=bob, password="secret")
            shown = [await wire.receive()]
            while shown[-1]["msgid"] != Kind.LOGIN_ACK:
                shown.append(await wire.receive())
            assert shown[-1]["id"] == bob
            # Alice's frames were dropped, but for one that may have been begun.
            assert len(shown) <= 2
            got = shown[-1].get("offlinemsg", [])
            while len(got) < 4:
                got.append(await wire.receive())
        # What was handed over to alice was received by her and by nobody else.
        for name, least, most in (("alice", 1, 2), ("bob", 3, 4)):
            async with log_in(address, name) as again:
                assert least <= await received_seq(again, f"g:{groupid}") <= most


class Stalling:
    """A client's end whose kernel takes what it is told to."""

    peer = "stalling"

    def __init__(self, *requests: bytes) -> None:
        self.requests, self._incoming = trio.open_memory_channel[bytes](100)
        self.takes = 1 << 20
        self.sent = b""
        self._writable = trio.Event()

    def go_on(self) -> None:
        self.takes = 1 << 20
        self._writable.set()

    async def receive(self) -> bytes:
        return await self._incoming.receive()

    def send_nowait(self, data: bytes) -> int:
        taken = data[: self.takes]
        self.takes -= len(taken)
        self.sent += taken
        return len(taken)

    async def wait_writable(self) -> None:
        await self._writable.wait()

    def end(self) -> None:
        pass

    def close(self) -> None:
        pass


async def test_a_frame_that_was_begun_before_a_logout_is_finished_for_its_account(server: Server) -> None:
    address = server.addresses[0]
    alice, bob, _ = [await register(address, name) for name in ("alice", "bob", "carol")]
    groupid = await group_of(address, "carol", "alice", "bob")
    transport = Stalling()

    async def until(condition: str) -> None:
        with trio.fail_after(5):
            while condition.encode() not in transport.sent:
                await trio.sleep(0.001)

    async with log_in(address, "carol") as carol, trio.open_nursery() as nursery:
        connection = Connection(server.node, transport)
        nursery.start_soon(connection.run)
        await transport.requests.send(b'{"msgid":1,"id":%d,"password":"secret"}\n' % alice)
        await until('"errno":0,"id":%d' % alice)
        transport.takes = 10  # of the first frame
        for number in range(3):
            await carol.ok(Kind.GROUP, groupid=groupid, msg=f"message {number}")
        await transport.requests.send(b'{"msgid":3}\n{"msgid":1,"id":%d,"password":"secret"}\n' % bob)
        with trio.fail_after(5):
            while bob not in server.node.router.accounts:
                await trio.sleep(0.001)
        transport.go_on()
        await until("message 2")
        assert transport.sent.count(b"message 0") == 2
        assert transport.sent.count(b"message 2") == 1
        connection.close("test")
    for name, seq in (("alice", 1), ("bob", 3)):
        async with log_in(address, name) as again:
            assert await received_seq(again, f"g:{groupid}") == seq
