"""Very many people: what one costs, and what happens when all of them come at once."""

from __future__ import annotations

import json
import statistics
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from tests.faults.conftest import Show
from tests.faults.population import Person, add_group, add_people, cpu_seconds, open_database, resident
from tests.wire import Wire, connect, register
from tests.wire import log_in as log_in_by_password
from trio_chat import Address, Settings
from trio_chat.verify.programs.node import ChatNode
from trio_chat.wire.messages import Kind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what a process costs is read from /proc"),
]


async def arrive(address: Address, persons: Sequence[Person | None], *, at_once: int = 50) -> list[Wire]:
    """Connect them all and, where it is somebody, log him in."""
    wires: list[Wire] = []
    limit = trio.CapacityLimiter(at_once)

    async def one(person: Person | None) -> None:
        async with limit:
            wire = Wire(await trio.open_tcp_stream(*address))
            wires.append(wire)
            await wire.send(Kind.HELLO, version=1)
            await wire.receive(Kind.HELLO_ACK, within=60)
            if person is not None:
                await log_in(wire, person)

    async with trio.open_nursery() as nursery:
        for person in persons:
            nursery.start_soon(one, person)
    return wires


async def log_in(wire: Wire, person: Person) -> None:
    await wire.send(Kind.LOGIN, token=person.token)
    assert (await wire.receive(Kind.LOGIN_ACK, within=60))["errno"] == 0


def leave(wires: Sequence[Wire]) -> None:
    for wire in wires:
        wire.abort()


async def login_cost(node: ChatNode, persons: Sequence[Person]) -> float:
    """The node's processor time for one login and its end, in seconds."""
    began = cpu_seconds(node.pid)
    for _ in range(2):
        for start in range(0, len(persons), 10):
            leave(await arrive(node.address, persons[start : start + 10]))
    return (cpu_seconds(node.pid) - began) / (2 * len(persons))


async def test_what_a_connection_and_a_login_cost(tmp_path: Path, show: Show) -> None:
    """Memory per connection has a budget; a login costs the same whether 10 or 2,000 are online."""
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    count = 2000
    async with open_database(url) as database:
        people = await add_people(database, count)
        visitors = await add_people(database, 100, first=count + 1)
    with ChatNode(tmp_path, "one", Settings(database=url), "--log-level", "info") as node:
        leave(await arrive(node.address, [None] * 50))  # what is made once is made
        await login_cost(node, visitors)
        leave_later = await arrive(node.address, people[:10])
        alone = await login_cost(node, visitors)
        before = resident(node.pid)
        wires = await arrive(node.address, [None] * count)
        per_connection = (resident(node.pid) - before) / count
        for wire, person in zip(wires, people, strict=True):
            await log_in(wire, person)
        per_user = (resident(node.pid) - before) / count
        crowded = await login_cost(node, visitors)
        leave(wires + leave_later)
    show(
        f"memory: {per_connection / 1024:.1f} KiB per idle connection, {per_user / 1024:.1f} KiB with a user logged in;"
        f" processor time of a login: {alone * 1000:.2f} ms with 10 online, {crowded * 1000:.2f} ms with {count:,}"
    )
    assert per_connection < 12 * 1024
    assert per_user < 24 * 1024
    assert crowded < 2 * alone


async def test_a_group_of_thousands(tmp_path: Path) -> None:
    """Its members log in with a bounded list, and each of those who are there gets each message."""
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    count, there = 5000, 100
    async with open_database(url) as database:
        people = await add_people(database, count)
        await add_group(database, 1, people)
    with ChatNode(tmp_path, "one", Settings(database=url), "--log-level", "info") as node:
        wires = await arrive(node.address, people[:there])
        async with connect(node.address) as last:
            await last.send(Kind.LOGIN, token=people[-1].token)
            ack = await last.receive(Kind.LOGIN_ACK)
            assert 0 < len(ack["groups"][0]["users"]) <= 1000
            for number in range(20):
                assert (await last.ok(Kind.GROUP, groupid=1, msg=str(number)))["seq"] == number + 1
        for wire in wires:
            assert [m["seq"] for m in await wire.messages(20)] == list(range(1, 21))
        leave(wires)
        async with connect(node.address) as away:  # one who was not there
            await away.send(Kind.LOGIN, token=people[there].token)
            assert [m["seq"] for m in await away.messages(20)] == list(range(1, 21))


async def test_everybody_comes_back_at_once(tmp_path: Path, settings: Settings, show: Show) -> None:
    """A thousand connections break in one moment: all are back soon, and those who stayed notice little."""
    count = 1000
    async with open_database(settings.database) as database:
        people = await add_people(database, count)
    with ChatNode(tmp_path, "one", settings, "--log-level", "info") as node:
        alice, bob = await register(node.address, "alice"), await register(node.address, "bob")
        wires = await arrive(node.address, people)
        async with log_in_by_password(node.address, alice) as a, log_in_by_password(node.address, bob) as b:
            latencies: list[float] = []
            over = trio.Event()

            async def chat() -> None:
                while not over.is_set():
                    began = time.monotonic()
                    await a.send(Kind.DIRECT, toid=bob, msg="still here", ref="r")
                    reply = await a.receive_where(lambda frame: frame.get("ref") == "r", within=20)
                    assert reply["errno"] == 0, reply
                    await b.messages(1, within=20)
                    latencies.append(time.monotonic() - began)
                    await trio.sleep(0.02)

            async with trio.open_nursery() as nursery:
                nursery.start_soon(chat)
                leave(wires)
                began = time.monotonic()
                wires = await arrive(node.address, people, at_once=count)
                took = time.monotonic() - began
                over.set()
        assert len(wires) == count
        leave(wires)
    latencies.sort()
    show(
        f"herd of {count:,}: all back after {took:.1f} s; for others meanwhile a message took"
        f" {statistics.median(latencies) * 1000:.0f} ms (median), {latencies[-1] * 1000:.0f} ms (longest)"
    )
    assert took < 60
    assert latencies[-1] < 5


async def test_a_client_that_never_reads(tmp_path: Path, settings: Settings, show: Show) -> None:
    """Kernel and server keep a bounded part of what it is sent; others notice nothing; it gets everything later."""
    count, text = 2000, "x" * 16_000  # 32 MB
    with ChatNode(tmp_path, "one", settings, "--log-level", "info", "--limit", "bytes_per_second=off") as node:
        alice, bob = await register(node.address, "alice"), await register(node.address, "bob")
        carol, dave = await register(node.address, "carol"), await register(node.address, "dave")
        took: list[float] = []
        async with (
            log_in_by_password(node.address, alice) as a,
            log_in_by_password(node.address, carol) as c,
            log_in_by_password(node.address, dave) as d,
        ):
            async with log_in_by_password(node.address, bob):
                before = resident(node.pid)
                async with trio.open_nursery() as nursery:

                    async def chat() -> None:
                        while True:
                            began = time.monotonic()
                            await c.ok(Kind.DIRECT, toid=dave, msg="hi")
                            await d.messages(1)
                            took.append(time.monotonic() - began)
                            await trio.sleep(0.01)

                    nursery.start_soon(chat)
                    frame = json.dumps({"msgid": int(Kind.DIRECT), "toid": bob, "msg": text}).encode() + b"\n"
                    for _ in range(0, count, 20):
                        await a.send_bytes(20 * frame)
                        for _ in range(20):
                            assert (await a.receive(Kind.REPLY, within=20))["errno"] == 0
                    nursery.cancel_scope.cancel()
                closed = await trio.to_thread.run_sync(node.wait_logged, "closing a connection")
                assert closed["reason"] == "does not read"
            async with log_in_by_password(node.address, bob) as b:
                for seq in range(1, count + 1):
                    (message,) = await b.messages(1, within=20)
                    assert (message["seq"], len(message["msg"])) == (seq, len(text))
                await b.quiet()
        grown = resident(node.pid, "VmHWM") - before
    show(
        f"a client that never read 32 MB: {grown / 2**20:.1f} MiB more memory; for others a message took"
        f" {statistics.median(took) * 1000:.0f} ms (median), {max(took) * 1000:.0f} ms (longest)"
    )
    assert grown < 28 * 2**20
    assert statistics.median(took) < 1
