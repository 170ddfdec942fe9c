"""How long clients notice what fails: measured on a private cluster, with the settings that operators get.

`python -m tests.faults.figures` prints the table of docs/guarantees.md; it takes some minutes. The machine's other work
shows in it, so look at the medians first.
"""

from __future__ import annotations

import itertools
import statistics
import sys
import time
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial

import attrs
import trio

from tests.wire import Wire, connect, register
from trio_chat import Address
from trio_chat.client import connect as connect_chat
from trio_chat.logs import configure
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.process import ServiceProcess
from trio_chat.verify.setups import Setup, cluster
from trio_chat.wire.messages import Kind

CLIENTS = 20

_names = (f"user {number}" for number in itertools.count())


@attrs.define
class Probe:
    """A client of the library that sends, waits for the acknowledgement, and goes on: when it began, how long it took."""

    sent: list[tuple[float, float]] = attrs.field(factory=list)
    node: Callable[[], str] = lambda: ""

    async def run(self, address: Address, name: str, to: int, *, task_status: trio.TaskStatus[None]) -> None:
        async with connect_chat(str(address)) as chat:
            await chat.login(name, "secret")
            self.node = lambda: chat.node
            task_status.started()
            while True:
                began = time.monotonic()
                await chat.send(to=to, text="probe")
                self.sent.append((began, time.monotonic() - began))
                await trio.sleep(0.02)

    def worst(self, since: float) -> float:
        """The longest of those that were not acknowledged at that moment, or were sent later."""
        return max(took for began, took in self.sent if began + took >= since)


@asynccontextmanager
async def probes(setup: Setup, count: int = CLIENTS) -> AsyncIterator[list[Probe]]:
    address = setup.addresses[0]
    nobody = await register(address, next(_names))
    async with trio.open_nursery() as nursery:
        running = [Probe() for _ in range(count)]
        for probe in running:
            name = next(_names)
            await register(address, name)
            await nursery.start(probe.run, address, name, nobody)
        await trio.sleep(1)
        yield running
        nursery.cancel_scope.cancel()


async def start(program: ServiceProcess) -> None:
    program.launch()
    await trio.to_thread.run_sync(program.wait_ready)


def node_of(setup: Setup, name: str) -> ChatNode:
    return next(node for node in setup.nodes if node.name == name)


async def node_killed(setup: Setup) -> list[str]:
    took: list[float] = []
    async with probes(setup) as running:
        for number in range(10):
            node = setup.nodes[number % len(setup.nodes)]
            hit = [probe for probe in running if probe.node() == node.name]
            began = time.monotonic()
            node.kill()
            await trio.sleep(4)
            took += [probe.worst(began) for probe in hit]
            await start(node)
            await trio.sleep(1.5)
            for probe in running:
                probe.sent.clear()
            await trio.sleep(0.2)
    return [row("a node killed, behind nginx: until the next acknowledgement of a client of it", took, p99=True)]


@asynccontextmanager
async def people(setup: Setup, names: Sequence[str]) -> AsyncIterator[list[Wire]]:
    """One on each of the nodes named, with an account of its own."""
    async with AsyncExitStack() as stack:
        found = []
        for node in names:
            name = next(_names)
            await register(setup.addresses[0], name)
            # Those that go to another node stay, so that the next one goes elsewhere.
            while (wire := await stack.enter_async_context(connect(setup.addresses[0]))).node != node:
                pass
            await wire.send(Kind.LOGIN, name=name, password="secret")
            wire.id = (await wire.receive(Kind.LOGIN_ACK))["id"]
            found.append(wire)
        yield found


async def redis_killed(setup: Setup) -> list[str]:
    assert setup.redis is not None
    one, two = (node.name for node in setup.nodes[:2])
    latencies: dict[str, list[float]] = {"same": [], "other": []}
    async with people(setup, [one, one, two]) as (a, b, c):
        group = (await a.ok(Kind.CREATE_GROUP, groupname=next(_names)))["groupid"]
        await b.ok(Kind.JOIN_GROUP, groupid=group)
        await c.ok(Kind.JOIN_GROUP, groupid=group)

        async def write() -> None:
            while True:
                began = time.monotonic()
                await a.ok(Kind.GROUP, groupid=group, msg=repr(began))
                await trio.sleep(0.01)

        async def read(wire: Wire, where: str) -> None:
            while True:
                (message,) = await wire.messages(1, within=20)
                latencies[where].append(time.monotonic() - float(message["msg"]))

        worst: dict[str, list[float]] = {"same": [], "other": []}
        async with trio.open_nursery() as nursery:
            nursery.start_soon(write)
            nursery.start_soon(read, b, "same")
            nursery.start_soon(read, c, "other")
            for fault in ("kill", "pause", "kill", "pause", "kill", "pause"):
                await trio.sleep(2)
                for values in latencies.values():
                    values.clear()
                if fault == "kill":
                    setup.redis.kill()
                else:
                    setup.redis.pause()
                await trio.sleep(5)
                if fault == "kill":
                    await start(setup.redis)
                else:
                    setup.redis.resume()
                await trio.sleep(2)
                for where, values in latencies.items():
                    worst[where].append(max(values))
            nursery.cancel_scope.cancel()
    return [
        row("Redis killed or stopped: a message on the same node (the longest of each time)", worst["same"]),
        row("Redis killed or stopped: a message to another node (the longest of each time)", worst["other"]),
    ]


async def database_restarted(setup: Setup) -> list[str]:
    assert setup.mariadb is not None
    beyond: list[float] = []
    absent: list[float] = []
    async with probes(setup) as running:
        for how in ("stop", "kill", "stop", "kill", "stop"):
            began = time.monotonic()
            await trio.to_thread.run_sync(getattr(setup.mariadb, how))
            await start(setup.mariadb)
            absent.append(time.monotonic() - began)
            await trio.sleep(4)
            beyond += [max(0.0, probe.worst(began) - absent[-1]) for probe in running]
            for probe in running:
                probe.sent.clear()
            await trio.sleep(1)
    return [
        row("the database restarted or killed: its absence", absent),
        row("the same: what a client waited beyond its absence", beyond),
    ]


async def database_stopped(setup: Setup) -> list[str]:
    assert setup.mariadb is not None
    refused: list[float] = []
    pings: list[float] = []
    async with people(setup, [node.name for node in setup.nodes for _ in range(3)]) as wires:
        nobody = await register(setup.addresses[0], next(_names))

        async def ask(wire: Wire, kind: Kind, **fields: object) -> None:
            began = time.monotonic()
            await wire.send(kind, ref=1, **fields)
            answer = await wire.receive_where(lambda frame: frame.get("ref") == 1, within=20)
            assert answer["error"] == "unavailable", answer
            refused.append(time.monotonic() - began)

        for _ in range(4):
            for wire in wires:
                await wire.ok(Kind.DIRECT, toid=nobody, msg="before")
            setup.mariadb.pause()
            async with trio.open_nursery() as nursery:
                for wire, other, quiet in zip(wires[::3], wires[1::3], wires[2::3], strict=True):
                    nursery.start_soon(partial(ask, wire, Kind.DIRECT, toid=nobody, msg="during"))
                    nursery.start_soon(ask, other, Kind.CONVERSATIONS)
                    for _ in range(40):
                        began = time.monotonic()
                        await quiet.ok(Kind.PING)
                        pings.append(time.monotonic() - began)
                        await trio.sleep(0.05)
            setup.mariadb.resume()
            await trio.sleep(2)
    return [
        row("the database stopped (SIGSTOP): until `unavailable`", refused),
        row("the same: PING answered after", pings, p99=True),
    ]


async def presence(setup: Setup) -> list[str]:
    one, two = (node.name for node in setup.nodes[:2])
    left: list[float] = []
    died: list[float] = []
    async with people(setup, [one]) as (watcher,):

        async def until_offline(friend: Wire, end: Callable[[], None]) -> float:
            await watcher.ok(Kind.ADD_FRIEND, friendid=friend.id)
            began = time.monotonic()
            end()
            gone = await watcher.receive_where(
                lambda frame: (
                    frame["msgid"] == Kind.PRESENCE and frame["id"] == friend.id and frame["state"] == "offline"
                ),
                within=30,
            )
            assert gone
            return time.monotonic() - began

        for where in (one, two) * 8:
            async with people(setup, [where]) as (friend,):
                left.append(await until_offline(friend, friend.abort))
        for _ in range(5):
            async with people(setup, [two]) as (friend,):
                died.append(await until_offline(friend, node_of(setup, two).kill))
            await start(node_of(setup, two))
            await trio.sleep(1.5)
    return [
        row("presence: a friend's connection breaks off, on this or another node", left),
        row("presence: a friend's node is killed", died),
    ]


def row(what: str, seconds: Sequence[float], *, p99: bool = False) -> str:
    ordered = sorted(seconds)
    shown = [statistics.median(ordered), ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))], ordered[-1]]
    cells = [f"{1000 * value:,.0f} ms" if value < 1 else f"{value:.1f} s" for value in shown]
    return f"| {what} | {cells[0]} | {cells[1] if p99 else ''} | {cells[2]} | {len(ordered)} |"


async def measure() -> None:
    with cluster(2) as setup:
        print("| what | median | p99 | longest | times |\n|---|--:|--:|--:|--:|")
        for part in (node_killed, redis_killed, database_restarted, database_stopped, presence):
            if sys.argv[1:] and part.__name__ not in sys.argv[1:]:
                continue
            for line in await part(setup):
                print(line, flush=True)


if __name__ == "__main__":
    configure("console", "error")
    trio.run(measure)
