"""What one node promises, two promise together."""

from __future__ import annotations

import json
from pathlib import Path

import attrs
import pytest
import trio

import trio_chat
from tests.wire import Wire, connect, log_in, register
from trio_chat import Address, Server, Settings
from trio_chat.client.script import play
from trio_chat.client.script_file import load
from trio_chat.errors import StartupError
from trio_chat.store.presence import Entry, NodeRecord, PresenceTable
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.redis import Redis
from trio_chat.wire.messages import Kind

Nodes = tuple[Server, Server]

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda path: path.stem)
async def test_scenario(nodes: Nodes, file: Path) -> None:
    await play(load(file), [str(node.addresses[0]) for node in nodes])


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


async def test_typing_and_receipts_reach_the_other_node(nodes: Nodes) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob, carol = [await register(one, name) for name in ("alice", "bob", "carol")]
    conv = f"d:{alice}:{bob}"
    async with connect(one, modern=False) as a, log_in(two, bob) as b, log_in(two, carol) as c:
        await a.ok(Kind.HELLO, version=1, receipts=True)
        await a.ok(Kind.LOGIN, id=alice, password="secret")
        group = (await a.ok(Kind.CREATE_GROUP, groupname="g"))["groupid"]
        await b.ok(Kind.JOIN_GROUP, groupid=group)
        await a.ok(Kind.TYPING, conv=conv)
        assert await b.receive() == {"msgid": 30, "conv": conv, "id": alice}
        await b.ok(Kind.TYPING, conv=f"g:{group}")
        assert await a.receive() == {"msgid": 30, "conv": f"g:{group}", "id": bob}
        await a.ok(Kind.DIRECT, toid=bob, msg="hi")
        await b.messages(1)
        await b.send(Kind.RECEIVED, conv=conv, seq=1)
        assert await a.receive() == {"msgid": 34, "conv": conv, "seq": 1, "id": bob}
        for wire in (a, b, c):
            await wire.quiet()


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


async def test_read_marks_without_redis(nodes: Nodes, redis: Redis) -> None:
    """The look finds them, and each is told once, however many looks do; so it is with Redis too."""
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(one, alice) as a, log_in(two, bob) as b:
        for seq in (1, 2, 3):
            assert (await a.ok(Kind.DIRECT, toid=bob, msg="m"))["seq"] == seq
        await b.messages(3)
        for seq, fault in ((1, None), (2, redis.kill), (3, redis.start)):
            if fault is not None:
                fault()
            await b.ok(Kind.READ, conv=conv, seq=seq)
            assert await a.receive(Kind.READ) == {"msgid": Kind.READ, "conv": conv, "seq": seq, "id": bob}
        await trio.sleep(1.5)  # several looks
        await a.quiet()


async def test_the_local_bus_is_refused_beside_another_node(nodes: Nodes, settings: Settings) -> None:
    with pytest.raises(StartupError, match="they would not hear each other"):
        async with trio_chat.open_server(attrs.evolve(settings, node="three", bus="local:")):
            pass
    assert [record.name for record in await records(nodes[0])] == ["one", "two"]


async def test_a_second_node_of_one_name_is_refused(nodes: Nodes, settings: Settings) -> None:
    one, _ = nodes
    alice = await register(one.addresses[0], "alice")
    async with log_in(one.addresses[0], alice):
        with pytest.raises(
            StartupError, match=r"a node 'one' is running on .* each node needs a --node name of its own"
        ):
            async with trio_chat.open_server(attrs.evolve(settings, node="one")):
                pass
        assert [record.name for record in await records(one)] == ["one", "two"]
        assert await one.node.presence._table.users_of(one.node.presence._node) == {alice}


async def test_a_former_life_is_cleared_after_a_look(nodes: Nodes, settings: Settings) -> None:
    table = nodes[0].node.presence._table
    alice = await register(nodes[0].addresses[0], "alice")
    killed = await table.register_node("three", "its bus")
    await table.enter([Entry(alice)], killed)
    async with trio_chat.open_server(attrs.evolve(settings, node="three")) as three:
        assert killed not in [record.id for record in await records(three)]
        async with log_in(three.addresses[0], alice, modern=False):
            pass  # he is not taken for online


async def test_two_nodes_with_local_buses_are_refused(settings: Settings) -> None:
    alone = attrs.evolve(settings, bus="local:", node="one", lease=1.0)
    async with trio_chat.open_server(alone) as first:
        alice = await register(first.addresses[0], "alice")
        with pytest.raises(StartupError, match="a node 'one' is running on this database"):
            async with trio_chat.open_server(attrs.evolve(alone, node="two")):
                pass
        async with log_in(first.addresses[0], alice, modern=False):  # the first one goes on as if nothing had been
            pass
    async with trio_chat.open_server(attrs.evolve(alone, node="two")) as second, log_in(second.addresses[0], alice):
        pass  # one after the other is fine


async def records(server: Server) -> list[NodeRecord]:
    """The nodes that the database knows."""
    return await PresenceTable(server.node.messages.database).nodes()


async def test_a_second_server_on_one_sqlite_file_is_refused(tmp_path: Path) -> None:
    settings = Settings(tcp=(Address("127.0.0.1", 0),), http=None, database=f"sqlite:///{tmp_path / 'chat.db'}")
    async with trio_chat.open_server(settings) as first:
        with pytest.raises(StartupError, match=r"another server is using the database .*chat\.db") as caught:
            async with trio_chat.open_server(settings):
                pass
        assert "\n" not in str(caught.value)
        await register(first.addresses[0], "alice")


async def test_many_nodes_start_on_an_empty_database(settings: Settings) -> None:
    started: list[int] = []

    async def start(number: int) -> None:
        async with trio_chat.open_server(attrs.evolve(settings, node=str(number))) as server:
            started.append(await register(server.addresses[0], f"user{number}"))

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(start, number)
    assert len(set(started)) == 4


async def test_classic_logins_at_once_on_both_nodes(nodes: Nodes) -> None:
    """Of all of them one succeeds, again and again."""
    one, two = (node.addresses[0] for node in nodes)
    alice = await register(one, "alice")
    for _ in range(4):
        answers: list[int] = []
        done = trio.Event()

        async def log_in_at(address: Address, answers: list[int] = answers, done: trio.Event = done) -> None:
            async with connect(address, modern=False) as wire:
                await wire.send(Kind.LOGIN, id=alice, password="secret")
                answers.append((await wire.receive(Kind.LOGIN_ACK))["errno"])
                if len(answers) == 4:
                    done.set()
                await done.wait()

        async with trio.open_nursery() as nursery:
            for address in (one, two, one, two):
                nursery.start_soon(log_in_at, address)
        assert sorted(answers) == [0, 2, 2, 2]


async def test_a_key_at_once_through_both_nodes(nodes: Nodes) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    answers: list[tuple[str, int]] = []

    async def send(wire: Wire) -> None:
        for number in range(50):
            reply = await wire.ok(Kind.DIRECT, toid=bob, msg="m", key=str(number))
            answers.append((str(number), reply["seq"]))

    async with log_in(one, alice) as a, log_in(two, alice) as phone, log_in(two, bob) as b:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(send, a)
            nursery.start_soon(send, phone)
        assert len(answers) == 100
        assert len(set(answers)) == 50
        got = await b.messages(50)
        assert [m["seq"] for m in got] == list(range(1, 51))
        assert {(m["key"], m["seq"]) for m in got} == set(answers)
        await b.quiet()


async def test_a_key_is_remembered_for_ever(nodes: Nodes, mariadb: MariaDB, settings: Settings) -> None:
    """Sent again years later, when both have long forgotten everything, through the other node: the first one's answer."""
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    async with log_in(one, alice) as a:
        assert (await a.ok(Kind.DIRECT, toid=bob, msg="once", key="k"))["seq"] == 1
        for number in range(10):
            await a.ok(Kind.DIRECT, toid=bob, msg=str(number))
    long_ago = 1_000_000_000_000
    mariadb.sql(f"UPDATE Message SET ts = {long_ago} WHERE seq = 1", settings.database.rpartition("/")[2])
    async with log_in(two, alice) as a, log_in(one, bob) as b:
        again = await a.ok(Kind.DIRECT, toid=bob, msg="once", key="k")
        assert (again["seq"], again["ts"]) == (1, long_ago)
        assert len(await b.messages(11)) == 11
        await b.quiet()


async def test_going_on_at_a_third_node(nodes: Nodes, settings: Settings) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(one, "bob")
    conv = f"d:{alice}:{bob}"
    async with log_in(one, alice) as a, trio_chat.open_server(attrs.evolve(settings, node="three")) as third:
        seen: list[int] = []
        token = ""
        for address in (two, third.addresses[0], one):
            async with connect(address) as b:
                for _ in range(5):
                    await a.ok(Kind.DIRECT, toid=bob, msg="away")
                await b.send(Kind.LOGIN, **({"token": token} if token else {"id": bob, "password": "secret"}))
                token = (await b.receive(Kind.LOGIN_ACK))["token"]
                for _ in range(5):
                    await a.ok(Kind.DIRECT, toid=bob, msg="here")
                seen += [m["seq"] for m in await b.messages(10)]
                await b.send(Kind.RECEIVED, conv=conv, seq=seen[-1])
                await b.ok(Kind.CONVERSATIONS)
        assert seen == list(range(1, 31))


async def test_paging_through_a_log_that_grows(nodes: Nodes) -> None:
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    conv = f"d:{alice}:{bob}"

    async def write(wire: Wire, to: int) -> None:
        for _ in range(100):
            await wire.ok(Kind.DIRECT, toid=to, msg="m")

    async with (
        log_in(one, alice) as a,
        log_in(two, bob) as b,
        log_in(two, alice) as reader,
        trio.open_nursery() as nursery,
    ):
        nursery.start_soon(write, a, bob)
        nursery.start_soon(write, b, alice)
        read: list[int] = []
        with trio.fail_after(20):
            while len(read) < 200:
                page = await reader.ok(Kind.HISTORY, conv=conv, after=len(read), limit=7)
                read += [m["seq"] for m in page["messages"]]
                assert read == list(range(1, len(read) + 1))
