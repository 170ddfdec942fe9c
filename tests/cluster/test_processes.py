"""Nodes as processes behind nginx, and what happens when they, or what they stand on, are killed and stopped."""

from __future__ import annotations

import json
import time
from pathlib import Path

import pytest
import trio

from tests.cluster.conftest import Cluster, NodeProcess
from tests.services.mariadb import MariaDB
from tests.wire import Frame, Wire, WireClosed, connect, log_in, register
from trio_chat import Address, Settings
from trio_chat.client.player import play
from trio_chat.client.scenario import load
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(120)]

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda path: path.stem)
async def test_scenario_behind_nginx(cluster: Cluster, file: Path) -> None:
    await play(load(file), [str(cluster.address)])


async def test_the_log_has_the_clients_address(cluster: Cluster) -> None:
    async with connect(cluster.address) as wire:
        _, port = wire.stream.socket.getsockname()
        await wire.send_bytes(b"x" * 70_000)
        assert (await wire.receive())["error"] == "too_large"
        with pytest.raises(WireClosed):
            await wire.receive()
    assert cluster.nodes
    assert port


class Sender:
    """Sends numbered texts with keys, again and again until each is acknowledged, over any connection."""

    def __init__(self, address: Address, user: str, to: int, count: int) -> None:
        self.address = address
        self.user = user
        self.to = to
        self.waiting = {str(i): i for i in range(count)}
        self.acknowledged: dict[int, int] = {}

    async def run(self) -> None:
        while self.waiting:
            try:
                await self._session()
            except (WireClosed, OSError, trio.BrokenResourceError, AssertionError):
                await trio.sleep(0.05)

    async def _session(self) -> None:
        async with log_in(self.address, self.user) as wire:
            while self.waiting:
                some = list(self.waiting.items())[:20]
                lines = [
                    json.dumps({"msgid": 6, "toid": self.to, "msg": key, "key": key, "ref": key}) for key, _ in some
                ]
                await wire.send_bytes("".join(line + "\n" for line in lines).encode())
                for _ in some:
                    reply = await wire.receive(Kind.REPLY, within=10)
                    if reply["errno"] == 0:
                        self.acknowledged[self.waiting.pop(reply["ref"])] = reply["seq"]
                    else:
                        assert reply["error"] in {"unavailable", "shutting_down"}
                        raise WireClosed


async def whole_log(wire: Wire, conv: str) -> list[Frame]:
    messages: list[Frame] = []
    while True:
        page = await wire.ok(Kind.HISTORY, conv=conv, after=len(messages))
        messages += page["messages"]
        if not page["more"]:
            return messages


async def check(address: Address, sender: Sender, receiver: str, conv: str) -> None:
    """Everything acknowledged is in the log, once, at the seq that was acknowledged; the receiver gets all of it."""
    count = len(sender.acknowledged)
    async with log_in(address, receiver) as wire:
        log = await whole_log(wire, conv)
        assert [m["seq"] for m in log] == list(range(1, len(log) + 1))
        assert len(log) == count
        assert {int(m["msg"]): m["seq"] for m in log} == sender.acknowledged
        got = await wire.messages(count, within=20)
        assert [m["seq"] for m in got] == list(range(1, count + 1))


@pytest.mark.parametrize("fault", ["kill", "terminate"])
async def test_a_node_ends_under_load(cluster: Cluster, fault: str) -> None:
    alice, bob = await register(cluster.address, "alice"), await register(cluster.address, "bob")
    sender = Sender(cluster.address, "alice", bob, 600)
    async with trio.open_nursery() as nursery:
        nursery.start_soon(sender.run)
        for _ in range(2):
            for node in cluster.nodes:
                await trio.sleep(0.25)
                if fault == "kill":
                    await trio.to_thread.run_sync(node.kill)
                else:
                    await trio.to_thread.run_sync(node.stop)
                    assert node.returncode == 0
                await trio.to_thread.run_sync(node.start)
    await check(cluster.address, sender, "bob", f"d:{alice}:{bob}")


async def test_a_killed_nodes_users_are_offline_soon_and_can_log_in(
    tmp_path: Path, settings: Settings, mariadb: MariaDB
) -> None:
    with NodeProcess(tmp_path, "one", settings) as one, NodeProcess(tmp_path, "two", settings) as two:
        alice, bob = await register(one.address, "alice"), await register(two.address, "bob")
        async with log_in(one.address, alice) as a:
            await a.ok(Kind.ADD_FRIEND, friendid=bob)
            async with log_in(two.address, bob, modern=False):
                assert (await a.receive())["state"] == "online"
                two.kill()
                began = time.monotonic()
                assert (await a.receive(Kind.PRESENCE, within=15))["state"] == "offline"
                assert time.monotonic() - began < 15
            async with log_in(one.address, bob, modern=False):
                assert (await a.receive())["state"] == "online"
    assert mariadb.running


async def test_a_stopped_database(tmp_path: Path, settings: Settings, mariadb: MariaDB) -> None:
    """Pings are answered, requests are `unavailable` in bounded time, and afterwards all is as before."""
    with NodeProcess(tmp_path, "one", settings) as one:
        alice, bob = await register(one.address, "alice"), await register(one.address, "bob")
        async with log_in(one.address, alice) as a, log_in(one.address, bob) as b:
            assert (await a.ok(Kind.DIRECT, toid=bob, msg="before", key="before"))["seq"] == 1
            mariadb.pause()
            try:
                await a.send(Kind.DIRECT, toid=bob, msg="during", key="during", ref="during")
                await b.send(Kind.HISTORY, conv=f"d:{alice}:{bob}", ref="history")
                slowest = 0.0
                for _ in range(10):
                    began = time.monotonic()
                    await a.send(Kind.PING, data=began)
                    await a.receive(Kind.PONG)
                    slowest = max(slowest, time.monotonic() - began)
                    await trio.sleep(0.1)
                assert slowest < 1
                answer = await a.receive(Kind.REPLY, within=6)
                assert (answer["ref"], answer["error"]) == ("during", "unavailable")
                answer = await b.receive(Kind.REPLY, within=6)
                assert (answer["ref"], answer["error"]) == ("history", "unavailable")
            finally:
                mariadb.resume()
            with trio.fail_after(10):
                while (await a.call(Kind.DIRECT, toid=bob, msg="during", key="during"))["errno"]:
                    await trio.sleep(0.1)
            await a.ok(Kind.DIRECT, toid=bob, msg="after", key="after")
            assert [(m["seq"], m["msg"]) for m in await b.messages(3)] == [(1, "before"), (2, "during"), (3, "after")]


async def test_a_restarted_database(tmp_path: Path, settings: Settings, mariadb: MariaDB) -> None:
    with NodeProcess(tmp_path, "one", settings) as one:
        alice, bob = await register(one.address, "alice"), await register(one.address, "bob")
        sender = Sender(one.address, "alice", bob, 400)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(sender.run)
            await trio.sleep(0.2)
            await trio.to_thread.run_sync(mariadb.kill)
            await trio.to_thread.run_sync(mariadb.start)
        await check(one.address, sender, "bob", f"d:{alice}:{bob}")
