"""What an acknowledgement stands on: the databases' own settings, as they are and as the operator is told of them."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog.testing

from trio_chat.store.contract import Steps
from trio_chat.store.mysql import MySQL
from trio_chat.store.mysql_durability import weaknesses
from trio_chat.store.sqlite import SQLite
from trio_chat.verify.programs.mariadb import MariaDB

FLUSH = "innodb_flush_log_at_trx_commit"


@pytest.fixture
def lax(mariadb: MariaDB) -> Iterator[MariaDB]:
    mariadb.sql(f"SET GLOBAL {FLUSH} = 2")
    yield mariadb
    mariadb.sql(f"SET GLOBAL {FLUSH} = 1")


async def warnings(url: str) -> list[dict[str, object]]:
    """What is logged at the start on this database."""
    with structlog.testing.capture_logs() as logged:
        async with MySQL.from_url(url).open():
            pass
    return [dict(entry) for entry in logged if entry["log_level"] == "warning"]


async def test_a_database_that_may_forget_is_told_of(lax: MariaDB, mysql_database: str) -> None:
    (warning,) = await warnings(lax.url(mysql_database))
    assert warning["event"] == "acknowledged messages may be lost"
    assert warning["when"] == "the database's machine crashes or loses power"
    assert (warning["setting"], warning["value"]) == (FLUSH, "2")
    assert f"SET GLOBAL {FLUSH} = 1" in str(warning["remedy"])


async def test_a_database_that_keeps_everything_is_not(mariadb: MariaDB, mysql_database: str) -> None:
    assert await warnings(mariadb.url(mysql_database)) == []


@pytest.mark.parametrize(
    ("settings", "weak"),
    [
        ({}, []),
        ({FLUSH: "1", "log_bin": "OFF", "sync_binlog": "0"}, []),
        ({FLUSH: "1", "log_bin": "ON", "sync_binlog": "1"}, []),
        ({FLUSH: "3"}, []),
        ({FLUSH: "0"}, [FLUSH]),
        ({FLUSH: "1", "log_bin": "ON", "sync_binlog": "0"}, ["sync_binlog"]),
        ({FLUSH: "2", "log_bin": "1", "sync_binlog": "100"}, [FLUSH, "sync_binlog"]),
    ],
)
def test_which_settings_are_too_weak(settings: dict[str, str], weak: list[str]) -> None:
    assert [weakness.setting for weakness in weaknesses(settings)] == weak


async def test_sqlite_waits_for_the_disk_at_each_commit(tmp_path: Path) -> None:
    """The server sets it itself, so there is nothing to warn of."""

    def steps() -> Steps[list[object]]:
        values = []
        for name in ("journal_mode", "synchronous", "fullfsync"):
            result = yield f"PRAGMA {name}", ()
            values.append(result.rows[0][0])
        return values

    async with SQLite.open(tmp_path / "chat.db") as database:
        assert await database.run(steps) == ["wal", 2, 1]
