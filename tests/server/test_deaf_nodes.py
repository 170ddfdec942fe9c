"""Two nodes that hear nothing of each other, for as long as a test lasts: what a login brings reaches everybody here."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from pathlib import Path

import pytest

from tests.server.deaf import deaf_nodes
from tests.wire import log_in, register
from trio_chat import Server
from trio_chat.store.groups import GroupRecord, Groups
from trio_chat.store.log import Cursor
from trio_chat.wire.messages import Kind


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Server]]:
    """With no look at the database."""
    async with deaf_nodes(tmp_path, sweep=1000.0) as servers:
        yield servers


async def test_a_conversation_that_began_elsewhere_reaches_who_was_here_when_the_other_logs_in(
    nodes: list[Server],
) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(one, alice) as a, log_in(one, alice) as a2, log_in(two, bob) as b:
        for number in range(3):
            await b.ok(Kind.DIRECT, toid=alice, msg=str(number))
        async with log_in(one, bob) as b2:
            for wire in (a, a2):
                assert [message["seq"] for message in await wire.messages(3)] == [1, 2, 3]
            await b2.ok(Kind.DIRECT, toid=alice, msg="next")
            assert (await a.receive())["seq"] == 4


async def test_a_conversation_that_began_elsewhere_reaches_ones_other_device_here(nodes: list[Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(one, alice) as a, log_in(two, bob) as b:
        for number in range(3):
            await b.ok(Kind.DIRECT, toid=alice, msg=str(number))
        async with log_in(one, alice) as a2:
            for wire in (a, a2):
                assert [message["seq"] for message in await wire.messages(3)] == [1, 2, 3]


async def test_a_group_that_was_joined_elsewhere_reaches_ones_other_device_here(nodes: list[Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(one, alice) as a, log_in(two, bob) as b, log_in(two, alice) as elsewhere:
        group = (await b.ok(Kind.CREATE_GROUP, groupname="climbers"))["groupid"]
        await elsewhere.ok(Kind.JOIN_GROUP, groupid=group)
        await b.ok(Kind.GROUP, groupid=group, msg="hello")
        async with log_in(one, alice) as a2:
            for wire in (a, a2):
                assert [message["seq"] for message in await wire.messages(1)] == [1]


async def test_a_group_that_was_joined_while_a_login_read_comes_once(
    nodes: list[Server], monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(two, bob) as b, log_in(two, alice) as elsewhere:
        group = (await b.ok(Kind.CREATE_GROUP, groupname="climbers"))["groupid"]
        read = Groups.of

        async def join_after_reading(self: Groups, userids: Sequence[int]) -> dict[int, list[GroupRecord]]:
            groups = await read(self, userids)
            await elsewhere.ok(Kind.JOIN_GROUP, groupid=group)
            await b.ok(Kind.GROUP, groupid=group, msg="hello")
            return groups

        monkeypatch.setattr(Groups, "of", join_after_reading)
        async with log_in(one, alice) as a:
            assert [message["seq"] for message in await a.messages(1)] == [1]
            # What the bus says of it comes late.
            nodes[0].node.router.joined(alice, group, Cursor(f"g:{group}", 0, 0, 1))
            assert (await a.ok(Kind.GROUP, groupid=group, msg="hello, too"))["seq"] == 2
            await a.quiet()
