"""Memberships and blocks on two nodes with Redis: at once, although nobody looks at the database for a minute."""

from __future__ import annotations

import attrs
import pytest

from tests.wire import log_in, register
from trio_chat import Server, Settings
from trio_chat.wire.messages import Kind


@pytest.fixture
def settings(settings: Settings) -> Settings:
    return attrs.evolve(settings, sweep=60.0)


async def test_the_bus_tells_of_memberships_and_blocks(nodes: tuple[Server, Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(one, alice) as a, log_in(two, bob) as b, log_in(one, bob) as phone:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        await phone.ok(Kind.JOIN_GROUP, groupid=group)
        await b.ok(Kind.GROUP, groupid=group, msg="hello")
        await a.ok(Kind.REMOVE_MEMBER, groupid=group, userid=bob)
        for wire in (b, phone):
            assert await wire.receive(Kind.LEAVE_GROUP) == {"msgid": Kind.LEAVE_GROUP, "groupid": group}
            assert (await wire.call(Kind.HISTORY, conv=f"g:{group}"))["error"] == "not_a_member"
        await a.ok(Kind.GROUP, groupid=group, msg="without him")
        await b.ok(Kind.ADD_FRIEND, friendid=alice)
        await a.ok(Kind.BLOCK, userid=bob)
        assert (await b.receive(Kind.PRESENCE))["state"] == "offline"
        assert (await b.call(Kind.DIRECT, toid=alice, msg="?"))["error"] == "forbidden"
        await a.ok(Kind.UNBLOCK, userid=bob)
        assert (await b.receive(Kind.PRESENCE))["state"] == "online"
        assert (await b.ok(Kind.DIRECT, toid=alice, msg="!"))["seq"] == 1
        await phone.messages(2)
        await b.quiet()
