"""The modern dialect against a running server."""

from __future__ import annotations

import json
from collections.abc import Sequence

import pytest
import trio

from tests.wire import Frame, Wire, WireClosed, connect, log_in, register
from trio_chat import Address, Limits, Server, Settings
from trio_chat.store.append import Appender, Draft, Stored
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Kind


def essence(frame: Frame) -> tuple[str, int, str]:
    return frame["conv"], frame["seq"], frame["msg"]


async def test_hello_tells_the_limits(address: Address, settings: Settings) -> None:
    async with connect(address, modern=False) as wire:
        answer = await wire.call(Kind.HELLO, version=1, client="test")
    assert answer["version"] == 1
    assert answer["limits"] == {"frame": settings.limits.frame, "message": settings.limits.message}
    assert answer["heartbeat"] == settings.heartbeat
    assert answer["node"]
    assert answer["server"].startswith("trio-chat/")


async def test_another_version_is_refused(address: Address) -> None:
    async with connect(address, modern=False) as wire:
        answer = await wire.call(Kind.HELLO, version=2)
    assert (answer["msgid"], answer["errno"]) == (Kind.REPLY, 101)
    assert "version" in answer["errmsg"]


async def test_login_by_id_name_and_token(address: Address) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice) as wire:
        assert wire.ack["name"] == "alice"
        assert wire.ack["friends"] == []
        assert wire.ack["groups"] == []
        token = wire.ack["token"]
    async with log_in(address, "alice"):
        pass
    async with connect(address) as wire:
        ack = await wire.ok(Kind.LOGIN, token=token)
        assert (ack["id"], ack["name"]) == (alice, "alice")


async def test_a_token_is_revoked_by_logout(address: Address) -> None:
    await register(address, "alice")
    async with log_in(address, "alice") as wire:
        token = wire.ack["token"]
        await wire.ok(Kind.LOGOUT)
        refused = await wire.call(Kind.LOGIN, token=token)
        assert (refused["msgid"], refused["errno"]) == (Kind.LOGIN_ACK, 1)
        again = await wire.ok(Kind.LOGIN, name="alice", password="secret")
        assert again["token"] != token


@pytest.mark.parametrize("login", [{"name": "alice", "password": "wrong"}, {"name": "nobody", "password": "x"}])
async def test_wrong_credentials(address: Address, login: dict[str, str]) -> None:
    await register(address, "alice")
    async with connect(address) as wire:
        answer = await wire.call(Kind.LOGIN, **login)
    assert (answer["msgid"], answer["errno"], answer["error"]) == (Kind.LOGIN_ACK, 1, "bad_credentials")


async def test_a_taken_name(address: Address) -> None:
    await register(address, "alice")
    async with connect(address) as wire:
        answer = await wire.call(Kind.REGISTER, name="alice", password="x")
    assert (answer["msgid"], answer["errno"], answer["error"]) == (Kind.REGISTER_ACK, 1, "name_taken")


async def test_direct_message_and_its_reply(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        reply = await a.ok(Kind.DIRECT, toid=bob, msg="hi 你好 \"'\\", key="k1", id=999, name="mallory")
        assert (reply["msgid"], reply["conv"], reply["seq"]) == (Kind.REPLY, f"d:{alice}:{bob}", 1)
        [message] = await b.messages(1)
        assert message == {
            "msgid": Kind.DIRECT,
            "id": alice,
            "name": "alice",
            "toid": bob,
            "msg": "hi 你好 \"'\\",
            "time": message["time"],
            "conv": f"d:{alice}:{bob}",
            "seq": 1,
            "ts": reply["ts"],
            "key": "k1",
        }
        await a.quiet()
        await b.quiet()


async def test_the_senders_time_is_passed_on(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        await a.ok(Kind.DIRECT, toid=bob, msg="x", time="yesterday")
        await a.ok(Kind.DIRECT, toid=bob, msg="x")
        first, second = await b.messages(2)
    assert first["time"] == "yesterday"
    assert len(second["time"]) == len("2026-01-01 00:00:00")


async def test_a_key_is_stored_once(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        first = await a.ok(Kind.DIRECT, toid=bob, msg="one", key="k")
        again = await a.ok(Kind.DIRECT, toid=bob, msg="another text", key="k")
        other = await a.ok(Kind.DIRECT, toid=bob, msg="two", key="k2")
        assert {**again, "ref": 0} == {**first, "ref": 0}
        assert other["seq"] == 2
        # In one transaction, too; and a key is the sender's own.
        for _ in range(3):
            await a.send(Kind.DIRECT, toid=bob, msg="three", key="k3", ref="same")
        assert [(await a.receive(Kind.REPLY))["seq"] for _ in range(3)] == [3, 3, 3]
        assert (await b.ok(Kind.DIRECT, toid=alice, msg="mine", key="k"))["seq"] == 4
        assert [essence(m)[1:] for m in await b.messages(3)] == [(1, "one"), (2, "two"), (3, "three")]
        await b.quiet()


async def test_a_pipelined_burst_keeps_its_order(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    count = 1000
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        burst = b"".join(
            json.dumps({"msgid": 6, "toid": bob, "msg": f"m{i}", "ref": i}).encode() + b"\n" for i in range(count)
        )
        async with trio.open_nursery() as nursery:
            nursery.start_soon(a.send_bytes, burst)
            replies = [await a.receive(Kind.REPLY) for _ in range(count)]
            messages = await b.messages(count)
    assert [(r["ref"], r["seq"]) for r in replies] == [(i, i + 1) for i in range(count)]
    assert [(m["seq"], m["msg"]) for m in messages] == [(i + 1, f"m{i}") for i in range(count)]


async def test_group_chat(address: Address) -> None:
    alice, bob, carol = [await register(address, name) for name in ("alice", "bob", "carol")]
    async with log_in(address, alice) as a, log_in(address, bob) as b, log_in(address, carol) as c:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="climbers", groupdesc="on rocks"))["groupid"]
        await a.ok(Kind.GROUP, groupid=group, msg="alone")
        joined = (await b.ok(Kind.JOIN_GROUP, groupid=group))["group"]
        assert joined["groupname"] == "climbers"
        assert [(u["name"], u["role"]) for u in joined["users"]] == [("alice", "creator"), ("bob", "normal")]
        await c.ok(Kind.JOIN_GROUP, groupid=group)
        reply = await a.ok(Kind.GROUP, groupid=group, msg="hello all")
        assert (reply["conv"], reply["seq"]) == (f"g:{group}", 2)
        for wire in (b, c):
            [message] = await wire.messages(1)
            assert (message["groupid"], message["id"], message["seq"]) == (group, alice, 2)
            await wire.quiet()
        await a.quiet()


async def test_group_refusals(address: Address) -> None:
    await register(address, "alice")
    await register(address, "bob")
    async with log_in(address, "alice") as a, log_in(address, "bob") as b:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        assert (await b.call(Kind.GROUP, groupid=group, msg="x"))["error"] == "not_a_member"
        assert (await b.call(Kind.HISTORY, conv=f"g:{group}"))["error"] == "not_a_member"
        assert (await b.call(Kind.READ, conv=f"g:{group}", seq=1))["error"] == "not_a_member"
        assert (await b.call(Kind.GROUP, groupid=group + 1, msg="x"))["error"] == "no_such_group"
        assert (await b.call(Kind.JOIN_GROUP, groupid=group + 1))["error"] == "no_such_group"
        assert (await b.call(Kind.CREATE_GROUP, groupname="g"))["error"] == "already_exists"
        await b.ok(Kind.JOIN_GROUP, groupid=group)
        assert (await b.call(Kind.JOIN_GROUP, groupid=group))["error"] == "already_exists"


async def test_friends(address: Address) -> None:
    await register(address, "alice")
    bob = await register(address, "bob")
    async with log_in(address, "alice") as a:
        added = await a.ok(Kind.ADD_FRIEND, friendid=bob)
        assert added["friend"] == {"id": bob, "name": "bob", "state": "offline"}
        assert (await a.call(Kind.ADD_FRIEND, friendid=bob))["error"] == "already_exists"
        assert (await a.call(Kind.ADD_FRIEND, friendid=bob + 1))["error"] == "no_such_user"
        assert (await a.call(Kind.ADD_FRIEND, friendid=a.id))["error"] == "bad_request"
    async with log_in(address, "alice") as a, log_in(address, "bob") as b:
        assert a.ack["friends"] == [{"id": bob, "name": "bob", "state": "offline"}]
        assert b.ack["friends"] == []


async def test_presence_is_told_to_whom_it_concerns(address: Address) -> None:
    for name in ("alice", "bob", "carol"):
        await register(address, name)
    async with log_in(address, "alice") as a, log_in(address, "carol") as c:
        async with log_in(address, "bob") as b:
            friend = (await a.ok(Kind.ADD_FRIEND, friendid=b.id))["friend"]
            assert friend["state"] == "online"
            async with log_in(address, "bob"):
                pass
            await b.quiet()
            await a.quiet()  # one of two connections has ended: still online
        assert (await a.receive())["state"] == "offline"
        async with log_in(address, "bob") as b:
            assert await a.receive() == {"msgid": Kind.PRESENCE, "id": b.id, "state": "online"}
            await b.ok(Kind.LOGOUT)
            assert (await a.receive())["state"] == "offline"
        await c.quiet()


async def test_what_was_not_received_comes_again(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a:
        for i in range(5):
            await a.ok(Kind.DIRECT, toid=bob, msg=f"m{i}")
        async with log_in(address, bob) as b:
            assert [m["seq"] for m in await b.messages(5)] == [1, 2, 3, 4, 5]
            await b.send(Kind.RECEIVED, conv=f"d:{alice}:{bob}", seq=2)
            await b.quiet()
        async with log_in(address, bob) as b:
            assert [m["seq"] for m in await b.messages(3)] == [3, 4, 5]
            await b.send(Kind.RECEIVED, conv=f"d:{alice}:{bob}", seq=1)  # never back
            await b.send(Kind.RECEIVED, conv=f"d:{alice}:{bob}", seq=5_000)  # never past what was delivered
            await b.quiet()
        await a.ok(Kind.DIRECT, toid=bob, msg="m5")
        async with log_in(address, bob) as b:
            assert [m["seq"] for m in await b.messages(1)] == [6]
            await b.quiet()


async def test_ones_own_message_counts_as_received(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        await a.ok(Kind.DIRECT, toid=bob, msg="1")
        await b.messages(1)
        await b.ok(Kind.DIRECT, toid=alice, msg="2")
        await a.ok(Kind.DIRECT, toid=bob, msg="3")
        by_a = (await a.ok(Kind.CONVERSATIONS))["conversations"]
        by_b = (await b.ok(Kind.CONVERSATIONS))["conversations"]
        rest = {"read_seq": 0, "peer_read_seq": 0}
        assert by_a == [{"conv": conv, "last_seq": 3, "received_seq": 1, "peer_received_seq": 0, **rest}]
        assert by_b == [{"conv": conv, "last_seq": 3, "received_seq": 0, "peer_received_seq": 1, **rest}]
        await b.send(Kind.RECEIVED, conv=conv, seq=1)
        by_b = (await b.ok(Kind.CONVERSATIONS))["conversations"]
        assert by_b[0]["received_seq"] == 2
    async with log_in(address, bob) as b:
        assert [m["seq"] for m in await b.messages(1)] == [3]
        await b.quiet()


async def test_every_connection_of_an_account_gets_everything(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a1, log_in(address, alice) as a2, log_in(address, bob) as b:
        await a1.ok(Kind.DIRECT, toid=bob, msg="from the first")
        await b.ok(Kind.DIRECT, toid=alice, msg="back")
        assert [m["seq"] for m in await a2.messages(2)] == [1, 2]
        assert [m["seq"] for m in await a1.messages(1)] == [2]
        assert [m["seq"] for m in await b.messages(1)] == [1]
        for wire in (a1, a2, b):
            await wire.quiet()


async def test_a_message_to_oneself(address: Address) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice) as one, log_in(address, alice) as two:
        reply = await one.ok(Kind.DIRECT, toid=alice, msg="note")
        assert reply["conv"] == f"d:{alice}:{alice}"
        assert [essence(m) for m in await two.messages(1)] == [(f"d:{alice}:{alice}", 1, "note")]
        await one.quiet()


async def test_read_marks(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        await a.ok(Kind.DIRECT, toid=bob, msg="1")
        await b.messages(1)
        await b.ok(Kind.READ, conv=conv, seq=1)
        assert await a.receive() == {"msgid": Kind.READ, "conv": conv, "seq": 1, "id": bob}
        assert (await b.ok(Kind.CONVERSATIONS))["conversations"][0]["read_seq"] == 1
        await b.ok(Kind.READ, conv=conv, seq=1)
        await b.quiet()
        await a.quiet()
        assert (await b.call(Kind.READ, conv=f"d:{alice}:{bob + 1}", seq=1))["error"] == "not_a_member"


async def test_history_pages_both_ways(address: Address) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        for i in range(1, 11):
            await a.ok(Kind.DIRECT, toid=bob, msg=f"m{i}", key=f"k{i}")
        delivered = await b.messages(10)

        async def page(**fields: int) -> tuple[list[int], bool]:
            answer = await b.ok(Kind.HISTORY, conv=conv, **fields)
            return [m["seq"] for m in answer["messages"]], answer["more"]

        assert await page(after=0, limit=4) == ([1, 2, 3, 4], True)
        assert await page(after=4, limit=6) == ([5, 6, 7, 8, 9, 10], False)
        assert await page(before=4, limit=2) == ([2, 3], True)
        assert await page(before=3, limit=2) == ([1, 2], False)
        assert await page(limit=3) == ([8, 9, 10], True)
        assert await page(after=10) == ([], False)
        everything = await b.ok(Kind.HISTORY, conv=conv, after=0)
        assert everything["messages"] == delivered
        wrong = await b.call(Kind.HISTORY, conv=conv, after=1, before=3)
        assert wrong["error"] == "bad_request"
        assert (await b.call(Kind.HISTORY, conv=f"d:{bob}:{alice}"))["error"] == "bad_request"


async def test_a_history_reply_is_bounded(address: Address, settings: Settings) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, alice) as a:
        for _ in range(10):
            await a.ok(Kind.DIRECT, toid=bob, msg="x" * settings.limits.message)
        answer = await a.ok(Kind.HISTORY, conv=conv, after=0)
        assert 1 <= len(answer["messages"]) < 10
        assert answer["more"]
        answer = await a.ok(Kind.HISTORY, conv=conv)
        assert [m["seq"] for m in answer["messages"]][-1] == 10
        assert answer["more"]


async def test_a_new_member_sees_the_log_but_gets_only_what_is_new(address: Address) -> None:
    await register(address, "alice")
    await register(address, "bob")
    async with log_in(address, "alice") as a:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        for i in range(3):
            await a.ok(Kind.GROUP, groupid=group, msg=f"m{i}")
        async with log_in(address, "bob") as b:
            await b.ok(Kind.JOIN_GROUP, groupid=group)
            await b.quiet()
            await a.ok(Kind.GROUP, groupid=group, msg="new")
            assert [m["seq"] for m in await b.messages(1)] == [4]
            assert len((await b.ok(Kind.HISTORY, conv=f"g:{group}", after=0))["messages"]) == 4


@pytest.mark.parametrize(
    ("frame", "error"),
    [
        (b"nonsense", "bad_frame"),
        (b"[1]", "bad_frame"),
        (b'{"msgid":"6"}', "bad_frame"),
        (b'{"a":1}', "bad_frame"),
        (b'{"msgid":6,"toid":1,"msg":"\xff"}', "bad_frame"),
        (b'{"msgid":77,"ref":5}', "unknown_kind"),
        (b'{"msgid":24}', "unknown_kind"),
        (b'{"msgid":6,"toid":1,"msg":"x"}', "not_logged_in"),
        (b'{"msgid":4,"name":"x"}', "bad_request"),
        (b'{"msgid":4,"name":" x","password":"y"}', "bad_request"),
        (b'{"msgid":1,"id":1}', "bad_request"),
    ],
)
async def test_bad_input_gets_an_error_and_harms_nobody(address: Address, frame: bytes, error: str) -> None:
    async with connect(address) as wire:
        await wire.send_bytes(frame + b"\n")
        answer = await wire.receive()
        assert answer["error"] == error
        assert answer["errmsg"]
        await wire.quiet()


async def test_ping_echoes_anything(address: Address) -> None:
    data = '{"a":[1,2.50,123456789012345678901234567890,null,"ü\\n"]}'.encode()
    async with connect(address) as wire:
        await wire.send_bytes(b'{"msgid":22,"ref":1,"data":' + data + b"}\n")
        echo = await wire.stream.receive_some(1000)
    assert data in echo


async def test_already_logged_in(address: Address) -> None:
    await register(address, "alice")
    async with log_in(address, "alice") as wire:
        assert (await wire.call(Kind.LOGIN, name="alice", password="secret"))["error"] == "already_logged_in"
        assert (await wire.call(Kind.REGISTER, name="x", password="x"))["error"] == "already_logged_in"
        assert (await wire.call(Kind.HELLO, version=1))["error"] == "already_logged_in"


async def test_texts_over_the_limit(address: Address, settings: Settings) -> None:
    bob = await register(address, "bob")
    async with log_in(address, "bob") as wire:
        text = "ü" * (settings.limits.message // 2)
        await wire.ok(Kind.DIRECT, toid=bob, msg=text)
        assert (await wire.call(Kind.DIRECT, toid=bob, msg=text + "x"))["error"] == "too_large"
        assert (await wire.call(Kind.DIRECT, toid=bob, msg=""))["error"] == "bad_request"


@pytest.mark.settings(limits=Limits(frame=2000))
async def test_a_frame_over_the_limit_closes_the_connection(address: Address) -> None:
    async with connect(address) as wire:
        await wire.send(Kind.PING, data=1)
        await wire.send(Kind.PING, data="x" * 2000)
        assert (await wire.receive())["data"] == 1
        assert (await wire.receive())["error"] == "too_large"
        with pytest.raises(WireClosed):
            await wire.receive()


async def test_frames_in_pieces_and_glued(address: Address) -> None:
    async with connect(address) as wire:
        for byte in b'\n\0  \r\n{"msgid":22,"data":1}\n':
            await wire.send_bytes(bytes([byte]))
        assert (await wire.receive())["data"] == 1
        await wire.send_bytes(b'{"msgid":22,"data":2}\n{"msgid":22,"data":3}\n\n{"msgid":22,')
        await wire.send_bytes(b'"data":4}\n')
        assert [(await wire.receive())["data"] for _ in range(3)] == [2, 3, 4]


async def test_requests_of_one_segment_are_done_in_order(address: Address) -> None:
    alice = await register(address, "alice")
    requests: list[dict[str, object]] = [
        {"msgid": 20, "version": 1},
        {"msgid": 1, "id": alice, "password": "secret", "ref": "login"},
        {"msgid": 8, "groupname": "g", "ref": "group"},
        {"msgid": 10, "groupid": 1, "msg": "x", "ref": "message"},
        {"msgid": 3, "ref": "logout"},
        {"msgid": 10, "groupid": 1, "msg": "y", "ref": "too late"},
    ]
    async with connect(address, modern=False) as wire:
        await wire.send_bytes(b"".join(json.dumps(request).encode() + b"\n" for request in requests))
        answers = {answer.get("ref"): answer for answer in [await wire.receive() for _ in requests]}
    assert set(answers) == {None, "login", "group", "message", "logout", "too late"}
    assert answers["message"]["seq"] == 1
    assert answers["too late"]["error"] == "not_logged_in"


async def test_half_closing_gets_the_answers(address: Address) -> None:
    alice = await register(address, "alice")
    async with log_in(address, alice) as wire:
        await wire.send(Kind.DIRECT, toid=alice, msg="x", ref=1)
        await wire.stream.send_eof()
        assert (await wire.receive())["seq"] == 1
        with pytest.raises(WireClosed):
            await wire.receive()


async def test_a_break_is_no_loss(address: Address, server: Server) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, alice) as a:
        async with log_in(address, bob) as b:
            b.abort()
            await a.ok(Kind.DIRECT, toid=bob, msg="into the void")
        async with log_in(address, bob) as b:
            assert [m["seq"] for m in await b.messages(1)] == [1]
    assert isinstance(a, Wire)
    assert dict(server.node.router.statistics())["accounts"] <= 2


async def test_large_texts_in_one_burst(address: Address) -> None:
    bob = await register(address, "bob")
    count = 150
    async with log_in(address, "bob") as wire:
        for _ in range(count):
            await wire.send(Kind.DIRECT, toid=bob, msg="'" * 16_000)
        assert [(await wire.receive(Kind.REPLY))["seq"] for _ in range(count)] == list(range(1, count + 1))


async def test_ones_own_messages_leave_no_hole_in_what_was_missed(
    server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    """They count as received where everything before them is: at the beginning they are passed over, later not."""
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, alice) as a, log_in(address, bob) as b:
        await a.ok(Kind.DIRECT, toid=bob, msg="own")
        for number in range(50):  # as many as are read at once
            await b.ok(Kind.DIRECT, toid=alice, msg=str(number))
        await a.ok(Kind.DIRECT, toid=bob, msg="own")
        await b.ok(Kind.DIRECT, toid=alice, msg="last")

    read_after = server.node.messages.after

    async def after(_: MessageLog, conv: str, seq: int, limit: int) -> list[Delivery]:
        """The second page is read when the first one has been received."""
        with trio.fail_after(5):
            while seq == 51 and server.node.router.accounts[alice].pending.get(conv) != 51:
                await trio.sleep(0.01)
        return await read_after(conv, seq, limit)

    monkeypatch.setattr(MessageLog, "after", after)
    async with log_in(address, alice) as a:
        assert [frame["seq"] for frame in await a.messages(50)] == list(range(2, 52))
        await a.send(Kind.RECEIVED, conv=conv, seq=51)
        assert [frame["seq"] for frame in await a.messages(2)] == [52, 53]


class _HeldAnswers:
    """A log whose transactions are committed, and not answered before `go_on`."""

    def __init__(self, appender: Appender) -> None:
        self._appender = appender
        self.stored, self.go_on = trio.Event(), trio.Event()

    async def append(self, drafts: Sequence[Draft], doubt: Sequence[Stored] | None) -> list[Stored]:
        stored = await self._appender.append(drafts, doubt)
        self.stored.set()
        await self.go_on.wait()
        return stored


async def test_a_message_that_a_login_reads_before_its_sender_hears_of_it_is_answered_once(server: Server) -> None:
    address, node = server.addresses[0], server.node
    alice, bob = await register(address, "alice"), await register(address, "bob")
    held = _HeldAnswers(node.writer._appender)
    node.writer._appender = held  # type: ignore[assignment]
    async with log_in(address, alice) as a:
        await a.send(Kind.DIRECT, ref="first", toid=bob, msg="hello")
        await held.stored.wait()
        async with log_in(address, bob) as b:
            assert (await b.receive())["seq"] == 1
            await a.quiet()
            held.go_on.set()
            reply = await a.receive()
            assert (reply["ref"], reply["seq"]) == ("first", 1)
            await a.quiet()


async def test_a_conversation_that_begins_here_during_a_login_is_forgotten_with_the_last_who_is_in_it(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, node = server.addresses[0], server.node
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv, cursors = f"d:{alice}:{bob}", MessageLog.cursors
    async with log_in(address, alice) as a:

        async def begin_after_reading(self: MessageLog, userids: Sequence[int]) -> dict[int, list[Cursor]]:
            found = await cursors(self, userids)
            # As if it came from another node, and the look at the database had found it first.
            await node.writer._appender.append([Draft(conv, alice, "alice", bob, "hello", "", None)])
            assert node.router.open_direct(conv, alice, bob)
            return found

        monkeypatch.setattr(MessageLog, "cursors", begin_after_reading)
        async with log_in(address, bob) as b:
            node.router.heard(conv, 1)
            assert (await b.receive())["seq"] == 1
            await a.aclose()
            with trio.fail_after(5):
                while alice in node.router.accounts:
                    await trio.sleep(0.001)
    with trio.fail_after(5):
        while node.router.accounts:
            await trio.sleep(0.001)
    assert dict(node.router.statistics())["conversations"] == 0
