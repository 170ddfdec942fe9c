"""Nodes that are killed and stopped under load."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest
import trio
import trio.lowlevel

from tests.cluster.conftest import run_cluster
from tests.faults.load import Receiver, Sender, check
from tests.wire import Frame, WireClosed, connect, log_in, register
from trio_chat import Address, Settings
from trio_chat.verify.programs.node import ChatNode
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


@pytest.fixture
def pair(tmp_path: Path, settings: Settings) -> Iterator[tuple[ChatNode, ChatNode]]:
    """Two nodes without anything in front of them."""
    with ChatNode(tmp_path, "one", settings) as one, ChatNode(tmp_path, "two", settings) as two:
        yield one, two


async def test_nodes_behind_nginx_are_killed_under_load(tmp_path: Path, settings: Settings) -> None:
    with run_cluster(tmp_path, settings) as cluster:
        address = cluster.address
        for name in ("alice", "bob", "carol"):
            await register(address, name)
        async with log_in(address, "alice") as a, log_in(address, "bob") as b, log_in(address, "carol") as c:
            group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
            await b.ok(Kind.JOIN_GROUP, groupid=group)
            await c.ok(Kind.JOIN_GROUP, groupid=group)
        senders = [Sender([address], name, 400, groupid=group) for name in ("alice", "carol")]
        receiver = Receiver([address], "bob", f"g:{group}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            async with trio.open_nursery() as sending:
                for sender in senders:
                    sending.start_soon(sender.run)
                for number, node in enumerate(cluster.nodes):
                    await senders[0].wait_acknowledged(100 * (number + 1))
                    await trio.to_thread.run_sync(node.kill)
                    await trio.to_thread.run_sync(node.start)
            await receiver.wait(800, within=20)
            nursery.cancel_scope.cancel()
        await check(address, "alice", f"g:{group}", senders, receiver)


async def test_a_node_is_stopped_under_load(pair: tuple[ChatNode, ChatNode]) -> None:
    """Everybody on it is told, what it has acknowledged is there, and it ends well."""
    one, two = pair
    both = [one.address, two.address]
    alice, bob = await register(one.address, "alice"), await register(one.address, "bob")
    sender = Sender(both, "alice", 600, toid=bob)
    receiver = Receiver(both, "bob", f"d:{alice}:{bob}")
    told: list[Frame] = []

    async def watch(*, modern: bool) -> None:
        async with connect(one.address, modern=modern) as wire:
            try:
                while True:
                    told.append(await wire.receive(within=30))
            except WireClosed:
                pass

    async with trio.open_nursery() as nursery:
        nursery.start_soon(receiver.run)
        async with trio.open_nursery() as sending:
            sending.start_soon(lambda: watch(modern=True))
            sending.start_soon(lambda: watch(modern=False))
            sending.start_soon(sender.run)
            await sender.wait_acknowledged(100)
            one.terminate()
            assert await trio.to_thread.run_sync(one.wait) == 0
        await receiver.wait(600, within=20)
        nursery.cancel_scope.cancel()
    assert [frame["error"] for frame in told] == ["shutting_down"] * 2
    await check(two.address, "alice", f"d:{alice}:{bob}", [sender], receiver)
    assert not [event for event in one.events() if event["level"] in {"error", "critical"}]


async def test_a_second_signal_ends_it_at_once(pair: tuple[ChatNode, ChatNode]) -> None:
    one, _ = pair
    alice, bob = await register(one.address, "alice"), await register(one.address, "bob")
    # Such a client gets a frame each 20 ms, so there is something to wait for.
    async with log_in(one.address, alice) as a, log_in(one.address, bob, modern=False, terminator=b"\0") as b:
        await b.send(Kind.DIRECT, toid=alice, msg="I end my frames with NUL")
        await a.messages(1)
        for number in range(600):
            await a.send(Kind.DIRECT, toid=bob, msg=str(number), ref=number)
        await a.receive_where(lambda frame: frame.get("ref") == 599)
        began = time.monotonic()
        one.terminate()
        await trio.to_thread.run_sync(one.wait_logged, "draining")
        one.terminate()
        assert await trio.to_thread.run_sync(one.wait) == 0
        assert time.monotonic() - began < 5


async def test_a_killed_nodes_users_are_offline_soon_and_can_log_in(pair: tuple[ChatNode, ChatNode]) -> None:
    one, two = pair
    alice, bob = await register(one.address, "alice"), await register(two.address, "bob")
    async with log_in(one.address, alice) as a:
        await a.ok(Kind.ADD_FRIEND, friendid=bob)
        async with log_in(two.address, bob, modern=False):
            assert (await a.receive())["state"] == "online"
            two.kill()
            began = time.monotonic()
            assert (await a.receive(Kind.PRESENCE, within=20))["state"] == "offline"
            assert time.monotonic() - began < 15
        async with log_in(one.address, bob, modern=False):
            assert (await a.receive())["state"] == "online"


async def test_a_node_that_comes_back_clears_what_its_former_life_left(pair: tuple[ChatNode, ChatNode]) -> None:
    one, two = pair
    alice, bob = await register(one.address, "alice"), await register(two.address, "bob")
    async with log_in(one.address, alice) as a:
        await a.ok(Kind.ADD_FRIEND, friendid=bob)
        async with log_in(two.address, bob, modern=False):
            assert (await a.receive())["state"] == "online"
            await trio.to_thread.run_sync(two.kill)
            await trio.to_thread.run_sync(two.start)
            assert (await a.receive(Kind.PRESENCE))["state"] == "offline"
        async with log_in(two.address, bob, modern=False):
            assert (await a.receive())["state"] == "online"


async def test_a_frozen_node_comes_back_without_ghosts(tmp_path: Path, settings: Settings) -> None:
    """Taken for dead while it stood still, it notes its users again; those who left meanwhile stay away."""
    short = attrs.evolve(settings, lease=1.0)
    with ChatNode(tmp_path, "one", short) as one, ChatNode(tmp_path, "two", short) as two:
        alice = await register(one.address, "alice")
        bob, carol = await register(one.address, "bob"), await register(one.address, "carol")
        async with log_in(one.address, alice) as a:
            await a.ok(Kind.ADD_FRIEND, friendid=bob)
            await a.ok(Kind.ADD_FRIEND, friendid=carol)
            async with log_in(two.address, bob), log_in(two.address, carol) as c:
                states = {frame["id"]: frame["state"] for frame in [await a.receive() for _ in range(2)]}
                assert states == {bob: "online", carol: "online"}
                two.pause()
                states = {frame["id"]: frame["state"] for frame in [await a.receive(within=10) for _ in range(2)]}
                assert states == {bob: "offline", carol: "offline"}
                await c.aclose()
                two.resume()
                back = await a.receive(within=10)
                assert (back["id"], back["state"]) == (bob, "online")
                async with log_in(one.address, carol, modern=False):
                    assert [(await a.receive())["id"]] == [carol]
                assert (await a.receive())["state"] == "offline"
            assert (await a.receive(within=10))["id"] == bob


async def test_a_node_that_stood_still_is_killed_and_started(tmp_path: Path, settings: Settings) -> None:
    """Its operator has lost patience: what it held is given up, and it begins a new life beside the others."""
    with ChatNode(tmp_path, "one", settings) as one, ChatNode(tmp_path, "two", settings) as two:
        alice, bob = await register(one.address, "alice"), await register(two.address, "bob")
        async with log_in(one.address, alice) as a:
            await a.ok(Kind.ADD_FRIEND, friendid=bob)
            async with log_in(two.address, bob) as b:
                assert (await a.receive())["state"] == "online"
                await a.ok(Kind.DIRECT, toid=bob, msg="before")
                await b.messages(1)
                two.pause()
                await a.ok(Kind.DIRECT, toid=bob, msg="while it stands still")
                await trio.to_thread.run_sync(two.kill)
                await trio.to_thread.run_sync(two.start)
                assert (await a.receive(Kind.PRESENCE, within=15))["state"] == "offline"
            async with log_in(two.address, bob, modern=True) as b:
                assert (await a.receive(Kind.PRESENCE))["state"] == "online"
                assert [m["msg"] for m in await b.messages(2)] == ["before", "while it stands still"]
            assert (await a.receive(Kind.PRESENCE))["state"] == "offline"


async def test_a_sqlite_node_is_killed_again_and_again(tmp_path: Path) -> None:
    """Keys sent again after each kill: every message once, where it was acknowledged."""
    with ChatNode(tmp_path, "one", Settings(database=f"sqlite:///{tmp_path / 'chat.db'}")) as node:
        address: Address = node.address
        alice, bob = await register(address, "alice"), await register(address, "bob")
        sender = Sender([address], "alice", 500, toid=bob)
        receiver = Receiver([address], "bob", f"d:{alice}:{bob}")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(receiver.run)
            async with trio.open_nursery() as sending:
                sending.start_soon(sender.run)
                for number in range(5):
                    await sender.wait_acknowledged(70 * (number + 1) + number)
                    await trio.to_thread.run_sync(node.kill)
                    await trio.to_thread.run_sync(node.start)
            await receiver.wait(500, within=20)
            nursery.cancel_scope.cancel()
        await check(address, "alice", f"d:{alice}:{bob}", [sender], receiver)
