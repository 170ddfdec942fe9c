"""What goes wrong with one request, one delivery or one commit stays there, and everybody is told the truth."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import pytest
import trio
import trio.testing

from tests.server.stalling import Hold, eventually, stalling, stalling_as
from tests.wire import WireClosed, connect, log_in, register
from trio_chat import Address, Limits, Server
from trio_chat.connection import Connection
from trio_chat.errors import Unavailable
from trio_chat.router import Router
from trio_chat.store.accounts import Accounts, Friend
from trio_chat.store.append import Appender, Draft, Stored
from trio_chat.store.contract import OutcomeUnknown
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Kind


async def test_requests_that_waited_for_a_database_that_is_away_do_not_wait_again(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await register(address, "alice")

    async def away(*_: object) -> list[Cursor]:
        raise Unavailable

    async with stalling_as(server, alice) as (_, client):
        with monkeypatch.context() as patch:
            patch.setattr(MessageLog, "cursors", away)
            hold = Hold(patch, MessageLog, "cursors")
            for number in range(6):
                client.request(Kind.CONVERSATIONS, ref=number)
            client.request(Kind.DIRECT, toid=alice, msg="the writer tries for itself", ref=6)
            await eventually(lambda: hold.waiting and not client.unread)
            hold.release()
            await eventually(lambda: len(client.frames) == 9)
            assert hold.waiting == 1
        client.request(Kind.CONVERSATIONS, ref=7)
        await eventually(lambda: len(client.frames) == 10)
    errors = {frame["ref"]: frame["errno"] for frame in client.frames[2:]}
    assert errors == {**dict.fromkeys(range(6), 130), 6: 0, 7: 0}


@pytest.mark.settings(limits=Limits(requests=2), heartbeat=10.0)
async def test_a_client_that_is_not_listened_to_is_not_silent(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await register(address, "alice")
    async with stalling_as(server, alice) as (connection, client):
        hold = Hold(monkeypatch, MessageLog, "cursors")
        for _ in range(3):
            client.request(Kind.CONVERSATIONS)
        await eventually(lambda: client.unread == 1 and hold.waiting)
        connection.check_alive(trio.current_time() + 1000)
        hold.release()
        await eventually(lambda: len(client.frames) == 5)
        await eventually(lambda: not client.unread)
        connection.check_alive(trio.current_time() + 15)
        server.node.router.flush()
        await eventually(lambda: client.frames[-1]["msgid"] == Kind.PING)


async def test_all_who_wait_for_a_connection_to_be_drained_are_woken(server: Server) -> None:
    async with stalling(server) as (connection, client):
        client.takes = 0
        connection.send(b"{}")
        with trio.fail_after(5):
            async with trio.open_nursery() as nursery:
                for _ in range(2):
                    nursery.start_soon(connection.wait_drained, 0)
                await trio.testing.wait_all_tasks_blocked()
                client.go_on()


async def test_nobody_is_told_of_a_receipt_that_means_nothing(address: Address) -> None:
    alice = await register(address, "alice")
    async with connect(address) as wire:
        await wire.send(Kind.RECEIVED, conv="d:1:1", seq=1)
        await wire.quiet()
    async with log_in(address, alice) as wire:
        await wire.send(Kind.RECEIVED, ref=1, conv="nonsense", seq=1)
        await wire.send(Kind.RECEIVED, ref=2, conv=5)
        await wire.quiet()


@pytest.mark.settings(limits=Limits(outbox=65536))
async def test_a_login_with_more_friends_than_the_outbox_holds(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")

    async def many(_: Accounts, __: Sequence[int]) -> dict[int, list[Friend]]:
        return {alice: [Friend(userid, f"friend {userid}", "offline", 0) for userid in range(100, 5000)]}

    async with log_in(address, bob) as b, stalling(server) as (connection, client):
        client.request(Kind.HELLO, version=1)
        await eventually(lambda: client.frames)
        monkeypatch.setattr(Accounts, "friends", many)
        client.takes = 1000
        client.request(Kind.LOGIN, id=alice, password="secret")
        await eventually(lambda: connection.account)
        await b.ok(Kind.DIRECT, toid=alice, msg="you are slow")
        client.go_on()
        await eventually(lambda: len(client.frames) == 3)
        assert len(client.frames[1]["friends"]) == 4900
        assert client.frames[2]["msg"] == "you are slow"


@pytest.mark.settings(store_timeout=0.2)
async def test_a_message_whose_commit_is_in_doubt_is_not_said_to_be_lost(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await register(address, "alice")
    begun, go_on = trio.Event(), trio.Event()

    async def append(_: Appender, drafts: Sequence[Draft], __: object) -> list[Stored]:
        begun.set()
        await go_on.wait()
        raise OutcomeUnknown(value=[Stored(drafts[0].conv, 1, 1, duplicate=False)])

    async def was_stored(*_: object) -> bool:
        raise Unavailable

    monkeypatch.setattr("trio_chat.writer._LOOK", 0.1)
    async with log_in(address, alice) as wire:
        with monkeypatch.context() as patch:
            patch.setattr(Appender, "append", append)
            patch.setattr(Appender, "was_stored", was_stored)
            await wire.send(Kind.DIRECT, ref=1, toid=alice, msg="in doubt")
            await begun.wait()
            await wire.send(Kind.DIRECT, ref=2, toid=alice, msg="not tried")
            await wire.send(Kind.PING)
            await wire.receive(Kind.PONG)
            go_on.set()
            first, second = [await wire.receive(Kind.REPLY) for _ in range(2)]
        assert (first["ref"], first["error"], second["ref"], second["error"]) == (1, "unavailable", 2, "unavailable")
        assert "may have been stored" in first["errmsg"]
        assert "nothing was stored" in second["errmsg"]
        assert (await wire.ok(Kind.DIRECT, toid=alice, msg="again"))["seq"] == 1


async def test_a_delivery_that_fails_ends_one_connection_and_reaches_all_others(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("alice", "bob", "carol"):
        await register(address, name)
    async with log_in(address, "alice") as a, log_in(address, "bob") as b, log_in(address, "carol") as c:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="group"))["groupid"]
        for wire in (b, c):
            await wire.ok(Kind.JOIN_GROUP, groupid=group)
        deliver = Connection.deliver

        def broken(connection: Connection, delivery: Delivery) -> None:
            if connection.account and connection.account.name == "bob":
                raise RuntimeError("a defect")
            deliver(connection, delivery)

        with monkeypatch.context() as patch:
            patch.setattr(Connection, "deliver", broken)
            assert (await a.ok(Kind.GROUP, groupid=group, msg="hello"))["seq"] == 1
            assert [m["msg"] for m in await c.messages(1)] == ["hello"]
            with pytest.raises(WireClosed):
                await b.receive()
        async with log_in(address, "bob") as again:
            assert [m["msg"] for m in await again.messages(1)] == ["hello"]


async def test_a_message_that_cannot_be_reported_harms_no_other_of_its_batch(
    address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    arrive = Router.arrive

    def broken(router: Router, delivery: Delivery, *rest: Any) -> None:
        if delivery.msg == "poison":
            raise RuntimeError("a defect")
        arrive(router, delivery, *rest)

    async with log_in(address, alice) as a, log_in(address, bob) as b:
        with monkeypatch.context() as patch:
            patch.setattr(Router, "arrive", broken)
            hold = Hold(patch, Appender, "append")
            await b.send(Kind.DIRECT, toid=bob, msg="first")
            await eventually(lambda: hold.waiting)
            # These two are the next batch.
            await a.send(Kind.DIRECT, toid=alice, msg="poison")
            await a.send(Kind.PING)
            await a.receive(Kind.PONG)
            await b.send(Kind.DIRECT, toid=bob, msg="second")
            hold.release()
            assert [(await b.receive(Kind.REPLY))["seq"] for _ in range(2)] == [1, 2]
            with pytest.raises(WireClosed):
                await a.receive()
        await b.ok(Kind.DIRECT, toid=bob, msg="third")
