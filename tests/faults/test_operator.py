"""What whoever runs the server sees and does: the first start, what the log says, an upgrade, a full disk, odd clocks."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import statistics
import subprocess
import sys
import time
from pathlib import Path

import attrs
import pytest
import trio

import trio_chat
from tests.faults.conftest import Show
from tests.faults.population import add_backlog, add_people, open_database
from tests.wire import Wire, log_in, register
from trio_chat import Address, Server, Settings
from trio_chat.store import schema
from trio_chat.store.mysql import MySQL
from trio_chat.store.sqlite import SQLite
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.redis import Redis
from trio_chat.wire.messages import Kind

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

Nodes = tuple[Server, Server]


def test_the_first_start_needs_nothing(tmp_path: Path) -> None:
    """No database, no file of settings, no step before: one command, and people chat."""
    bare = {"HOME": str(tmp_path), "PATH": os.environ["PATH"]}
    # Free ports, because the default ones may be in use here.
    command = [sys.executable, "-m", "trio_chat", "serve", "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    with subprocess.Popen(command, cwd=tmp_path, env=bare, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        try:
            said = ""
            while (found := re.search(r"listening on 127\.0\.0\.1:(\d+)", said)) is None:
                line = server.stdout.readline()
                assert line, said
                said += line
            trio.run(chat, Address("127.0.0.1", int(found[1])))
        finally:
            server.send_signal(signal.SIGTERM)
        server.stdout.read()
    assert server.returncode == 0
    assert list(tmp_path.rglob("*.db"))


async def chat(address: Address) -> None:
    await register(address, "alice")
    bob = await register(address, "bob")
    async with log_in(address, "alice") as a, log_in(address, "bob") as b:
        await a.ok(Kind.DIRECT, toid=bob, msg="hi")
        assert [m["msg"] for m in await b.messages(1)] == ["hi"]


async def test_a_half_dead_redis_is_told_to_the_operator(tmp_path: Path, settings: Settings, redis: Redis) -> None:
    """One line in the log within seconds when it stops answering, and one when it is back, by itself."""
    with ChatNode(tmp_path, "one", settings) as node:
        await trio.to_thread.run_sync(node.wait_logged, "bus_up")
        redis.pause()
        began = time.monotonic()
        down = await trio.to_thread.run_sync(node.wait_logged, "bus_down")
        assert time.monotonic() - began < 5
        assert down["level"] == "warning"
        assert down["reason"]
        redis.resume()
        with trio.fail_after(10):
            while [e["event"] for e in node.events() if e["event"] in {"bus_up", "bus_down"}][-1] != "bus_up":
                await trio.sleep(0.05)


async def test_a_full_disk(tmp_path: Path) -> None:
    """A write that finds no room is `unavailable` and not stored; reading goes on; with room again all goes on."""
    settings = Settings(tcp=(Address("127.0.0.1", 0),), database=f"sqlite:///{tmp_path / 'chat.db'}")
    async with trio_chat.open_server(settings) as server:
        address = server.addresses[0]
        alice, bob = await register(address, "alice"), await register(address, "bob")
        database = server.node.messages.database
        assert isinstance(database, SQLite)

        async def pages(limit: str) -> None:
            def set_limit(connection: sqlite3.Connection) -> None:
                connection.execute(f"PRAGMA max_page_count = {limit}")

            await database._writer.call(set_limit)

        async with log_in(address, alice) as a, log_in(address, bob) as b:
            await a.ok(Kind.DIRECT, toid=bob, msg="before", key="before")
            await pages("1")  # as many as it has, and no more
            refused = await a.call(Kind.DIRECT, toid=bob, msg="x" * 10_000, key="during")
            assert refused["error"] == "unavailable"
            page = await a.ok(Kind.HISTORY, conv=f"d:{alice}:{bob}")
            assert [m["msg"] for m in page["messages"]] == ["before"]
            await pages("1073741823")
            assert (await a.ok(Kind.DIRECT, toid=bob, msg="after", key="during"))["seq"] == 2
            assert [m["msg"] for m in await b.messages(2)] == ["before", "after"]


async def test_an_upgrade_while_others_serve(
    nodes: Nodes, settings: Settings, monkeypatch: pytest.MonkeyPatch, show: Show
) -> None:
    """A new version changes the schema of a full database: the nodes that run go on, nobody waits for long."""
    one, two = (node.addresses[0] for node in nodes)
    alice, bob = await register(one, "alice"), await register(two, "bob")
    newest = schema.newest()
    change = [
        "ALTER TABLE Message ADD COLUMN edited BIGINT NOT NULL DEFAULT 0",
        "CREATE INDEX message_ts ON Message (ts)",
        "ALTER TABLE DeliveryCursor ADD COLUMN muted BIGINT NOT NULL DEFAULT 0",
    ]
    took: list[float] = []
    migrated = trio.Event()
    async with open_database(settings.database) as database:
        reader, *writers = await add_people(database, 51, first=1000)
        await add_backlog(database, reader, writers, 1000)

        async def chat(a: Wire, b: Wire) -> None:
            while not migrated.is_set() or len(took) < 20:
                began = time.monotonic()
                assert (await a.ok(Kind.DIRECT, toid=bob, msg="hi"))["seq"] == len(took) + 1
                assert (await b.messages(1))[0]["seq"] == len(took) + 1
                took.append(time.monotonic() - began)
                await trio.sleep(0.01)

        async with log_in(one, alice) as a, log_in(two, bob) as b, trio.open_nursery() as nursery:
            nursery.start_soon(chat, a, b)
            while len(took) < 10:
                await trio.sleep(0.01)
            monkeypatch.setattr(schema, "migrations", lambda: {newest + 1: change})
            assert isinstance(database, MySQL)
            began = time.monotonic()
            await schema.migrate(database)
            lasted = time.monotonic() - began
            migrated.set()
    show(
        f"schema changed under 50,000 messages in {lasted:.1f} s; a message meanwhile took"
        f" {statistics.median(took) * 1000:.0f} ms (median), {max(took) * 1000:.0f} ms (longest)"
    )
    assert max(took) < 3


async def test_the_databases_clock_jumps_back(nodes: Nodes, redis: Redis, monkeypatch: pytest.MonkeyPatch) -> None:
    """By an hour, and without Redis, so that each message is found by the look: `ts` never falls, nothing is overlooked."""
    one, two = (node.addresses[0] for node in nodes)
    alice, bob, carol = [await register(one, name) for name in ("alice", "bob", "carol")]
    redis.pause()
    async with log_in(one, alice) as a, log_in(two, bob) as b, log_in(two, carol) as c:
        before = await a.ok(Kind.DIRECT, toid=bob, msg="before")
        assert (await b.messages(1, within=8))[0]["seq"] == 1
        for node in nodes:
            database = node.node.messages.database
            assert isinstance(database, MySQL)
            earlier = attrs.evolve(database.dialect, now_ms=f"({database.dialect.now_ms} - 3600000)")
            monkeypatch.setattr(database, "_dialect", earlier)
        after = await a.ok(Kind.DIRECT, toid=bob, msg="after")
        assert after["ts"] >= before["ts"]
        assert (await b.messages(1, within=15))[0]["seq"] == 2
        # A conversation that begins now, for which there is no earlier time.
        assert (await a.ok(Kind.DIRECT, toid=carol, msg="new"))["ts"] < before["ts"]
        assert (await c.messages(1, within=15))[0]["msg"] == "new"
