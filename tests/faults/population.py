"""Databases with much in them, made by the row and not by the request; and what a process has cost so far."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import attrs

from trio_chat.store.contract import Database, Steps, Value
from trio_chat.store.mysql import MySQL
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite
from trio_chat.store.steps import chunks, rows_of
from trio_chat.wire.conversation import direct_conv

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

__all__ = ["Person", "add_backlog", "add_group", "add_people", "cpu_seconds", "open_database", "resident"]


@attrs.frozen
class Person:
    id: int
    token: str


@asynccontextmanager
async def open_database(url: str) -> AsyncIterator[Database]:
    """A database with our schema, while no node has it (SQLite) or beside them."""
    if url.startswith("sqlite:///"):
        async with SQLite.open(Path(url.removeprefix("sqlite:///")), patience=60) as sqlite:
            await migrate(sqlite)
            yield sqlite
    else:
        async with MySQL.from_url(url, timeout=60).open() as mysql:
            await migrate(mysql)
            yield mysql


async def _insert(database: Database, table: str, columns: str, rows: Sequence[Sequence[Value]]) -> None:
    for some in chunks(rows, 1000):

        def steps(some: list[Sequence[Value]] = some) -> Steps[None]:
            values = [value for row in some for value in row]
            yield f"INSERT INTO {table} ({columns}) VALUES {rows_of(len(some[0]), len(some))}", values

        await database.run(steps)


async def add_people(database: Database, count: int, first: int = 1, hashed: str = "-") -> list[Person]:
    """Accounts `user N` that log in by token; nobody knows a password of theirs, unless it is given as a hash."""
    people = [Person(number, f"token {number}") for number in range(first, first + count)]
    await _insert(database, "User", "id, name, password", [(each.id, f"user {each.id}", hashed) for each in people])
    expires = time.time_ns() // 1_000_000 + 30 * 86_400_000
    digests = [(hashlib.sha256(each.token.encode()).digest(), each.id, expires) for each in people]
    await _insert(database, "Token", "digest, userid, expires", digests)
    return people


async def add_group(database: Database, groupid: int, members: Sequence[Person]) -> None:
    await _insert(database, "AllGroup", "id, groupname", [(groupid, f"group {groupid}")])
    await _insert(database, "GroupUser", "groupid, userid", [(groupid, each.id) for each in members])
    await _insert(database, "Conversation", "conv, last_seq, changed", [(f"g:{groupid}", 0, 0)])
    await _insert(database, "DeliveryCursor", "userid, conv", [(each.id, f"g:{groupid}") for each in members])


async def add_backlog(database: Database, reader: Person, writers: Sequence[Person], each: int) -> None:
    """`each` messages of every one of the writers to the reader, who has received none."""
    convs = [(writer, direct_conv(reader.id, writer.id)) for writer in writers]
    await _insert(database, "Conversation", "conv, last_seq, changed", [(conv, each, each) for _, conv in convs])
    cursors = [(userid, conv) for writer, conv in convs for userid in (reader.id, writer.id)]
    await _insert(database, "DeliveryCursor", "userid, conv", cursors)
    for writer, conv in convs:
        rows = [(conv, seq, writer.id, reader.id, seq, "-", f"message {seq} of {conv}") for seq in range(1, each + 1)]
        await _insert(database, "Message", "conv, seq, sender, target, ts, time, msg", rows)


def resident(pid: int, field: str = "VmRSS") -> int:
    """The bytes of memory that a process has now; with `VmHWM` the most that it ever had."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1]) * 1024
    raise AssertionError(f"process {pid} has no {field}")


def cpu_seconds(pid: int) -> float:
    """The processor time that a process has used."""
    numbers = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(numbers[11]) + int(numbers[12])) / os.sysconf("SC_CLK_TCK")
