"""What one node promises, two promise together."""

from __future__ import annotations

import json

import attrs
import pytest
import trio

import trio_chat
from tests.services.redis import Redis
from tests.wire import Wire, connect, log_in, register
from trio_chat import Server, Settings
from trio_chat.errors import StartupError
from trio_chat.wire.messages import Kind

Nodes = tuple[Server, Server]


async def test_chat_across_nodes(nodes: Nodes) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    async with log_in(one, alice) as a, log_in(two, bob) as b, log_in(two, alice) as phone:
        for i in range(20):
            assert (await a.ok(Kind.DIRECT, toid=bob, msg=f"m{i}"))["seq"] == i + 1
        assert [m["seq"] for m in await b.messages(20)] == list(range(1, 21))
        assert [m["seq"] for m in await phone.messages(20)] == list(range(1, 21))
        await b.ok(Kind.READ, conv=f"d:{alice}:{bob}", seq=20)
        assert (await a.receive(Kind.READ))["seq"] == 20
        # The same key through the other node.
        first = await a.ok(Kind.DIRECT, toid=bob, msg="once", key="k")
        again = await phone.ok(Kind.DIRECT, toid=bob, msg="once", key="k")
        assert first["seq"] == again["seq"] == 21


async def read_all(wire: Wire, count: int) -> list[int]:
    """The seqs of one conversation as they come, replies in their places."""
    seqs: list[int] = []
    while len(seqs) < count:
        frame = await wire.receive(within=20)
        if "seq" in frame:
            seqs.append(frame["seq"])
    return seqs


async def test_concurrent_writers_and_one_order(nodes: Nodes) -> None:
    one, two = (node.addresses[0] for node in nodes)
    count = 500
    alice, bob, carol = [await register(one, name) for name in ("alice", "bob", "carol")]
    async with log_in(one, alice) as a, log_in(two, bob) as b, log_in(two, carol) as c:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        await b.ok(Kind.JOIN_GROUP, groupid=group)
        await c.ok(Kind.JOIN_GROUP, groupid=group)

        async def write(wire: Wire) -> None:
            for start in range(0, count, 25):
                burst = [json.dumps({"msgid": 10, "groupid": group, "msg": str(i)}) for i in range(start, start + 25)]
                await wire.send_bytes("".join(line + "\n" for line in burst).encode())
                await trio.sleep(0.001)

        order: dict[str, list[int]] = {}

        async def read(name: str, wire: Wire) -> None:
            order[name] = await read_all(wire, 2 * count)

        async with trio.open_nursery() as nursery:
            for wire in (a, b):
                nursery.start_soon(write, wire)
            for name, wire in (("a", a), ("b", b), ("c", c)):
                nursery.start_soon(read, name, wire)
    assert order == {name: list(range(1, 2 * count + 1)) for name in "abc"}


async def test_two_devices_on_two_nodes(nodes: Nodes) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    async with log_in(two, bob) as b:
        await b.ok(Kind.ADD_FRIEND, friendid=alice)
        async with log_in(one, alice):
            assert (await b.receive())["state"] == "online"
            async with log_in(two, alice):
                pass
            async with connect(two, modern=False) as classic:
                await classic.send(Kind.LOGIN, id=alice, password="secret")
                assert (await classic.receive())["errno"] == 2
            await b.quiet()
        assert (await b.receive())["state"] == "offline"
        async with log_in(two, alice, modern=False):
            assert (await b.receive())["state"] == "online"


async def test_a_join_on_the_other_node(nodes: Nodes) -> None:
    one, two = (node.addresses[0] for node in nodes)
    await register(one, "alice")
    bob = await register(one, "bob")
    async with log_in(one, "alice") as a, log_in(one, bob) as laptop, log_in(two, bob) as phone:
        group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        await laptop.ok(Kind.JOIN_GROUP, groupid=group)
        await a.ok(Kind.GROUP, groupid=group, msg="hi")
        assert [m["msg"] for m in await laptop.messages(1)] == ["hi"]
        assert [m["msg"] for m in await phone.messages(1)] == ["hi"]
        await phone.ok(Kind.GROUP, groupid=group, msg="back")
        assert [m["msg"] for m in await laptop.messages(1)] == ["back"]


async def test_without_redis_nothing_is_lost(nodes: Nodes, redis: Redis) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob, carol = [await register(one, name) for name in ("alice", "bob", "carol")]
    async with log_in(one, alice) as a, log_in(one, carol) as c, log_in(two, bob) as b:
        await b.ok(Kind.ADD_FRIEND, friendid=carol)
        for fault in (redis.kill, redis.pause):
            fault()
            for i in range(20):
                await a.ok(Kind.DIRECT, toid=bob, msg=str(i))
                await a.ok(Kind.DIRECT, toid=carol, msg=str(i))
                assert (await c.messages(1, within=2))[0]["msg"] == str(i)  # the same node notices nothing
            assert [m["msg"] for m in await b.messages(20, within=4)] == [str(i) for i in range(20)]
            if fault == redis.kill:
                redis.start()
            else:
                redis.resume()
            with trio.fail_after(10):
                while not all(node.node.router.bus_up for node in nodes):
                    await trio.sleep(0.02)
            await a.ok(Kind.DIRECT, toid=bob, msg="back")
            assert (await b.messages(1))[0]["msg"] == "back"


async def test_the_local_bus_is_refused_beside_another_node(nodes: Nodes, settings: Settings) -> None:
    with pytest.raises(StartupError, match="they would not hear each other"):
        async with trio_chat.open_server(attrs.evolve(settings, node="three", bus="local:")):
            pass
    assert nodes


async def test_many_nodes_start_on_an_empty_database(settings: Settings) -> None:
    started: list[int] = []

    async def start(number: int) -> None:
        async with trio_chat.open_server(attrs.evolve(settings, node=str(number))) as server:
            started.append(await register(server.addresses[0], f"user{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(start, number)
    assert len(set(started)) == 4
