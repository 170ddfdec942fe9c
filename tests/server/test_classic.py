"""The classic dialect against a running server, as the family's clients speak it."""

from __future__ import annotations

import json
import time

import pytest
import trio

from tests.wire import Frame, Wire, connect, log_in, register
from trio_chat import Address, Server
from trio_chat.store.log import MessageLog
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Kind

NUL = b"\0"


def parsed(texts: list[str]) -> list[Frame]:
    return [json.loads(text) for text in texts]


async def test_register_and_login(address: Address) -> None:
    async with connect(address, modern=False, terminator=NUL) as wire:
        await wire.send(Kind.REGISTER, name="alice", password="123456")
        registered = await wire.receive()
        assert registered == {"msgid": 5, "errno": 0, "id": registered["id"]}
        await wire.send(Kind.REGISTER, name="alice", password="123456")
        assert await wire.receive() == {"msgid": 5, "errno": 1}
        await wire.send(Kind.LOGIN, id=registered["id"], password="123456")
        assert await wire.receive() == {"msgid": 2, "errno": 0, "id": registered["id"], "name": "alice"}


async def test_refused_logins(address: Address) -> None:
    alice = await register(address, "alice")
    async with connect(address, modern=False) as wire:
        for attempt in ({"id": alice, "password": "no"}, {"id": -1, "password": "x"}, {"id": 10**12, "password": "x"}):
            await wire.send(Kind.LOGIN, **attempt)
            answer = await wire.receive()
            assert (answer["msgid"], answer["errno"], answer["errmsg"]) == (2, 1, "id or password is invalid!")
        await wire.send(Kind.LOGIN, id="1", password="x")
        answer = await wire.receive()
        assert (answer["msgid"], answer["errno"]) == (2, 101)


async def test_one_login_at_a_time_and_again_after_the_end(address: Address) -> None:
    alice = await register(address, "alice")
    async with connect(address, modern=False) as other:
        async with log_in(address, alice, modern=False) as first:
            await other.send(Kind.LOGIN, id=alice, password="secret")
            refused = await other.receive()
            assert (refused["errno"], refused["errmsg"]) == (2, "this account is using, input another!")
            await first.send(Kind.LOGOUT, id=4711)
            await first.send(Kind.LOGIN, id=alice, password="secret")
            assert (await first.receive())["errno"] == 0
        for _ in range(3):
            async with log_in(address, alice, modern=False):
                pass
        async with log_in(address, alice, modern=False):
            await other.send(Kind.LOGIN, id=alice, password="secret")
            assert (await other.receive())["errno"] == 2


async def test_silent_success_and_told_failure(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice, modern=False) as a:
        await a.send(Kind.ADD_FRIEND, id=alice, friendid=bob)
        await a.send(Kind.CREATE_GROUP, id=alice, groupname="g", groupdesc="d")
        await a.send(Kind.DIRECT, id=alice, name="alice", toid=bob, msg="hi", time="2026-01-01 00:00:00")
        await a.quiet()
        await a.send(Kind.DIRECT, id=alice, toid=4711, msg="hi")
        assert (await a.receive())["error"] == "no_such_user"
        await a.send(Kind.ADD_FRIEND, id=alice, friendid=4711)
        assert (await a.receive())["error"] == "no_such_user"


async def next_millisecond(reply: Frame) -> None:
    """Messages of several conversations are in the order of their time: wait until the next one's will be later."""
    while time.time_ns() // 1_000_000 <= reply["ts"]:
        await trio.sleep(0.001)


async def test_lists_are_strings_and_missed_messages_are_in_order(address: Address) -> None:
    alice, bob, carol = [await register(address, name) for name in ("alice", "bob", "carol")]
    text = 'it\'s "quoted" ' + "x" * 600
    async with log_in(address, alice) as a, log_in(address, carol) as c:
        await a.ok(Kind.CREATE_GROUP, groupname="g", groupdesc="d")
        async with log_in(address, bob) as b:
            await b.ok(Kind.ADD_FRIEND, friendid=alice)
            await b.ok(Kind.JOIN_GROUP, groupid=1)
        await next_millisecond(await c.ok(Kind.DIRECT, toid=bob, msg="first"))
        await next_millisecond(await a.ok(Kind.DIRECT, toid=bob, msg=text, time="t"))
        await a.ok(Kind.GROUP, groupid=1, msg="third")
    async with log_in(address, alice), log_in(address, bob, modern=False) as b:
        ack = b.ack
        assert parsed(ack["friends"]) == [{"id": alice, "name": "alice", "state": "online"}]
        [group] = parsed(ack["groups"])
        assert (group["id"], group["groupname"], group["groupdesc"]) == (1, "g", "d")
        assert parsed(group["users"]) == [
            {"id": alice, "name": "alice", "state": "online", "role": "creator"},
            {"id": bob, "name": "bob", "state": "online", "role": "normal"},
        ]
        first, second, third = parsed(ack["offlinemsg"])
        assert (first["msgid"], first["id"], first["msg"]) == (6, carol, "first")
        assert second == {"msgid": 6, "id": alice, "name": "alice", "toid": bob, "msg": text, "time": "t"}
        assert (third["msgid"], third["groupid"], third["msg"]) == (10, 1, "third")
        await b.quiet()
    async with log_in(address, bob, modern=False) as b:
        assert "offlinemsg" not in b.ack


async def test_a_message_to_oneself_comes_back(address: Address) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice, modern=False) as a:
        await a.send(Kind.DIRECT, toid=alice, msg="note")
        assert (await a.receive())["msg"] == "note"
        await a.quiet()


class Buffer1024:
    """How the existing clients read: one `recv` into 1,024 bytes is one frame."""

    def __init__(self, wire: Wire) -> None:
        self._stream = wire.stream

    async def frame(self) -> Frame:
        with trio.fail_after(5):
            data = await self._stream.receive_some(1024)
        assert data.endswith(NUL)
        assert data.count(NUL) == 1
        decoded: Frame = json.loads(data[:-1])
        return decoded


async def test_existing_clients_get_each_frame_alone_and_small(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    texts = [f"{i} " + "y" * 300 for i in range(8)]
    long = 'ö"\\' * 1000
    async with log_in(address, alice) as a, connect(address, modern=False, terminator=NUL) as b:
        for text in texts:
            await a.ok(Kind.DIRECT, toid=bob, msg=text)
        client = Buffer1024(b)
        await b.send(Kind.LOGIN, id=bob, password="secret")
        ack = await client.frame()
        got = [message["msg"] for message in parsed(ack.get("offlinemsg", []))]
        assert 0 < len(got) < len(texts)
        while len(got) < len(texts):
            got.append((await client.frame())["msg"])
        assert got == texts
        for text in texts:
            await a.send(Kind.DIRECT, toid=bob, msg=text)
        assert [(await client.frame())["msg"] for _ in texts] == texts
        await a.ok(Kind.DIRECT, toid=bob, msg=long)
        parts = ""
        while len(parts) < len(long):
            frame = await client.frame()
            assert (frame["id"], frame["toid"], bool(frame["time"])) == (alice, bob, True)
            parts += frame["msg"]
        assert parts == long
    async with log_in(address, bob) as b:
        await b.quiet()  # all of it was handed over


async def test_what_was_not_sent_is_not_received(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a:
        async with log_in(address, bob, modern=False, terminator=NUL) as b:
            for i in range(50):  # a second's worth for a paced client
                await a.send(Kind.DIRECT, toid=bob, msg=str(i))
            assert (await b.receive())["msg"] == "0"
            b.abort()
        async with log_in(address, bob) as b:
            got = [int(m["msg"]) for m in await b.messages(1)]
            got += [int(m["msg"]) for m in await b.messages(49 - got[0])]
    assert got == list(range(got[0], 50))
    assert got[0] >= 1


@pytest.mark.parametrize(
    "poison",
    [
        b'{"msgid":1,"id":1,"password":"x"}\0{"msgid":1,"id":1,"password":"x"}\0',
        b"\0",
        b"\n",
        b'{"msgid":1\0',
        b"[1]\0",
        b'{"msgid":"1"}\0',
        b'{"id":1}\0',
        b'{"msgid":1,"id":"x","password":1}\0',
        b"\xff\xfe\0",
        b'{"msgid":4,"name":"' + b"n" * 2000 + b'","password":"x"}\0',
        b'{"msgid":6,"toid":1,"msg":"' + b"m" * 100_000 + b'"}\0',
    ],
    ids=range(11),
)
async def test_what_kills_the_family_is_harmless_here(address: Address, poison: bytes) -> None:
    async with connect(address, modern=False, terminator=NUL) as wire, connect(address) as other:
        await wire.send_bytes(poison)
        await other.quiet()


@pytest.mark.parametrize("length", [10, 700], ids=["in LOGIN_ACK", "as frames of their own"])
async def test_ones_own_messages_do_not_come_back(address: Address, length: int) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        for number in range(2):
            await b.ok(Kind.DIRECT, toid=alice, msg=f"{number} from bob".ljust(length))
            await a.ok(Kind.DIRECT, toid=bob, msg=f"{number} from alice".ljust(length))
    async with log_in(address, alice, modern=False, terminator=NUL) as a:
        got = parsed(a.ack.get("offlinemsg", []))
        while len(got) < 2:
            got.append(await a.receive())
        assert [message["msg"].strip() for message in got] == ["0 from bob", "1 from bob"]
        await a.quiet()
        # Nor does what another device of hers sends.
        async with log_in(address, alice) as device:
            await device.ok(Kind.DIRECT, toid=bob, msg="from the other device")
            await device.ok(Kind.DIRECT, toid=alice, msg="to herself")
            assert (await a.receive())["msg"] == "to herself"
            await a.quiet()
            found = {each["conv"]: each for each in (await device.ok(Kind.CONVERSATIONS))["conversations"]}
            assert found[conv]["received_seq"] == found[conv]["last_seq"] == 5


async def test_a_conversation_that_begins_while_a_login_reads_is_delivered(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address = server.addresses[0]
    alice, _, _ = [await register(address, name) for name in ("alice", "bob", "carol")]
    undelivered = MessageLog.undelivered
    async with log_in(address, "bob") as b, log_in(address, "carol") as c:
        await b.ok(Kind.DIRECT, toid=alice, msg="missed")

        async def begin_before_reading(self: MessageLog, userid: int, limit: int) -> list[Delivery]:
            await c.ok(Kind.DIRECT, toid=alice, msg="new")
            return await undelivered(self, userid, limit)

        monkeypatch.setattr(MessageLog, "undelivered", begin_before_reading)
        async with log_in(address, alice, modern=False) as a:
            assert [json.loads(message)["msg"] for message in a.ack["offlinemsg"]] == ["missed"]
            assert (await a.receive(Kind.DIRECT))["msg"] == "new"
