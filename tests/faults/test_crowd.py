"""Very many people: what one costs, and what happens when all of them come at once."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from pathlib import Path

import pytest
import trio

from tests.faults.conftest import Show
from tests.faults.population import Person, add_people, cpu_seconds, open_database, resident
from tests.wire import Wire, register
from tests.wire import log_in as log_in_by_password
from trio_chat import Address, Settings
from trio_chat.verify.programs.node import ChatNode
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(180)]


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
