"""Leaving groups, being removed, blocking, being disabled: at once where it happens, and within moments on other nodes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import pytest
import trio

from tests.server.deaf import deaf_nodes
from tests.wire import Frame, Wire, WireClosed, connect, log_in, register
from trio_chat import Server
from trio_chat.services.login_reads import LoginReads
from trio_chat.store.log import MessageLog
from trio_chat.store.relations import Relations
from trio_chat.wire.messages import Kind

NAMES = ("alice", "bob", "carol")


@pytest.fixture
async def nodes(tmp_path: Path) -> AsyncIterator[list[Server]]:
    """Two that hear nothing of each other, but look at the database every twentieth of a second."""
    async with deaf_nodes(tmp_path, sweep=0.05) as servers:
        yield servers


@asynccontextmanager
async def people(*servers: Server) -> AsyncIterator[list[Wire]]:
    """Alice is on the first node, and so on; all know each other's ids by their order."""
    async with AsyncExitStack() as stack:
        for name in NAMES:
            await register(servers[0].addresses[0], name)
        yield [
            await stack.enter_async_context(log_in(servers[place % len(servers)].addresses[0], name))
            for place, name in enumerate(NAMES)
        ]


async def group_of(creator: Wire, *members: Wire) -> int:
    group: int = (await creator.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
    for member in members:
        await member.ok(Kind.JOIN_GROUP, groupid=group)
    return group


async def until_refused(wire: Wire, kind: Kind, **fields: object) -> Frame:
    """Ask until it is refused, as it will be within moments."""
    with trio.fail_after(10):
        while (answer := await wire.call(kind, **fields)).get("errno", 0) == 0:
            await trio.sleep(0.02)
    return answer


# -- groups ---------------------------------------------------------------------------------------------------------------


async def test_who_leaves_gets_nothing_more_and_the_rest_has_no_hole(server: Server) -> None:
    async with people(server) as (alice, bob, carol), log_in(server.addresses[0], "bob") as phone:
        group = await group_of(alice, bob, carol)
        await bob.ok(Kind.GROUP, groupid=group, msg="one")
        await phone.receive(Kind.GROUP)
        await bob.ok(Kind.LEAVE_GROUP, groupid=group)
        assert await phone.receive() == {"msgid": Kind.LEAVE_GROUP, "groupid": group}
        assert (await alice.ok(Kind.GROUP, groupid=group, msg="two"))["seq"] == 2
        for wire in (bob, phone):
            for kind, fields in (
                (Kind.GROUP, {"groupid": group, "msg": "x"}),
                (Kind.HISTORY, {"conv": f"g:{group}"}),
                (Kind.LEAVE_GROUP, {"groupid": group}),
            ):
                assert (await wire.call(kind, **fields))["error"] == "not_a_member"
            assert (await wire.ok(Kind.CONVERSATIONS))["conversations"] == []
            await wire.quiet()
        # What he receives or reads now moves nothing.
        await bob.send(Kind.RECEIVED, conv=f"g:{group}", seq=2)
        assert [message["seq"] for message in await carol.messages(2)] == [1, 2]
        # Again a member, he goes on where the group is; what was said meanwhile is history.
        await bob.ok(Kind.JOIN_GROUP, groupid=group)
        assert (await carol.ok(Kind.GROUP, groupid=group, msg="three"))["seq"] == 3
        for wire in (bob, phone):
            assert [message["seq"] for message in await wire.messages(1)] == [3]
        page = await bob.ok(Kind.HISTORY, conv=f"g:{group}")
        assert [message["seq"] for message in page["messages"]] == [1, 2, 3]
    assert server.node.router.holes == 0


async def test_who_left_comes_back_without_the_group(server: Server) -> None:
    async with people(server) as (alice, bob, _):
        group = await group_of(alice, bob)
        await alice.ok(Kind.GROUP, groupid=group, msg="not received")
        await bob.ok(Kind.LEAVE_GROUP, groupid=group)
    async with log_in(server.addresses[0], "bob") as bob:
        assert bob.ack["groups"] == []
        await bob.quiet()


async def test_leaving_behind_messages_that_are_on_their_way(server: Server) -> None:
    """Each is answered, whatever becomes of its place."""
    async with people(server) as (alice, bob, _):
        group = await group_of(alice, bob)
        for number in range(50):
            await bob.send(Kind.GROUP, ref=number, groupid=group, msg="x")
        await bob.send(Kind.LEAVE_GROUP, ref="leave", groupid=group)
        answers = [await bob.receive(Kind.REPLY) for _ in range(51)]
        assert [answer["ref"] for answer in answers] == [*range(50), "leave"]
        assert [message["seq"] for message in await alice.messages(50)] == list(range(1, 51))
        assert (await alice.ok(Kind.GROUP, groupid=group, msg="x"))["seq"] == 51


async def test_the_creators_role_is_inherited(server: Server) -> None:
    async with people(server) as (alice, bob, carol):
        group = await group_of(alice, bob, carol)
        await alice.ok(Kind.LEAVE_GROUP, groupid=group)
        assert (await carol.call(Kind.REMOVE_MEMBER, groupid=group, userid=2))["error"] == "forbidden"
        users = (await carol.ok(Kind.GROUP_INFO, groupid=group))["group"]["users"]
        assert [(user["name"], user["role"]) for user in users] == [("bob", "creator"), ("carol", "normal")]
        for wire in (bob, carol):
            await wire.ok(Kind.LEAVE_GROUP, groupid=group)
        # Nobody is left: who comes then is the creator.
        (member,) = (await carol.ok(Kind.JOIN_GROUP, groupid=group))["group"]["users"]
        assert member["role"] == "creator"
        assert (await carol.ok(Kind.GROUP, groupid=group, msg="hello"))["seq"] == 1


async def test_who_was_removed_comes_back_only_when_the_creator_lets_him(server: Server) -> None:
    async with people(server) as (alice, bob, carol):
        group = await group_of(alice, bob)
        assert (await carol.call(Kind.REMOVE_MEMBER, groupid=group, userid=2))["error"] == "not_a_member"
        assert (await alice.call(Kind.REMOVE_MEMBER, groupid=group, userid=1))["error"] == "bad_request"
        assert (await alice.call(Kind.REMOVE_MEMBER, groupid=group, userid=99))["error"] == "no_such_user"
        assert (await alice.call(Kind.REMOVE_MEMBER, groupid=99, userid=2))["error"] == "no_such_group"
        await alice.ok(Kind.REMOVE_MEMBER, groupid=group, userid=2)
        assert await bob.receive() == {"msgid": Kind.LEAVE_GROUP, "groupid": group}
        assert (await bob.call(Kind.JOIN_GROUP, groupid=group))["error"] == "forbidden"
        await alice.ok(Kind.REMOVE_MEMBER, groupid=group, userid=2, barred=False)
        await bob.ok(Kind.JOIN_GROUP, groupid=group)
        await alice.ok(Kind.REMOVE_MEMBER, groupid=group, userid=2, barred=False)
        await bob.ok(Kind.JOIN_GROUP, groupid=group)


async def test_another_node_that_hears_nothing_stops_delivering_within_moments(nodes: list[Server]) -> None:
    async with people(*nodes) as (alice, bob, _):
        group = await group_of(alice, bob)
        await bob.ok(Kind.GROUP, groupid=group, msg="here")
        await alice.ok(Kind.REMOVE_MEMBER, groupid=group, userid=2)
        assert (await bob.receive(Kind.LEAVE_GROUP, within=10)) == {"msgid": Kind.LEAVE_GROUP, "groupid": group}
        for number in range(5):
            await alice.ok(Kind.GROUP, groupid=group, msg=str(number))
        await trio.sleep(0.2)
        await bob.quiet()
        assert (await bob.call(Kind.HISTORY, conv=f"g:{group}"))["error"] == "not_a_member"
        # And the other way round: a membership that began elsewhere is known as soon as it is asked for.
        await alice.ok(Kind.REMOVE_MEMBER, groupid=group, userid=2, barred=False)
        await bob.ok(Kind.JOIN_GROUP, groupid=group)
        await alice.ok(Kind.GROUP, groupid=group, msg="again")
        assert [message["msg"] for message in await bob.messages(1, within=10)] == ["again"]


async def test_a_hint_that_comes_after_its_opposite_lets_nobody_in(server: Server) -> None:
    async with people(server) as (alice, bob, _):
        group = await group_of(alice, bob)
        await bob.ok(Kind.LEAVE_GROUP, groupid=group)
        router = server.node.router
        server.node.hints.receive([("u:2", b"another node\n[2,%d]" % group)])
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert router.accounts[2].groups == {}
        assert (await bob.call(Kind.HISTORY, conv=f"g:{group}"))["error"] == "not_a_member"


@asynccontextmanager
async def held(monkeypatch: pytest.MonkeyPatch, where: type, name: str) -> AsyncIterator[None]:
    """The next time that something is read, inside: what it says is old when it is taken."""
    read = getattr(where, name)
    reached, go_on = trio.Event(), trio.Event()

    async def slow(*args: object) -> object:
        monkeypatch.setattr(where, name, read)
        found = await read(*args)
        reached.set()
        await go_on.wait()
        return found

    monkeypatch.setattr(where, name, slow)
    try:
        yield
        with trio.fail_after(5):
            await reached.wait()
    finally:
        go_on.set()


async def test_what_was_read_before_he_came_back_does_not_end_his_membership(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with people(server) as (alice, bob, _):
        group = await group_of(alice, bob)
        await bob.ok(Kind.LEAVE_GROUP, groupid=group)
        async with held(monkeypatch, MessageLog, "cursor"):
            server.node.relationships._doubts.membership(2, group)
            await trio.testing.wait_all_tasks_blocked(0.02)
            await bob.ok(Kind.JOIN_GROUP, groupid=group)
            await alice.ok(Kind.GROUP, groupid=group, msg="one")
            assert (await bob.receive(Kind.GROUP))["seq"] == 1
        await bob.quiet()
        assert list(server.node.router.accounts[2].groups) == [group]


async def test_what_a_login_read_before_he_left_makes_him_no_member(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with people(server) as (alice, bob, _), connect(server.addresses[0]) as phone:
        group = await group_of(alice, bob)
        await phone.ok(Kind.HELLO, version=1)
        async with held(monkeypatch, LoginReads, "states"):
            await phone.send(Kind.LOGIN, name="bob", password="secret")
            await trio.testing.wait_all_tasks_blocked(0.02)
            await bob.ok(Kind.LEAVE_GROUP, groupid=group)
        await phone.receive(Kind.LOGIN_ACK)
        await alice.ok(Kind.GROUP, groupid=group, msg="one")
        await bob.quiet()
        await phone.quiet()


# -- blocking -------------------------------------------------------------------------------------------------------------


async def test_who_is_blocked_is_told_nothing_more_and_says_nothing_more(server: Server) -> None:
    async with people(server) as (alice, bob, carol), log_in(server.addresses[0], "bob") as phone:
        await bob.ok(Kind.DIRECT, toid=1, msg="hello")
        await alice.messages(1)
        await phone.messages(1)
        await bob.ok(Kind.ADD_FRIEND, friendid=1)
        await alice.ok(Kind.ADD_FRIEND, friendid=2)
        await alice.ok(Kind.BLOCK, userid=2)
        for wire, other in ((bob, 1), (phone, 1), (alice, 2)):
            assert await wire.receive() == {"msgid": Kind.PRESENCE, "id": other, "state": "offline"}
            assert (await wire.call(Kind.DIRECT, toid=other, msg="x"))["error"] == "forbidden"
            assert (await wire.call(Kind.ADD_FRIEND, friendid=other))["error"] == "forbidden"
            # Quietly, so that nobody can tell by it.
            await wire.ok(Kind.TYPING, conv="d:1:2")
        await alice.ok(Kind.READ, conv="d:1:2", seq=1)
        (row,) = (await bob.ok(Kind.CONVERSATIONS))["conversations"]
        assert (row["peer_received_seq"], row["peer_read_seq"]) == (0, 0)
        assert (await bob.ok(Kind.FIND_USER, name="alice"))["user"]["state"] == "offline"
        assert (await carol.ok(Kind.FIND_USER, name="alice"))["user"]["state"] == "online"
        group = await group_of(alice, bob)
        users = (await bob.ok(Kind.GROUP_INFO, groupid=group))["group"]["users"]
        assert [user["state"] for user in users] == ["offline", "online"]
        for wire in (alice, bob, phone):
            await wire.quiet()
        await carol.ok(Kind.DIRECT, toid=1, msg="others may")
        await alice.messages(1)
        async with log_in(server.addresses[0], "bob") as tablet:
            assert [friend["state"] for friend in tablet.ack["friends"]] == ["offline"]
        # Both have blocked each other: one unblocking is not enough.
        await bob.ok(Kind.BLOCK, userid=1)
        await alice.ok(Kind.UNBLOCK, userid=2)
        assert (await alice.ok(Kind.BLOCKED))["users"] == []
        assert (await bob.ok(Kind.BLOCKED))["users"] == [{"id": 1, "name": "alice"}]
        assert (await bob.call(Kind.DIRECT, toid=1, msg="x"))["error"] == "forbidden"
        await bob.ok(Kind.UNBLOCK, userid=1)
        assert (await bob.receive(Kind.PRESENCE)) == {"msgid": Kind.PRESENCE, "id": 1, "state": "online"}
        assert (await bob.ok(Kind.DIRECT, toid=1, msg="x"))["seq"] == 2


async def test_what_was_read_before_a_block_was_taken_back_does_not_bring_it_back(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with people(server) as (alice, bob, _):
        await alice.ok(Kind.BLOCK, userid=2)
        await trio.testing.wait_all_tasks_blocked(0.02)
        async with held(monkeypatch, Relations, "apart"):
            server.node.relationships._doubts.apart(2)
            await trio.testing.wait_all_tasks_blocked(0.02)
            # The block ends as another node would end it, and is read here.
            await Relations(server.node.relationships._relations.database).unblock(1, 2)
            await server.node.relationships._find_apart(2)
        await trio.testing.wait_all_tasks_blocked(0.02)
        assert server.node.router.accounts[2].apart == set()
        assert (await bob.call(Kind.DIRECT, toid=1, msg="Alice?"))["errno"] == 0


async def test_blocking_nobody(server: Server) -> None:
    async with people(server) as (alice, _, __):
        assert (await alice.call(Kind.BLOCK, userid=1))["error"] == "bad_request"
        assert (await alice.call(Kind.BLOCK, userid=99))["error"] == "no_such_user"
        await alice.ok(Kind.UNBLOCK, userid=99)
        await alice.ok(Kind.BLOCK, userid=2)
        await alice.ok(Kind.BLOCK, userid=2)
        assert (await alice.ok(Kind.BLOCKED))["users"] == [{"id": 2, "name": "bob"}]


async def test_another_node_that_hears_nothing_knows_of_a_block_within_moments(nodes: list[Server]) -> None:
    async with people(*nodes) as (alice, bob, _):
        await bob.ok(Kind.ADD_FRIEND, friendid=1)
        await alice.ok(Kind.BLOCK, userid=2)
        assert (await until_refused(bob, Kind.DIRECT, toid=1, msg="x"))["error"] == "forbidden"
        assert (await bob.receive(Kind.PRESENCE, within=10))["state"] == "offline"
        await alice.ok(Kind.UNBLOCK, userid=2)
        assert (await bob.receive(Kind.PRESENCE, within=10))["state"] == "online"


# -- disabled accounts ----------------------------------------------------------------------------------------------------


async def test_a_disabled_accounts_sessions_end_on_every_node(nodes: list[Server]) -> None:
    relations = Relations(nodes[0].node.messages.database)
    async with people(*nodes) as (alice, bob, carol), log_in(nodes[0].addresses[0], "bob") as phone:
        token = bob.ack["token"]
        await alice.ok(Kind.ADD_FRIEND, friendid=2)
        assert await relations.disable("bob") == 2
        for wire in (bob, phone):
            farewell = await wire.receive(within=10)
            assert (farewell["msgid"], farewell["error"]) == (Kind.REPLY, "login_revoked")
            with pytest.raises(WireClosed):
                await wire.receive()
        assert (await alice.receive(Kind.PRESENCE, within=10))["state"] == "offline"
        # Nobody sees him come, not for a moment.
        async with connect(nodes[0].addresses[0]) as other:
            assert (await other.call(Kind.LOGIN, token=token))["error"] == "bad_credentials"
            assert (await other.call(Kind.LOGIN, name="bob", password="secret"))["error"] == "forbidden"
        await alice.quiet()
        # What is written to him waits for him.
        await carol.ok(Kind.DIRECT, toid=2, msg="where are you?")
        assert await relations.enable("bob") == 2
        async with log_in(nodes[1].addresses[0], "bob") as bob:
            assert [message["msg"] for message in await bob.messages(1)] == ["where are you?"]
            await trio.sleep(0.2)
            await bob.quiet()
