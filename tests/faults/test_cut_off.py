"""Connections that are dead and do not say so: of a client, of a node, of a commit whose answer is under way."""

from __future__ import annotations

import time
from contextlib import AsyncExitStack
from pathlib import Path

import attrs
import pytest
import trio

import trio_chat
from tests.faults.cables import both_ways, cut_off_node
from tests.wire import Wire, WireClosed, connect, log_in, register
from trio_chat import Address, Settings
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.network import Network
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.redis import Redis
from trio_chat.verify.programs.relay import open_relay
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]


@both_ways
async def test_a_half_dead_connection_loses_nothing(way: str, tmp_path: Path) -> None:
    """What was sent into a dead connection comes over the next one, once; the dead one is closed in bounded time."""
    async with AsyncExitStack() as stack:
        network = stack.enter_context(Network()) if way == "cable" else None
        hosts = ["127.0.0.1", *([network.cable.outside] if network is not None else [])]
        settings = Settings(
            tcp=tuple(Address(host, 0) for host in hosts), database=f"sqlite:///{tmp_path / 'chat.db'}", heartbeat=1.0
        )
        server = await stack.enter_async_context(trio_chat.open_server(settings))
        address = server.addresses[0]
        if network is not None:
            distant, cut = server.addresses[1], network.cable.cut
        else:
            relay = await stack.enter_async_context(open_relay(address))
            distant, cut = relay.address, relay.cut
        alice, bob = await register(address, "alice"), await register(address, "bob")
        conv = f"d:{alice}:{bob}"
        a = await stack.enter_async_context(log_in(address, alice))
        await a.ok(Kind.ADD_FRIEND, friendid=bob)
        dead = await stack.enter_async_context(log_in(distant, bob, network=network))
        assert (await a.receive(Kind.PRESENCE))["state"] == "online"
        for number in range(1, 6):
            await a.ok(Kind.DIRECT, toid=bob, msg=str(number))
        assert [m["seq"] for m in await dead.messages(5)] == [1, 2, 3, 4, 5]
        await dead.send(Kind.RECEIVED, conv=conv, seq=3)
        await dead.ok(Kind.CONVERSATIONS)
        cut()
        for number in range(6, 206):
            await a.ok(Kind.DIRECT, toid=bob, msg=str(number))
        async with log_in(address, bob) as b:
            assert [m["msg"] for m in await b.messages(202)] == [str(number) for number in range(4, 206)]
            await a.ok(Kind.DIRECT, toid=bob, msg="and on")
            assert [m["seq"] for m in await b.messages(1)] == [206]
            # The dead one ends after two heartbeats of silence; he is online until both have ended.
            with trio.fail_after(10):
                while len(server.node.connections) > 2:
                    await trio.sleep(0.05)
                    await a.ok(Kind.PING)
                    await b.send(Kind.PING)
            assert server.node.router.accounts.keys() == {alice, bob}
        assert (await a.receive(Kind.PRESENCE))["state"] == "offline"


@both_ways
async def test_a_partitioned_node_comes_back_to_one_truth(
    way: str, tmp_path: Path, settings: Settings, mariadb: MariaDB, redis: Redis
) -> None:
    """Cut off from the database and Redis, its clients still on it: nothing false is said there, nothing stays behind."""
    short = attrs.evolve(settings, lease=1.5)
    async with AsyncExitStack() as stack:
        side = await stack.enter_async_context(cut_off_node(way, tmp_path, "two", short, mariadb, redis))
        one = await stack.enter_async_context(trio_chat.open_server(attrs.evolve(short, node="one")))
        here, there = one.addresses[0], side.node.address
        alice = await register(here, "alice")
        bob, carol, dave = [await register(there, name) for name in ("bob", "carol", "dave")]
        conv = f"d:{alice}:{bob}"

        async with log_in(here, alice) as a:
            for friend in (bob, carol, dave):
                await a.ok(Kind.ADD_FRIEND, friendid=friend)

            async def told(count: int) -> dict[int, str]:
                """The last that alice is told of each of so many friends."""
                states: dict[int, str] = {}
                for _ in range(count):
                    frame = await a.receive(Kind.PRESENCE, within=15)
                    states[frame["id"]] = frame["state"]
                return states

            async with log_in(there, bob) as b, log_in(there, carol) as c, log_in(there, dave) as d:
                assert await told(3) == dict.fromkeys((bob, carol, dave), "online")
                await a.ok(Kind.DIRECT, toid=bob, msg="before")
                assert [m["seq"] for m in await b.messages(1)] == [1]

                side.cut()
                assert await told(3) == dict.fromkeys((bob, carol, dave), "offline")
                # He is connected there; what he asks is refused in bounded time, and he is not thrown out.
                began = time.monotonic()
                await b.send(Kind.DIRECT, toid=alice, msg="from the other side", key="k", ref="k")
                answer = await b.receive_where(lambda frame: frame.get("ref") == "k", within=8)
                assert answer["error"] == "unavailable"
                assert time.monotonic() - began < 6
                await b.ok(Kind.PING)
                await a.ok(Kind.DIRECT, toid=bob, msg="meanwhile")
                await c.aclose()  # leaves while nobody can be told
                async with log_in(here, dave) as again:  # goes to the other side, and is not kept out
                    assert await told(1) == {dave: "online"}
                    await d.aclose()

                    side.heal()
                    assert (await b.messages(1, within=15))[0]["msg"] == "meanwhile"
                    assert await told(1) == {bob: "online"}
                    with trio.fail_after(10):
                        while (reply := await b.call(Kind.DIRECT, toid=alice, msg="from the other side", key="k"))[
                            "errno"
                        ]:
                            await trio.sleep(0.1)
                    assert [(m["seq"], m["key"]) for m in await a.messages(1)] == [(reply["seq"], "k")]
                    async with log_in(there, carol, modern=False):  # nobody holds her place
                        assert await told(1) == {carol: "online"}
                    assert await told(1) == {carol: "offline"}
                    await again.quiet()
                assert await told(1) == {dave: "offline"}
                assert await stored(a, conv) == ["before", "meanwhile", "from the other side"]
            assert await told(1) == {bob: "offline"}
        await everybody_is_gone(mariadb, settings)


async def stored(wire: Wire, conv: str) -> list[str]:
    return [message["msg"] for message in (await wire.ok(Kind.HISTORY, conv=conv))["messages"]]


async def everybody_is_gone(mariadb: MariaDB, settings: Settings) -> None:
    """The database knows of nobody's presence."""
    name = settings.database.rpartition("/")[2]
    with trio.fail_after(10):
        while rows := mariadb.sql("SELECT userid FROM Presence UNION SELECT id FROM User WHERE state = 'online'", name):
            await trio.sleep(0.05)
            assert rows


@pytest.mark.parametrize("retry", ["the same node", "another node"])
async def test_killed_between_commit_and_reply(
    tmp_path: Path, settings: Settings, mariadb: MariaDB, redis: Redis, retry: str
) -> None:
    """Stored, and the sender was not told: the same `key` again is answered with the same seq."""
    database = settings.database.rpartition("/")[2]
    async with open_relay(Address("127.0.0.1", mariadb.port)) as relay:
        through = attrs.evolve(settings, database=relay_url(settings, mariadb, relay.address))
        with ChatNode(tmp_path, "two", settings) as two:
            one = ChatNode(tmp_path, "one", through)
            one.launch()
            try:
                await trio.to_thread.run_sync(one.wait_ready)
                alice, bob = await register(one.address, "alice"), await register(one.address, "bob")

                def hold(chunk: bytes) -> None:
                    if b"COMMIT" in chunk and b"Message" in chunk:
                        relay.hold_answers()

                async with log_in(one.address, alice) as a, connect(one.address):
                    assert (await a.ok(Kind.DIRECT, toid=bob, msg="first", key="1"))["seq"] == 1
                    relay.on_request = hold
                    await a.send(Kind.DIRECT, toid=bob, msg="second", key="2", ref="2")
                    with trio.fail_after(10):
                        while mariadb.sql("SELECT MAX(seq) FROM Message", database) != [["2"]]:
                            await trio.sleep(0.01)
                    await trio.to_thread.run_sync(one.kill)
                    with pytest.raises(WireClosed):
                        await a.receive(Kind.REPLY)
                relay.on_request = lambda _: None
                relay.heal()
                if retry == "the same node":
                    one.launch()
                    await trio.to_thread.run_sync(one.wait_ready)
                address = one.address if retry == "the same node" else two.address
                async with log_in(address, alice) as a, log_in(address, bob) as b:
                    assert (await a.ok(Kind.DIRECT, toid=bob, msg="second", key="2"))["seq"] == 2
                    assert (await a.ok(Kind.DIRECT, toid=bob, msg="third", key="3"))["seq"] == 3
                    assert [(m["seq"], m["msg"]) for m in await b.messages(3)] == [
                        (1, "first"),
                        (2, "second"),
                        (3, "third"),
                    ]
            finally:
                with trio.fail_after(30, shield=True):
                    await trio.to_thread.run_sync(one.stop)


def relay_url(settings: Settings, mariadb: MariaDB, address: Address) -> str:
    return settings.database.replace(f"127.0.0.1:{mariadb.port}", str(address))
