"""One's own account over the wire: changing its password, ending its logins, its data, its end; on one node and on two."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.wire import Frame, Wire, WireClosed, connect, log_in, register
from trio_chat import Address, Limits, Server, Settings
from trio_chat.assembly import Foundation
from trio_chat.bus.local import LocalBus, LocalHub
from trio_chat.errors import BadCredentials
from trio_chat.services.passwords import Passwords
from trio_chat.services.tokens import Origin
from trio_chat.serving import open_node
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import accept_loop, listen
from trio_chat.wire.messages import Kind


@pytest.fixture(params=["hints", "looks"])
async def nodes(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[list[Server]]:
    """Two on one database: one hears of the other by the bus and looks never, or has no bus and looks often."""
    hub = LocalHub()
    hints = request.param == "hints"
    settings = Settings(bus="redis://nowhere", sweep=1000.0 if hints else 0.05)
    async with SQLite.open(tmp_path / "chat.db") as database, AsyncExitStack() as stack:
        await migrate(database)
        servers = []
        for name in ("one", "two"):
            (listener,) = listen(Address("127.0.0.1", 0))
            poller = Poller()
            foundation = Foundation(
                name=name,
                database=database,
                place="here",
                alone=False,
                bus=LocalBus(hub if hints else None),
                passwords=Passwords(10),
                sources=[partial(accept_loop, listener, poller)],
                addresses=[Address(*listener.getsockname())],
                carriers=[poller.run],
            )
            servers.append(await stack.enter_async_context(open_node(settings, foundation)))
        yield servers


async def refused_token(address: Address, token: str) -> None:
    async with connect(address) as wire:
        assert (await wire.call(Kind.LOGIN, token=token))["error"] == "bad_credentials"


async def dismissed(wire: Wire) -> None:
    """The connection is told that its login was revoked, and closed."""
    frame = await wire.receive(Kind.REPLY)
    assert (frame["errno"], frame["error"], "ref" in frame) == (105, "login_revoked", False)
    with pytest.raises(WireClosed):
        while True:
            await wire.receive()


async def logins(wire: Wire) -> list[Frame]:
    listed: list[Frame] = (await wire.ok(Kind.LOGINS))["logins"]
    return listed


# -- on two nodes -----------------------------------------------------------------------------------------------------------


async def test_a_new_password_ends_all_other_logins_on_every_node(nodes: list[Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    await register(one, "alice")
    async with log_in(one, "alice") as a, log_in(one, "alice") as same, log_in(two, "alice") as other:
        wrong = await a.call(Kind.CHANGE_PASSWORD, password="wrong", newpassword="a new secret")
        assert (wrong["msgid"], wrong["errno"], wrong["error"]) == (Kind.REPLY, 1, "bad_credentials")
        await other.quiet()
        await a.ok(Kind.CHANGE_PASSWORD, password="secret", newpassword="a new secret")
        await dismissed(same)
        await dismissed(other)
        for wire in (same, other):
            await refused_token(two, wire.ack["token"])
        await a.quiet()
        (login,) = await logins(a)
        assert login["current"]
        async with connect(two) as again:
            assert (await again.call(Kind.LOGIN, name="alice", password="secret"))["error"] == "bad_credentials"
            await again.ok(Kind.LOGIN, name="alice", password="a new secret")
        async with connect(two) as again:
            await again.ok(Kind.LOGIN, token=a.ack["token"])
    for node in nodes:
        assert not node.node.endings._pending
        assert not node.node.endings._spared


async def test_out_everywhere_is_out_here_too(nodes: list[Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(one, alice) as a, log_in(two, alice) as other, log_in(two, bob) as b:
        await a.ok(Kind.LOGOUT_EVERYWHERE)
        await dismissed(other)
        assert (await a.call(Kind.CONVERSATIONS))["error"] == "not_logged_in"
        for wire in (a, other):
            await refused_token(two, wire.ack["token"])
        await a.ok(Kind.LOGIN, id=alice, password="secret")
        await b.ok(Kind.DIRECT, toid=alice, msg="still there?")
        assert (await a.receive(Kind.DIRECT))["msg"] == "still there?"
        await b.quiet()


async def test_a_classic_session_on_another_node_ends_too(nodes: list[Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice = await register(one, "alice")
    async with log_in(two, alice, modern=False) as other, log_in(one, alice) as a:
        await a.ok(Kind.CHANGE_PASSWORD, password="secret", newpassword="a new secret")
        await dismissed(other)
        await a.quiet()


async def test_one_login_is_ended_and_no_other(nodes: list[Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(one, alice) as a, log_in(two, alice) as lost, log_in(two, alice) as kept, log_in(two, bob) as b:
        listed = await logins(lost)
        (name,) = [login["login"] for login in listed if login["current"]]
        assert (await a.call(Kind.REVOKE_LOGIN, login="0" * 16))["error"] == "no_such_login"
        assert (await b.call(Kind.REVOKE_LOGIN, login=name))["error"] == "no_such_login"
        own = next(login["login"] for login in await logins(a) if login["current"])
        assert (await a.call(Kind.REVOKE_LOGIN, login=own))["error"] == "bad_request"
        await a.ok(Kind.REVOKE_LOGIN, login=name)
        await dismissed(lost)
        await refused_token(one, lost.ack["token"])
        for wire in (a, kept, b):
            await wire.quiet()
        assert len(await logins(kept)) == 2


async def test_a_deleted_account_is_gone_on_every_node(nodes: list[Server]) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    async with log_in(one, alice) as a, log_in(two, alice) as other, log_in(two, bob) as b:
        group = (await b.ok(Kind.CREATE_GROUP, groupname="climbers"))["groupid"]
        await a.ok(Kind.JOIN_GROUP, groupid=group)
        await b.ok(Kind.ADD_FRIEND, friendid=alice)
        await a.ok(Kind.ADD_FRIEND, friendid=bob)
        await a.ok(Kind.DIRECT, toid=bob, msg="mine", key="k")
        await b.ok(Kind.DIRECT, toid=alice, msg="yours")
        await a.ok(Kind.GROUP, groupid=group, msg="mine too")
        assert (await a.call(Kind.DELETE_ACCOUNT, password="wrong"))["error"] == "bad_credentials"
        await a.ok(Kind.DELETE_ACCOUNT, password="secret")
        await dismissed(other)
        assert (await a.call(Kind.LOGINS))["error"] == "not_logged_in"
        assert (await a.call(Kind.LOGIN, id=alice, password="secret"))["error"] == "bad_credentials"
        assert (await a.call(Kind.LOGIN, name="alice", password="secret"))["error"] == "bad_credentials"
        await refused_token(two, a.ack["token"])
        for name in ("alice", "ALICE", "deleted user 1"):
            assert (await a.call(Kind.REGISTER, name=name, password="secret"))["errno"] != 0
        # The other one keeps the conversation without a hole, with what he wrote himself.
        with trio.fail_after(5):
            while True:
                page = (await b.ok(Kind.HISTORY, conv=f"d:{alice}:{bob}"))["messages"]
                if [each["msg"] for each in page] == ["", "yours"]:
                    break
                await trio.sleep(0.01)
        assert [(each["seq"], each["name"]) for each in page] == [(1, f"deleted user {alice}"), (2, "bob")]
        assert "key" not in page[0]
        with trio.fail_after(5):
            while (await b.call(Kind.DIRECT, toid=alice, msg="there?")).get("error") != "no_such_user":
                await trio.sleep(0.01)
        info = (await b.ok(Kind.GROUP_INFO, groupid=group))["group"]
        assert [user["id"] for user in info["users"]] == [bob]
        assert (await b.call(Kind.FIND_USER, name="alice"))["error"] == "no_such_user"
        assert (await b.call(Kind.ADD_FRIEND, friendid=alice))["error"] == "no_such_user"
    async with log_in(one, bob) as b:
        assert b.ack["friends"] == []


# -- on one ---------------------------------------------------------------------------------------------------------------


async def test_logins_say_where_they_are_from(address: Address) -> None:
    alice = await register(address, "alice")
    async with connect(address, modern=False) as phone:
        await phone.send(Kind.HELLO, version=1, client="a phone")
        await phone.receive(Kind.HELLO_ACK)
        await phone.ok(Kind.LOGIN, id=alice, password="secret")
        async with log_in(address, alice) as a:
            first, second = await logins(a)
            assert (first["current"], first["client"], first["address"]) == (True, "", "127.0.0.1")
            assert (second["current"], second["client"], second["address"]) == (False, "a phone", "127.0.0.1")
            assert second["created"] == second["used"] <= first["used"] < first["expires"]
            token = a.ack["token"]
            await a.ok(Kind.LOGOUT)
        assert [login["client"] for login in await logins(phone)] == ["a phone"]
        await refused_token(address, token)


async def test_a_classic_client_may_change_its_password(address: Address) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice, modern=False) as a:
        await a.send(Kind.CHANGE_PASSWORD, password="secret", newpassword="a new secret")
        assert await a.receive() == {"msgid": 24, "errno": 0}
        await a.quiet()


@pytest.mark.settings(password_length=8)
async def test_a_new_password_keeps_the_rules(address: Address) -> None:
    await register(address, "alice", "long enough")
    async with log_in(address, "alice", "long enough") as a:
        for new, reason in (("short", "newpassword: has 5"), ("with a bell\a", "newpassword: has a control")):
            answer = await a.call(Kind.CHANGE_PASSWORD, password="long enough", newpassword=new)
            assert (answer["error"], answer["errmsg"].startswith(reason)) == ("bad_request", True)
        assert (await a.call(Kind.REGISTER, name="x", password="short"))["error"] == "already_logged_in"
        await a.ok(Kind.LOGOUT)
        assert (await a.call(Kind.REGISTER, name="bob", password="short"))["error"] == "bad_request"


async def test_a_login_that_is_under_way_when_all_are_ended_does_not_come_through(
    server: Server, address: Address
) -> None:
    """Its password was checked before, its token is to be stored after."""
    alice = await register(address, "alice")
    accounts = server.node.accounts
    account = await accounts.prove(alice, "secret")
    async with log_in(address, alice) as a:
        await a.ok(Kind.CHANGE_PASSWORD, password="secret", newpassword="a new secret")
    with pytest.raises(BadCredentials):
        await accounts.make_token(alice, account.epoch, Origin())


@pytest.mark.settings(limits=Limits(frame=1024))
async def test_the_export_has_all_and_each_once(address: Address) -> None:
    alice, bob, carol = [await register(address, name) for name in ("alice", "bob", "carol")]
    async with log_in(address, alice) as a, log_in(address, bob) as b, log_in(address, carol) as c:
        group = (await b.ok(Kind.CREATE_GROUP, groupname="climbers", groupdesc="Thursdays"))["groupid"]
        foreign = (await c.ok(Kind.CREATE_GROUP, groupname="others"))["groupid"]
        await b.ok(Kind.GROUP, groupid=group, msg="before she came")
        await a.ok(Kind.JOIN_GROUP, groupid=group)
        await a.ok(Kind.ADD_FRIEND, friendid=bob)
        for number in range(12):
            await a.ok(Kind.DIRECT, toid=bob, msg=f"{number} " + "x" * 100, key=f"k{number}")
            await b.ok(Kind.DIRECT, toid=alice, msg=f"answer {number}")
            await b.ok(Kind.DIRECT, toid=carol, msg="not for alice")
        await c.ok(Kind.GROUP, groupid=foreign, msg="not for alice")
        await a.ok(Kind.DIRECT, toid=alice, msg="a note")
        page = await a.ok(Kind.EXPORT)
        assert (page["id"], page["name"], page["friends"]) == (alice, "alice", [{"id": bob, "name": "bob"}])
        assert [(each["groupname"], each["role"]) for each in page["groups"]] == [("climbers", "normal")]
        assert len(page["logins"]) == 1
        assert {each["conv"] for each in page["conversations"]} == {
            f"d:{alice}:{alice}",
            f"d:{alice}:{bob}",
            f"g:{group}",
        }
        messages = page["messages"]
        pages = 1
        while page["more"]:
            last = messages[-1]
            page = await a.ok(Kind.EXPORT, after={"conv": last["conv"], "seq": last["seq"]})
            assert set(page) == {"msgid", "ref", "errno", "messages", "more"}
            messages += page["messages"]
            pages += 1
        assert pages > 3
        assert len(messages) == len({(each["conv"], each["seq"]) for each in messages}) == 26
        assert {each["msg"] for each in messages} >= {"a note", "before she came", "answer 11", "0 " + "x" * 100}
        assert "not for alice" not in {each["msg"] for each in messages}


async def test_what_still_comes_in_after_a_deletion_is_erased_later(server: Server, address: Address) -> None:
    alice = await register(address, "alice")
    node = server.node
    node.deletion._grace_ms = 0
    async with log_in(address, alice) as a:
        await a.ok(Kind.DIRECT, toid=alice, msg="mine")
        await a.ok(Kind.DELETE_ACCOUNT, password="secret")
    deletions = node.deletion._deletions
    with trio.fail_after(5):
        while await deletions.unfinished():
            await trio.sleep(0.01)
    (message,) = await node.messages.after(f"d:{alice}:{alice}", 0, 10)
    assert message.msg == ""


@pytest.mark.settings(registration="closed")
async def test_nobody_registers_where_it_is_closed(address: Address) -> None:
    async with connect(address) as wire:
        answer = await wire.call(Kind.REGISTER, name="alice", password="secret", invitation="x")
        assert (answer["msgid"], answer["errno"], answer["error"]) == (Kind.REGISTER_ACK, 116, "registration_closed")
    async with connect(address, modern=False) as wire:
        await wire.send(Kind.REGISTER, name="alice", password="secret")
        assert (await wire.receive(Kind.REGISTER_ACK))["errno"] == 116
