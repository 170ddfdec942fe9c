"""What happens between the moment a login has read the database and the moment it is done."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import pytest
import trio

from tests.server.stalling import eventually
from tests.wire import Frame, Wire, connect, log_in, register
from trio_chat import Address, Server, receiving
from trio_chat.bus.local import LocalBus, LocalHub
from trio_chat.errors import Unavailable
from trio_chat.services.accounts import AccountService
from trio_chat.store.accounts import Friend
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.store.presence import Entry, StateChange
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Kind


class Slow:
    """Holds the next login at the point where it has read its cursors."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self._read = MessageLog.cursors
        self._monkeypatch = monkeypatch

    @asynccontextmanager
    async def login(self, wire: Wire, userid: int) -> AsyncIterator[list[Frame]]:
        """Afterwards the list has the LOGIN_ACK."""
        reached, go_on = trio.Event(), trio.Event()
        read = self._read

        async def held(log: MessageLog, of: Sequence[int]) -> dict[int, list[Cursor]]:
            cursors = await read(log, of)
            reached.set()
            await go_on.wait()
            return cursors

        with self._monkeypatch.context() as patch:
            patch.setattr(MessageLog, "cursors", held)
            await wire.send(Kind.LOGIN, id=userid, password="secret")
            with trio.fail_after(5):
                await reached.wait()
            patch.setattr(MessageLog, "cursors", self._read)
            answers: list[Frame] = []
            yield answers
            go_on.set()
            answers.append(await wire.receive(Kind.LOGIN_ACK))
            assert answers[0]["errno"] == 0


@pytest.fixture
def slow(monkeypatch: pytest.MonkeyPatch) -> Slow:
    return Slow(monkeypatch)


async def received_seq(wire: Wire, conv: str) -> int:
    found = {each["conv"]: each for each in (await wire.ok(Kind.CONVERSATIONS))["conversations"]}
    seq: int = found[conv]["received_seq"]
    return seq


@pytest.mark.parametrize("before", [0, 1, 3], ids=["a first message", "a second", "later"])
@pytest.mark.parametrize("device", ["first", "second"])
async def test_a_message_that_comes_during_a_login(address: Address, slow: Slow, before: int, device: str) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(address, bob) as b, connect(address) as wire, connect(address) as other:
        if before:
            async with log_in(address, alice) as earlier:
                for _ in range(before):
                    await b.ok(Kind.DIRECT, toid=alice, msg="before")
                await earlier.messages(before)
                await earlier.send(Kind.RECEIVED, conv=conv, seq=before)
                assert await received_seq(earlier, conv) == before
        if device == "second":
            await other.ok(Kind.LOGIN, id=alice, password="secret")
        async with slow.login(wire, alice):
            await b.ok(Kind.DIRECT, toid=alice, msg="during")
        await b.ok(Kind.DIRECT, toid=alice, msg="after")
        assert [m["seq"] for m in await wire.messages(2)] == [before + 1, before + 2]
        await wire.quiet()
        # It is not received before the client says so, not even where he answers,
        await wire.ok(Kind.DIRECT, toid=bob, msg="answer")
        assert await received_seq(wire, conv) == before
        # and it is as soon as he does.
        await wire.send(Kind.RECEIVED, conv=conv, seq=before + 3)
        assert await received_seq(wire, conv) == before + 3


async def test_what_was_not_received_comes_again(address: Address, slow: Slow) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, bob) as b, log_in(address, alice) as a:
        await b.ok(Kind.DIRECT, toid=alice, msg="before")
        await a.messages(1)
        await a.send(Kind.RECEIVED, conv=f"d:{alice}:{bob}", seq=1)
        await a.quiet()
        async with connect(address) as wire:
            await a.aclose()
            async with slow.login(wire, alice):
                await b.ok(Kind.DIRECT, toid=alice, msg="during")
            await wire.ok(Kind.DIRECT, toid=bob, msg="answer")
        async with log_in(address, alice) as again:
            assert [m["msg"] for m in await again.messages(1)] == ["during"]


async def test_a_group_message_that_comes_during_a_login(address: Address, slow: Slow) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with log_in(address, bob) as b, connect(address) as wire, log_in(address, alice) as a:
        old = (await b.ok(Kind.CREATE_GROUP, groupname="old"))["groupid"]
        new = (await b.ok(Kind.CREATE_GROUP, groupname="new"))["groupid"]
        await a.ok(Kind.JOIN_GROUP, groupid=old)
        async with slow.login(wire, alice):
            await b.ok(Kind.GROUP, groupid=old, msg="o1")
            await a.ok(Kind.JOIN_GROUP, groupid=new)
            await b.ok(Kind.GROUP, groupid=new, msg="n1")
        await b.ok(Kind.GROUP, groupid=old, msg="o2")
        await b.ok(Kind.GROUP, groupid=new, msg="n2")
        got = await wire.messages(4)
        assert [m["msg"] for m in got if m["groupid"] == old] == ["o1", "o2"]
        assert [m["msg"] for m in got if m["groupid"] == new] == ["n1", "n2"]
        for group in (old, new):
            await wire.send(Kind.RECEIVED, conv=f"g:{group}", seq=2)
            assert await received_seq(wire, f"g:{group}") == 2


async def befriend(address: Address, friendid: int, *names: str) -> None:
    for name in names:
        async with log_in(address, name) as wire:
            await wire.ok(Kind.ADD_FRIEND, friendid=friendid)


async def test_a_friend_who_comes_during_a_login_is_online_in_its_answer(address: Address, slow: Slow) -> None:
    alice, bob, fred = [await register(address, name) for name in ("alice", "bob", "fred")]
    await befriend(address, fred, "alice", "bob")
    async with log_in(address, bob) as b, connect(address) as wire:
        async with connect(address) as f:
            async with slow.login(wire, alice) as answers:
                await f.ok(Kind.LOGIN, id=fred, password="secret")
                assert (await b.receive(Kind.PRESENCE))["state"] == "online"
            assert answers[0]["friends"] == [{"id": fred, "name": "fred", "state": "online"}]
        assert await wire.receive(Kind.PRESENCE) == {"msgid": Kind.PRESENCE, "id": fred, "state": "offline"}


async def test_a_friend_who_comes_while_he_is_added(address: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    alice, bob, fred = [await register(address, name) for name in ("alice", "bob", "fred")]
    await befriend(address, fred, "bob")
    add = AccountService.add_friend
    async with log_in(address, alice) as a, log_in(address, bob) as b, connect(address) as f:

        async def add_and_then(accounts: AccountService, userid: int, friendid: int) -> Friend:
            friend = await add(accounts, userid, friendid)
            await f.ok(Kind.LOGIN, id=fred, password="secret")
            return friend

        monkeypatch.setattr(AccountService, "add_friend", add_and_then)
        assert (await a.ok(Kind.ADD_FRIEND, friendid=fred))["friend"]["state"] == "online"
        assert (await b.receive(Kind.PRESENCE))["state"] == "online"
        await a.quiet()


async def test_what_a_login_reads_of_a_friend_is_told_to_those_who_do_not_know_it_yet(
    server: Server, address: Address
) -> None:
    """As where another node's hint is late: here the database is quicker."""
    alice, bob, fred = [await register(address, name) for name in ("alice", "bob", "fred")]
    await befriend(address, fred, "alice", "bob")
    async with log_in(address, bob) as wire:
        (change,) = await server.node.presence._table.enter([Entry(fred)], 4711)  # on another node
        assert isinstance(change, StateChange)
        async with log_in(address, alice) as a:
            assert [friend["state"] for friend in a.ack["friends"]] == ["online"]
            assert (await wire.receive(Kind.PRESENCE))["state"] == "online"
            server.node.router.state_changed(StateChange(fred, "online", change.changed))
            await wire.quiet()
            await a.quiet()


async def test_a_classic_login_while_a_modern_one_of_the_account_is_loading(
    server: Server, address: Address, slow: Slow
) -> None:
    alice = await register(address, "alice")
    async with (
        connect(address) as wire,
        connect(address, modern=False) as classic,
        log_in(address, alice) as older,
        slow.login(wire, alice),
    ):
        await older.aclose()
        await eventually(lambda: not server.node.router.accounts)
        await classic.send(Kind.LOGIN, id=alice, password="secret")
        assert (await classic.receive(Kind.LOGIN_ACK))["error"] == "account_in_use"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> LocalHub:
    """Joins the server's bus with others: take it before the server."""
    hub = LocalHub()
    monkeypatch.setattr("trio_chat.server._make_bus", lambda _: LocalBus(hub))
    return hub


class Nobody:
    def receive(self, _: object) -> None:
        pass

    def missed(self) -> None:
        pass


async def test_a_login_keeps_its_channels_when_an_older_connection_ends(
    hub: LocalHub, server: Server, address: Address, slow: Slow
) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    async with trio.open_nursery() as nursery, connect(address) as wire:
        other = LocalBus(hub)
        await nursery.start(other.run, Nobody())
        async with log_in(address, alice) as older:
            group = (await older.ok(Kind.CREATE_GROUP, groupname="group"))["groupid"]
            async with slow.login(wire, alice):
                await older.aclose()
                await eventually(lambda: not server.node.router.accounts)
        for conv, to in ((f"d:{alice}:{bob}", alice), (f"g:{group}", group)):
            delivery = Delivery(conv, 1, 1, bob, "bob", to, "hint", "-", None)
            other.publish([(f"u:{to}" if conv[0] == "d" else conv, b"another\n" + delivery.modern())])
            assert [m["conv"] for m in await wire.messages(1)] == [conv]
        nursery.cancel_scope.cancel()


async def test_a_login_that_fails_leaves_no_channel_behind(
    hub: LocalHub, server: Server, address: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    alice = await register(address, "alice")
    bus = server.node.router._bus
    assert isinstance(bus, LocalBus)
    before = bus.statistics().channels
    async with log_in(address, alice) as wire:
        await wire.ok(Kind.CREATE_GROUP, groupname="group")
        assert bus.statistics().channels == before + 2
    await eventually(lambda: bus.statistics().channels == before)

    async def away(*_: object) -> None:
        raise Unavailable

    monkeypatch.setattr(MessageLog, "cursors", away)
    async with connect(address) as wire:
        await wire.send(Kind.LOGIN, id=alice, password="secret")
        assert (await wire.receive(Kind.LOGIN_ACK))["error"] == "unavailable"
    assert bus.statistics().channels == before


async def test_what_arrives_during_a_storm_of_logins_is_not_kept_for_ever(
    server: Server, address: Address, slow: Slow
) -> None:
    """There is always some login loading; what none of them can need is forgotten."""
    alice, bob = await register(address, "alice"), await register(address, "bob")
    router = server.node.router
    async with log_in(address, bob) as b, connect(address) as wire:
        with router.loading(4711):
            async with slow.login(wire, alice):
                await b.ok(Kind.DIRECT, toid=bob, msg="to himself")
                await b.ok(Kind.DIRECT, toid=alice, msg="to her")
                assert list(router._unheard) == [f"d:{alice}:{bob}"]
            assert not router._unheard
        assert [m["msg"] for m in await wire.messages(1)] == ["to her"]


@pytest.mark.parametrize("how", ["reset", "end"])
async def test_who_hangs_up_during_his_login_is_not_counted(
    address: Address, server: Server, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    """Though the login itself hangs: after a reset at once, after the end of his half when the time to answer is over."""
    monkeypatch.setattr(receiving, "_LINGER", 0.2)
    alice, bob = await register(address, "alice"), await register(address, "bob")
    await befriend(address, alice, "bob")

    async def held(_log: MessageLog, _userid: int) -> list[Cursor]:
        await trio.sleep_forever()
        raise AssertionError

    async with log_in(address, bob) as b, connect(address) as wire:
        with monkeypatch.context() as patch:
            patch.setattr(MessageLog, "cursors", held)
            await wire.send(Kind.LOGIN, id=alice, password="secret")
            assert (await b.receive(Kind.PRESENCE))["state"] == "online"
            if how == "reset":
                wire.abort()
            else:
                await wire.aclose()
            assert (await b.receive(Kind.PRESENCE))["state"] == "offline"
        await eventually(lambda: not server.node.presence.busy)
        async with log_in(address, alice, modern=False):  # nobody holds his place
            assert (await b.receive(Kind.PRESENCE))["state"] == "online"
