"""Days in short: two nodes, MariaDB and Redis under a mixed load with reconnects: `python -m bench.soak --minutes 240`.

After a first stretch of load, and again after the last, everybody leaves, and what is held is counted: memory, descriptors,
threads, tasks, connections to the database, clients and channels of Redis. All but memory has to be what it was; memory
may be somewhat more, as caches that are bounded are full. Exit status 1 where it is not so.
"""

from __future__ import annotations

import argparse
import itertools
import random
import statistics
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import attrs
import trio

from fuzz.live import Line, Target, ask
from fuzz.process import Held, held
from trio_chat import Address, Settings
from trio_chat.client import Chat, Options, connect
from trio_chat.errors import ChatError
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.process import free_port
from trio_chat.verify.programs.redis import Redis
from trio_chat.wire.messages import Kind

PASSWORD = "correct horse"
PEOPLE = 40
#: How long the first stretch of load is, in seconds: after it every cache, pool and thread has been in use.
WARM_UP = 60.0
#: How much more memory each node may hold in the end, in MiB.
MORE_MEMORY = 32.0


@attrs.frozen
class Setup:
    mariadb: MariaDB
    redis: Redis
    nodes: list[ChatNode]
    targets: list[Target]


@attrs.define
class Counts:
    """What one look found: of each node, and of what both share."""

    nodes: list[Held]
    database: int
    redis_clients: int
    channels: int

    def lines(self) -> list[str]:
        lines = [f"node {number}: {node}" for number, node in enumerate(self.nodes, 1)]
        return [
            *lines,
            f"{self.database} connections to MariaDB, {self.redis_clients} to Redis, {self.channels} channels subscribed",
        ]

    def back_to(self, before: Counts) -> bool:
        return (
            all(now.back_to(then) for now, then in zip(self.nodes, before.nodes, strict=True))
            and self.database <= before.database
            and self.redis_clients <= before.redis_clients
            and self.channels <= before.channels
        )


def look(setup: Setup) -> Counts:
    database = setup.mariadb.sql(
        "SELECT COUNT(*) FROM information_schema.processlist WHERE user = 'trio_chat' OR db IS NOT NULL"
    )
    with setup.redis.client() as client:
        clients = len(client.client_list())
        channels = len(client.pubsub_channels())
    nodes = [held(node.pid, target.http) for node, target in zip(setup.nodes, setup.targets, strict=True)]
    return Counts(nodes, int(database[-1][0]), clients, channels)


async def settled(setup: Setup, before: Counts | None) -> Counts:
    """Wait until everybody has left and what idles is closed, and look."""
    deadline = trio.current_time() + 60
    while True:
        found = await trio.to_thread.run_sync(look, setup)
        gone = all(node.connections == 0 and node.accounts == 0 for node in found.nodes)
        if (gone and (before is None or found.back_to(before))) or trio.current_time() > deadline:
            return found
        await trio.sleep(1)


@attrs.define(eq=False)
class Load:
    """Everybody's behaviour follows from a seed. `seconds` are those from a message to its acknowledgement."""

    setup: Setup
    seed: int
    done: Counter[str] = attrs.field(factory=Counter)
    refused: Counter[str] = attrs.field(factory=Counter)
    seconds: list[float] = attrs.field(factory=list)

    async def prepare(self) -> None:
        async with Line.open(self.setup.targets[0], websocket=False) as line:
            await ask(line, Kind.HELLO, version=1)
            for number in range(PEOPLE):
                await ask(line, Kind.REGISTER, name=f"person {number}", password=PASSWORD)
            await ask(line, Kind.LOGIN, id=1, password=PASSWORD)
            for number in range(4):
                await ask(line, Kind.CREATE_GROUP, groupname=f"group {number}")

    async def run(self, seconds: float) -> None:
        with trio.move_on_after(seconds):
            async with trio.open_nursery() as nursery:
                for person in range(1, PEOPLE + 1):
                    # A fifth are in browsers or speak the classic dialect; the others use the library.
                    how = self._in_browser if person % 10 == 0 else self._classic if person % 10 == 5 else self._chat
                    nursery.start_soon(how, person, random.Random(self.seed * 1000 + person))

    async def _chat(self, person: int, chance: random.Random) -> None:
        addresses = [str(Address(*target.tcp)) for target in self.setup.targets]
        while True:
            chance.shuffle(addresses)
            with trio.move_on_after(chance.expovariate(1 / 20)):
                try:
                    async with connect(*addresses, options=Options(reconnect_first=0.1)) as chat:
                        await chat.login(person, PASSWORD)
                        async with trio.open_nursery() as nursery:
                            nursery.start_soon(self._read, chat)
                            while True:
                                await self._act(chat, chance)
                                await trio.sleep(chance.expovariate(4))
                except* ChatError as group:
                    for error in group.exceptions:
                        self.refused[type(error).__name__] += 1
            self.done["connections"] += 1

    async def _read(self, chat: Chat) -> None:
        async for message in chat.messages():
            self.done["received"] += 1
            if message.seq % 20 == 0:
                await chat.read(message)

    async def _act(self, chat: Chat, chance: random.Random) -> None:
        other, group = chance.randint(1, PEOPLE), chance.randint(1, 4)
        what = chance.random()
        try:
            if what < 0.7:
                began = trio.current_time()
                await chat.send(other if what < 0.4 else f"g:{group}", "x" * chance.choice((5, 50, 500)))
                self.seconds.append(trio.current_time() - began)
                self.done["sent"] += 1
            elif what < 0.78:
                await chat.join_group(group)
            elif what < 0.81:
                await chat.leave_group(group)
            elif what < 0.83:
                await chat.block(other)
            elif what < 0.88:
                await chat.unblock(other)
            elif what < 0.93:
                await chat.history(f"g:{group}", limit=20)
            elif what < 0.96:
                await chat.conversations()
            else:
                await chat.add_friend(other)
        except ChatError as error:
            self.refused[type(error).__name__] += 1

    async def _in_browser(self, person: int, chance: random.Random) -> None:
        """Comes, stays a while, and breaks off without a word."""
        for number in itertools.count():
            target = chance.choice(self.setup.targets)
            with trio.move_on_after(chance.expovariate(1 / 10)):
                async with Line.open(target, websocket=True) as line:
                    await ask(line, Kind.HELLO, version=1)
                    await ask(line, Kind.LOGIN, id=person, password=PASSWORD)
                    while True:
                        await ask(line, Kind.DIRECT, toid=chance.randint(1, PEOPLE), msg=f"message {number}")
                        await ask(line, Kind.SEARCH, query="message", limit=5)
                        self.done["sent"] += 1
                        await trio.sleep(chance.expovariate(2))
            self.done["connections"] += 1

    async def _classic(self, person: int, chance: random.Random) -> None:
        while True:
            target = chance.choice(self.setup.targets)
            with trio.move_on_after(chance.expovariate(1 / 10)):
                async with Line.open(target, websocket=False) as line:
                    await line.send([b'{"msgid":1,"id":%d,"password":"%s"}' % (person, PASSWORD.encode())])
                    while await line.frames():
                        await line.send([b'{"msgid":6,"toid":%d,"msg":"hello"}' % chance.randint(1, PEOPLE)])
                        await trio.sleep(chance.expovariate(2))
            self.done["connections"] += 1


async def soak(setup: Setup, minutes: float, seed: int) -> int:
    load = Load(setup, seed)
    await load.prepare()
    await load.run(WARM_UP)
    before = await settled(setup, None)
    load.done.clear()
    load.seconds.clear()
    began = time.monotonic()
    grown = []
    for _ in range(max(1, round(minutes))):
        await load.run(60 * minutes / max(1, round(minutes)))
        found = await trio.to_thread.run_sync(look, setup)
        grown.append("/".join(f"{node.memory:.0f}" for node in found.nodes))
    seconds = time.monotonic() - began
    after = await settled(setup, before)
    quantiles = statistics.quantiles(load.seconds, n=100)
    print(
        f"{seconds / 60:.0f} minutes, seed {seed}: {', '.join(f'{count:,} {name}' for name, count in load.done.items())}"
    )
    print("refused:", ", ".join(f"{name} {count:,}" for name, count in load.refused.most_common()))
    print(f"acknowledged: p50 {quantiles[49] * 1000:.1f} ms, p99 {quantiles[98] * 1000:.1f} ms")
    print("memory of the nodes each minute, MiB:", " ".join(grown))
    for name, counts in (("before", before), ("after", after)):
        for line in counts.lines():
            print(f"{name}: {line}")
    fine = after.back_to(before) and all(
        now.memory <= then.memory + MORE_MEMORY for now, then in zip(after.nodes, before.nodes, strict=True)
    )
    failed = [event for node in setup.nodes for event in node.events() if "exception" in event]
    for event in failed[:3]:
        print("FOUND:", event.pop("exception"), event)
    print("all is back to where it was" if fine and not failed else "FOUND: not all is back to where it was")
    return 0 if fine and not failed else 1


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=240.0, help="how long (240), beside the first minute")
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with (
        tempfile.TemporaryDirectory(prefix="soak-") as name,
        MariaDB(Path(name) / "mariadb") as mariadb,
        Redis(Path(name) / "redis") as redis,
    ):
        mariadb.create_database("soak")
        settings = Settings(database=mariadb.url("soak"), bus=redis.url)
        nodes, targets = [], []
        try:
            for number in ("one", "two"):
                http = Address("127.0.0.1", free_port())
                node = ChatNode(
                    Path(name), number, settings, "--http", str(http), "--log-level", "warning", "--limit", "all=off"
                )
                nodes.append(node)
                node.start()
                targets.append(Target(node.address, http))
            return trio.run(soak, Setup(mariadb, redis, nodes, targets), options.minutes, options.seed)
        finally:
            for node in nodes:
                node.stop()


if __name__ == "__main__":
    sys.exit(main())
