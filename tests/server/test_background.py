"""The tasks in the background go on, whatever the database says: nothing but a stop ends a node."""

from __future__ import annotations

import sqlite3

import pytest
import structlog
import trio

from tests.wire import log_in, register
from trio_chat import Address, Server
from trio_chat.wire.messages import Kind

#: What breaks each task's statements as no task expects it, and what mends them.
BROKEN = {
    "look for what the bus lost": (
        "ALTER TABLE GroupUser RENAME COLUMN joined TO broken",
        "ALTER TABLE GroupUser RENAME COLUMN broken TO joined",
    ),
    "fill holes": (
        "ALTER TABLE Message RENAME COLUMN sender_key TO broken",
        "ALTER TABLE Message RENAME COLUMN broken TO sender_key",
    ),
    "keep the lease": (
        "CREATE TRIGGER no_beat BEFORE UPDATE ON Node BEGIN SELECT RAISE(ABORT, 'broken'); END",
        "DROP TRIGGER no_beat",
    ),
    "write receipts": (
        "CREATE TRIGGER no_receipt BEFORE INSERT ON DeliveryCursor BEGIN SELECT RAISE(ABORT, 'broken'); END",
        "DROP TRIGGER no_receipt",
    ),
    "tell who left": (
        "CREATE TRIGGER no_exit BEFORE DELETE ON Presence BEGIN SELECT RAISE(ABORT, 'broken'); END",
        "DROP TRIGGER no_exit",
    ),
}


async def reported(logs: list[structlog.typing.EventDict], task: str) -> None:
    with trio.fail_after(10):
        while not any(entry.get("task") == task for entry in logs):
            await trio.sleep(0.01)


@pytest.mark.settings(sweep=0.1, lease=0.5)
@pytest.mark.parametrize("task", BROKEN)
async def test_an_unknown_error_of_the_database_ends_no_task(
    task: str,
    server: Server,
    address: Address,
    database: sqlite3.Connection,
    logs: list[structlog.typing.EventDict],
) -> None:
    alice, bob = await register(address, "alice"), await register(address, "bob")
    break_it, mend_it = BROKEN[task]
    async with log_in(address, bob) as b:
        async with log_in(address, alice) as a:
            await a.ok(Kind.DIRECT, toid=bob, msg="before")
            await b.messages(1)
            database.execute(break_it)
            await b.send(Kind.RECEIVED, conv=f"d:{alice}:{bob}", seq=1)
            # Somebody says that there is more than there is.
            server.node.router.heard(f"d:{alice}:{bob}", 2)
            if task != "tell who left":
                await reported(logs, task)
                database.execute(mend_it)
        if task == "tell who left":
            await reported(logs, task)
            database.execute(mend_it)
        with trio.fail_after(5):
            while database.execute("SELECT COUNT(*) FROM Presence").fetchone() != (1,):
                await trio.sleep(0.01)
            while database.execute("SELECT received FROM DeliveryCursor WHERE userid = ?", (bob,)).fetchone() != (1,):
                await trio.sleep(0.01)
        beat = database.execute("SELECT beat FROM Node").fetchone()
        with trio.fail_after(5):
            while database.execute("SELECT beat FROM Node").fetchone() == beat:
                await trio.sleep(0.01)
