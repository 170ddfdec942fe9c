"""Two accounts in turn on one connection: nothing of the one's is the other's."""

from __future__ import annotations

import pytest

from tests.server.stalling import eventually, stalling
from tests.wire import Wire, connect, log_in, register
from trio_chat import Address, Server
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


async def test_a_frame_that_was_begun_before_a_logout_is_finished_for_its_account(server: Server) -> None:
    address = server.addresses[0]
    alice, bob, _ = [await register(address, name) for name in ("alice", "bob", "carol")]
    groupid = await group_of(address, "carol", "alice", "bob")
    async with log_in(address, "carol") as carol, stalling(server) as (connection, client):
        client.request(Kind.LOGIN, id=alice, password="secret")
        await eventually(lambda: client.frames)
        client.takes = 10  # of the first frame
        for number in range(3):
            await carol.ok(Kind.GROUP, groupid=groupid, msg=f"message {number}")
        client.request(Kind.LOGOUT)
        client.request(Kind.LOGIN, id=bob, password="secret")
        await eventually(lambda: connection.account and connection.account.id == bob)
        client.go_on()
        await eventually(lambda: len(client.frames) == 3)
        assert client.frames[1]["msg"] == "message 0"
        assert len(client.frames[2]["offlinemsg"]) == 3
    for name, seq in (("alice", 1), ("bob", 3)):
        async with log_in(address, name) as again:
            assert await received_seq(again, f"g:{groupid}") == seq
