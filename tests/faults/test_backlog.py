"""Somebody was away for long, and has missed very much."""

from __future__ import annotations

import statistics
import sys
import time
from pathlib import Path

import pytest

from tests.faults.conftest import Show
from tests.faults.population import Person, add_backlog, add_people, open_database, resident
from tests.wire import Wire, connect
from trio_chat import Address, Settings
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.node import ChatNode
from trio_chat.wire.conversation import direct_conv
from trio_chat.wire.messages import Kind

pytestmark = [
    pytest.mark.slow,
    pytest.mark.timeout(180),
    pytest.mark.skipif(not sys.platform.startswith("linux"), reason="what a process costs is read from /proc"),
]

CONVERSATIONS = 500


async def log_in(wire: Wire, person: Person) -> float:
    """Log in, and return how long the answer took."""
    began = time.monotonic()
    await wire.send(Kind.LOGIN, token=person.token)
    assert (await wire.receive(Kind.LOGIN_ACK, within=30))["errno"] == 0
    return time.monotonic() - began


async def median_login(address: Address, person: Person) -> float:
    took = []
    for _ in range(7):
        async with connect(address) as wire:
            took.append(await log_in(wire, person))
    return statistics.median(took)


async def read(wire: Wire, reader: Person, last: dict[str, int], count: int, *, receive: bool) -> None:
    """Take `count` messages; each conversation's follow what is in `last`, where the reader then is."""
    for number in range(1, count + 1):
        (message,) = await wire.messages(1, within=20)
        conv, seq = message["conv"], message["seq"]
        assert seq == last.get(conv, 0) + 1
        last[conv] = seq
        if receive and (seq % 20 == 0 or number == count):
            await wire.send(Kind.RECEIVED, conv=conv, seq=seq)


# MySQL has less to do: filling it takes its time.
@pytest.mark.parametrize(("kind", "each"), [("sqlite", 200), ("mysql", 40)])
async def test_a_hundred_thousand_missed_messages(
    tmp_path: Path, kind: str, each: int, request: pytest.FixtureRequest, show: Show
) -> None:
    """They do not delay the login, stream in bounded memory, and after a break go on where RECEIVED stood."""
    total = CONVERSATIONS * each
    url = f"sqlite:///{tmp_path / 'chat.db'}"
    if kind == "mysql":
        mariadb: MariaDB = request.getfixturevalue("mariadb")
        url = mariadb.url(request.getfixturevalue("mysql_database"))
    async with open_database(url) as database:
        reader, nobody, *writers = await add_people(database, CONVERSATIONS + 2)
        await add_backlog(database, reader, writers, each)
    with ChatNode(tmp_path, "one", Settings(database=url), "--log-level", "info") as node:
        none = await median_login(node.address, nobody)
        many = await median_login(node.address, reader)
        before = resident(node.pid)

        last: dict[str, int] = {}
        began = time.monotonic()
        async with connect(node.address) as wire:
            await log_in(wire, reader)
            await read(wire, reader, last, total // 3, receive=True)
            await read(wire, reader, dict(last), 1_000, receive=False)  # got, but never said to be safe
            await wire.send(Kind.PING)
            await wire.receive(Kind.PONG)
            wire.abort()
        async with connect(node.address) as wire:
            await log_in(wire, reader)
            await read(wire, reader, last, total - total // 3, receive=True)
            rate = (total + 1_000) / (time.monotonic() - began)
            assert last == {direct_conv(reader.id, writer.id): each for writer in writers}
            conversations = (await wire.ok(Kind.CONVERSATIONS))["conversations"]
            assert {entry["received_seq"] for entry in conversations} == {each}
            await wire.quiet()
        grown = resident(node.pid, "VmHWM") - before
    show(
        f"{kind}: login {none * 1000:.1f} ms with nothing missed, {many * 1000:.1f} ms with {total:,} messages"
        f" in {CONVERSATIONS} conversations; {rate:,.0f} messages/s; {grown / 2**20:.1f} MiB more memory"
    )
    # 0.2 s on a quiet machine.
    assert many - none < 0.6
    assert grown < 24 * 2**20
