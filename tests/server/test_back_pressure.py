"""Who sends more than the server can do is not read from, and loses nothing by it."""

from __future__ import annotations

import pytest

from tests.server.stalling import Hold, eventually, stalling, stalling_as
from tests.wire import Frame, log_in, register
from trio_chat import Address, Limits, Server
from trio_chat.store.append import Appender, Draft
from trio_chat.store.log import MessageLog
from trio_chat.wire.messages import Kind


def replies(frames: list[Frame]) -> list[Frame]:
    return [frame for frame in frames if frame["msgid"] == Kind.REPLY]


@pytest.mark.settings(limits=Limits(in_flight=5))
async def test_messages_in_flight(server: Server, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await register(address, "alice")
    async with stalling_as(server, alice) as (_, client):
        hold = Hold(monkeypatch, Appender, "append")
        for number in range(12):
            client.request(Kind.DIRECT, toid=alice, msg="x", ref=number)
        await eventually(lambda: client.unread == 7)
        await eventually(lambda: hold.waiting)
        assert client.unread == 7
        hold.release()
        await eventually(lambda: len(replies(client.frames)) == 12)
        assert [frame["seq"] for frame in replies(client.frames)] == list(range(1, 13))


@pytest.mark.settings(limits=Limits(requests=4), heartbeat=10.0)
async def test_requests_that_wait(server: Server, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await register(address, "alice")
    async with stalling_as(server, alice) as (_, client):
        hold = Hold(monkeypatch, MessageLog, "cursors")
        for number in range(9):
            client.request(Kind.CONVERSATIONS, ref=number)
        await eventually(lambda: client.unread == 5)
        await eventually(lambda: hold.waiting)
        assert client.unread == 5
        hold.release()
        await eventually(lambda: len(replies(client.frames)) == 9)
        assert [frame["ref"] for frame in replies(client.frames)] == list(range(9))


@pytest.mark.settings(limits=Limits(queue=3))
async def test_the_writers_queue(server: Server, address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice) as a, stalling(server) as (_, client):
        hold = Hold(monkeypatch, Appender, "append")
        for number in range(3):
            await a.send(Kind.DIRECT, toid=alice, msg="x", ref=number)
        await eventually(lambda: server.node.writer.full)
        # Others too are read from once more, and no further.
        client.request(Kind.PING, data="before")
        client.request(Kind.PING, data="after")
        await eventually(lambda: client.frames)
        assert client.unread == 1
        hold.release()
        await eventually(lambda: len(client.frames) == 2)
        assert [(await a.receive(Kind.REPLY))["ref"] for _ in range(3)] == [0, 1, 2]


@pytest.mark.settings(limits=Limits(in_flight=5, outbox=65536))
async def test_replies_that_wait_for_their_place_behind_a_backlog(server: Server, address: Address) -> None:
    """Who logs in with a backlog, does not read it and sends in this conversation parks no more than is in flight."""
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a, stalling(server) as (connection, client):
        for _ in range(30):
            await a.ok(Kind.DIRECT, toid=bob, msg="m" * 4000)
        client.request(Kind.HELLO, version=1)
        await eventually(lambda: client.frames)
        client.takes = 1000
        client.request(Kind.LOGIN, id=bob, password="secret")
        await eventually(lambda: connection.account)
        for number in range(20):
            client.request(Kind.DIRECT, toid=alice, msg="answer", ref=number)
        await eventually(lambda: len(connection.own) == 5)
        assert client.unread == 15
        client.go_on()
        await eventually(lambda: len(replies(client.frames)) == 20)
        assert [frame["seq"] for frame in client.frames if "seq" in frame] == list(range(1, 51))


@pytest.mark.settings(limits=Limits(outbox=65536), store_timeout=0.5)
async def test_a_logout_is_not_held_up_by_a_backlog_that_is_not_read(server: Server, address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a:
        for _ in range(30):
            await a.ok(Kind.DIRECT, toid=bob, msg="m" * 4000)
    async with stalling(server) as (connection, client):
        client.request(Kind.HELLO, version=1)
        await eventually(lambda: client.frames)
        client.takes = 1000
        client.request(Kind.LOGIN, id=bob, password="secret")
        await eventually(lambda: connection.account)
        client.request(Kind.DIRECT, toid=alice, msg="answer", ref="message")
        client.request(Kind.LOGOUT, ref="logout")
        await eventually(lambda: connection.account is None)
        client.go_on()
        await eventually(lambda: len(replies(client.frames)) == 2)
        assert [frame["ref"] for frame in replies(client.frames)] == ["message", "logout"]


async def test_a_reply_behind_a_hole_comes_before_the_logout(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a:
        await a.ok(Kind.DIRECT, toid=bob, msg="one")
        # As another node does it whose hint has not come yet.
        await server.node.writer._appender.append([Draft(f"d:{alice}:{bob}", bob, "bob", alice, "two", "-", None)])
        hold = Hold(monkeypatch, MessageLog, "after")
        await a.send(Kind.DIRECT, toid=bob, msg="three", ref="message")
        await a.send(Kind.LOGOUT, ref="logout")
        await eventually(lambda: hold.waiting)
        await a.send(Kind.PING)
        await a.receive(Kind.PONG)
        hold.release()
        assert [(await a.receive()).get("seq") for _ in range(2)] == [2, 3]
        assert (await a.receive())["ref"] == "logout"
