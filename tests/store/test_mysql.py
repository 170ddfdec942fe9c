"""MySQL and MariaDB as `Database`: what a transaction's end means, whatever happens to the server or to the caller."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import trio.testing

from tests.store.faults import becomes_true, open_descriptors
from tests.store.transactions import ids, insert, statements
from trio_chat.errors import NoSuchGroup, StartupError, TooLarge, Unavailable
from trio_chat.store.contract import Steps, UniqueViolation
from trio_chat.store.mysql import MySQL, ServerError, _dialect
from trio_chat.store.mysql_driver import Connection
from trio_chat.store.mysql_pool import PoolStatistics
from trio_chat.verify.programs.mariadb import MariaDB


@pytest.fixture
def url(mariadb: MariaDB, mysql_database: str) -> str:
    mariadb.sql("CREATE TABLE t (id INT PRIMARY KEY, text LONGTEXT)", mysql_database)
    return mariadb.url(mysql_database)


@pytest.fixture
async def database(url: str) -> AsyncIterator[MySQL]:
    async with MySQL.from_url(url, pool=2).open() as database:
        yield database


# --- Transactions and reads ---


async def test_a_transaction_is_stored_and_returns_its_value(database: MySQL) -> None:
    def steps() -> Steps[tuple[int, Any]]:
        yield "CREATE TEMPORARY TABLE u (id INT AUTO_INCREMENT PRIMARY KEY, n INT)", ()
        made = yield "INSERT INTO u (n) VALUES (?), (?)", (5, 6)
        changed = yield "UPDATE u SET n = ? WHERE n = ?", (5, 5)
        assert (made.inserted, made.changed, changed.changed) == (1, 2, 1)
        found = yield "SELECT n FROM u ORDER BY id", ()
        yield "INSERT INTO t VALUES (7, 'é')", ()
        return made.inserted, found.rows

    assert await database.run(steps) == (1, [(5,), (6,)])
    assert await ids(database) == [7]


async def test_nothing_is_run_without_statements(database: MySQL) -> None:
    assert await database.run(statements()) == []
    assert database.statistics()["run"] == PoolStatistics(idle=1, used=0, waiting=0)


async def test_a_unique_violation_is_thrown_in_and_the_transaction_may_go_on(database: MySQL) -> None:
    def steps() -> Steps[str]:
        yield "INSERT INTO t VALUES (1, 'first')", ()
        try:
            yield "INSERT INTO t VALUES (1, 'second')", ()
        except UniqueViolation as violation:
            yield "INSERT INTO t VALUES (2, 'after')", ()
            return str(violation)
        return "not reached"

    assert "Duplicate entry '1'" in await database.run(steps)
    assert await ids(database) == [1, 2]


@pytest.mark.parametrize("error", [UniqueViolation, NoSuchGroup, ZeroDivisionError, TooLarge, TypeError, ServerError])
async def test_an_error_rolls_back_and_keeps_the_connection(database: MySQL, error: type[Exception]) -> None:
    def steps() -> Steps[None]:
        yield "INSERT INTO t VALUES (1, '')", ()
        if error is UniqueViolation:
            yield "INSERT INTO t VALUES (1, '')", ()
        elif error is ServerError:
            yield "SELECT nonsense", ()
        elif error is TypeError:
            yield "SELECT ?", ({"a": 1},)  # type: ignore[misc]
        elif error is TooLarge:
            yield "SELECT ?", ("x" * 17_000_000,)
        else:
            raise error

    with pytest.raises(error):
        await database.run(steps)
    assert await ids(database) == []
    assert database.statistics()["run"] == PoolStatistics(idle=1, used=0, waiting=0)


async def test_each_read_sees_what_was_committed_before_it(database: MySQL, mariadb: MariaDB) -> None:
    def steps() -> Steps[list[int]]:
        seen = []
        for number in range(3):
            mariadb.sql(f"INSERT INTO t VALUES ({number}, '')", database.options.database)
            result = yield "SELECT COUNT(*) FROM t", ()
            seen.append(result.rows[0][0])
        return seen

    assert await database.read(steps) == [1, 2, 3]
    assert await database.run(statements("DELETE FROM t"))
    assert await database.run(steps) == [1, 2, 3]


async def test_an_idle_connection_holds_no_lock_on_a_table(database: MySQL, mariadb: MariaDB) -> None:
    await ids(database)
    await database.run(statements("SELECT * FROM t"))
    mariadb.sql("SET lock_wait_timeout = 1; ALTER TABLE t ADD COLUMN more INT", database.options.database)


async def test_the_dialect_s_sql_works(database: MySQL) -> None:
    dialect = database.dialect
    assert (dialect.name, dialect.returning) == ("mariadb", True)
    upsert = "INSERT INTO t VALUES (?, ?), (?, ?)" + dialect.upsert("id", "text = CONCAT(text, new.text)")
    results = await database.run(
        statements(
            ("INSERT INTO t VALUES (?, ?)", (1, "a")),
            (f"{upsert} RETURNING id, text", (1, "b", 2, "c")),
            (f"{dialect.insert_ignore} t VALUES (?, ?), (?, ?)", (2, "not", 3, "new")),
            f"SELECT text FROM t WHERE id = 2{dialect.for_update}",
            f"SELECT {dialect.now_ms}",
        )
    )
    assert results[1].rows == [(1, "ab"), (2, "c")]
    assert results[2].changed == 1
    assert results[3].rows == [("c",)]
    now = results[4].rows[0][0]
    assert isinstance(now, int)
    assert abs(now - time.time() * 1000) < 5000


@pytest.mark.parametrize(
    ("version", "name", "returning"),
    [
        ("5.5.5-10.11.6-MariaDB-0+deb12u1", "mariadb", True),
        ("11.4.2-MariaDB", "mariadb", True),
        ("5.5.5-10.4.32-MariaDB-log", "mariadb", False),
        ("8.0.36", "mysql", False),
        ("9.1.0-commercial", "mysql", False),
        ("strange", "mysql", False),
    ],
)
def test_the_dialect_follows_the_version(version: str, name: str, returning: bool) -> None:
    dialect = _dialect(version)
    assert (dialect.name, dialect.returning) == (name, returning)


# --- Locks ---


@asynccontextmanager
async def other_session(database: MySQL) -> AsyncIterator[Connection]:
    """A session beside the pools that holds locks."""
    connection = await Connection.open(database.options, autocommit=False, lock_wait=5)
    try:
        yield connection
    finally:
        connection.close()


def waits_for_lock(mariadb: MariaDB) -> bool:
    waiting = "SELECT COUNT(*) FROM information_schema.innodb_trx WHERE trx_state = 'LOCK WAIT'"
    return mariadb.sql(waiting) == [["1"]]


async def test_a_deadlock_is_tried_again(database: MySQL, mariadb: MariaDB) -> None:
    await database.run(insert(*range(1, 9)))
    tries = 0

    def steps() -> Steps[None]:
        nonlocal tries
        tries += 1
        yield "UPDATE t SET text = 'ours' WHERE id = 1", ()
        yield "UPDATE t SET text = CONCAT(text, '+ours') WHERE id = 2", ()

    async with other_session(database) as other, trio.open_nursery() as nursery:
        # It has changed more rows, so that it is we whom the server gives up.
        await other.execute("UPDATE t SET text = 'theirs' WHERE id BETWEEN 2 AND 8")
        nursery.start_soon(database.run, steps)
        await becomes_true(lambda: waits_for_lock(mariadb))
        await other.execute("UPDATE t SET text = 'theirs' WHERE id = 1")
        await other.commit()
    assert tries >= 2
    (result,) = await database.read(statements("SELECT text FROM t WHERE id < 3 ORDER BY id"))
    assert result.rows == [("ours",), ("theirs+ours",)]


async def test_a_wait_for_a_lock_that_is_too_long_is_tried_again(url: str) -> None:
    again = trio.Event()
    tries = 0

    def steps() -> Steps[None]:
        nonlocal tries
        tries += 1
        if tries == 2:
            again.set()
        yield "UPDATE t SET text = 'ours' WHERE id = 1", ()

    # The server waits for a lock one second at least: this test takes that long.
    async with MySQL.from_url(url, timeout=2.5).open() as database:
        await database.run(insert(1))
        async with other_session(database) as other, trio.open_nursery() as nursery:
            await other.execute("UPDATE t SET text = 'theirs' WHERE id = 1")
            nursery.start_soon(database.run, steps)
            await again.wait()
            await other.commit()
        assert tries == 2


async def test_a_lock_that_nobody_releases_ends_with_the_timeout(database: MySQL, url: str) -> None:
    await database.run(insert(1))
    async with MySQL.from_url(url, timeout=0.2).open() as waiting, other_session(database) as other:
        await other.execute("UPDATE t SET text = 'theirs' WHERE id = 1")
        with pytest.raises(Unavailable):
            await waiting.run(statements("UPDATE t SET text = 'ours' WHERE id = 1"))
        assert waiting.statistics()["run"].used == 0


# --- The pool ---


async def test_the_pool_is_bounded_and_waiting_has_the_same_limit(database: MySQL, url: str) -> None:
    await database.run(insert(1))
    failed = 0

    async def update(waiting: MySQL) -> None:
        nonlocal failed
        try:
            await waiting.run(statements("UPDATE t SET text = 'ours' WHERE id = 1"))
        except Unavailable:
            failed += 1

    async with MySQL.from_url(url, timeout=0.3, pool=2).open() as waiting, other_session(database) as other:
        await other.execute("UPDATE t SET text = 'theirs' WHERE id = 1")
        async with trio.open_nursery() as nursery:
            for _ in range(5):
                nursery.start_soon(update, waiting)
            await trio.testing.wait_all_tasks_blocked()
            assert waiting.statistics()["run"] == PoolStatistics(idle=0, used=2, waiting=3)
        assert failed == 5
        assert waiting.statistics()["run"] == PoolStatistics(idle=0, used=0, waiting=0)
        await other.rollback()
        await waiting.run(statements("SELECT 1"))


async def test_many_transactions_share_few_connections(url: str) -> None:
    before = open_descriptors()
    async with MySQL.from_url(url, pool=2).open() as database:
        async with trio.open_nursery() as nursery:
            for number in range(20):
                nursery.start_soon(database.run, insert(number))
        assert await ids(database) == list(range(20))
        assert open_descriptors() <= before + 3
    assert open_descriptors() == before


async def test_after_its_end_nothing_can_be_run(url: str) -> None:
    async with MySQL.from_url(url).open() as database:
        pass
    with pytest.raises(Unavailable):
        await database.run(insert(1))


# --- Starting ---


async def test_starting_where_nothing_is(tmp_path: Path, mysql_database: str, mariadb: MariaDB) -> None:
    mariadb.sql("CREATE OR REPLACE USER 'someone'@'%' IDENTIFIED BY 'right'")
    place = f"127.0.0.1:{mariadb.port}"
    for wrong, text in {
        "mysql://root:hunter2@127.0.0.1:1/chat": r"127.0.0.1:1 cannot be reached: Connection refused",
        f"mysql://root:hunter2@h/chat?unix_socket={tmp_path}/s": r"/s cannot be reached: No such file",
        "mysql://root:hunter2@no-such-host.invalid/chat": "no-such-host.invalid:3306 cannot be reached",
        f"mysql://someone:hunter2@{place}/chat": f"{place} refuses the user 'someone'",
        f"mysql://root@{place}/nonexistent": r"has no database 'nonexistent'.*CREATE DATABASE nonexistent",
        f"mysql://someone:right@{place}/{mysql_database}": f"has no database '{mysql_database}' for the user 'someone'",
        f"mysql://root@{place}/chat?ssl=verify": "cannot be reached: TLS failed",
    }.items():
        with pytest.raises(StartupError, match=text) as caught:
            async with MySQL.from_url(wrong).open():
                raise AssertionError("it opened")
        assert "hunter2" not in str(caught.value)


async def test_starting_where_nobody_answers(url: str, mariadb: MariaDB) -> None:
    mariadb.pause()
    try:
        with pytest.raises(StartupError, match=r"cannot be reached: no answer within 0\.1 s"):
            async with MySQL.from_url(url, timeout=0.1).open():
                raise AssertionError("it opened")
    finally:
        mariadb.resume()


async def test_a_unix_socket_goes_before_the_port(mysql_database: str, mariadb: MariaDB) -> None:
    address = mariadb.url(mysql_database, unix_socket=str(mariadb.socket)).replace(str(mariadb.port), "1")
    async with MySQL.from_url(address).open() as database:
        (result,) = await database.read(statements("SELECT 1"))
        assert result.rows == [(1,)]


# --- Migrations ---


async def test_one_node_at_a_time_changes_the_schema(database: MySQL, mariadb: MariaDB) -> None:
    order: list[str] = []

    async def first(*, task_status: trio.TaskStatus[None]) -> None:
        async with database.migration_lock() as session:
            task_status.started()
            await becomes_true(lambda: "User lock" in str(mariadb.sql("SHOW PROCESSLIST")))
            await session.execute("CREATE TABLE made (id INT PRIMARY KEY)")
            assert (await session.execute("INSERT INTO made VALUES (?)", (1,))).changed == 1
            with pytest.raises(UniqueViolation):
                await session.execute("INSERT INTO made VALUES (1)")
            with pytest.raises(ServerError, match="already exists"):
                await session.execute("CREATE TABLE made (id INT PRIMARY KEY)")
            order.append("first")

    async with trio.open_nursery() as nursery:
        await nursery.start(first)
        async with database.migration_lock():
            order.append("second")
    assert order == ["first", "second"]


async def test_the_lock_ends_with_a_failed_or_cancelled_migration(database: MySQL) -> None:
    with pytest.raises(ZeroDivisionError):
        async with database.migration_lock():
            raise ZeroDivisionError
    with trio.CancelScope() as scope:
        async with database.migration_lock() as session:
            scope.cancel()
            await session.execute("SELECT SLEEP(10)")
    with trio.fail_after(5):
        async with database.migration_lock() as session:
            await session.execute("CREATE TABLE a (id INT) -- 100%?")
            await session.execute("INSERT INTO a VALUES (1)")
    (result,) = await database.read(statements("SELECT id FROM a"))
    assert result.rows == [(1,)]


async def test_a_migration_that_loses_the_server_says_so(database: MySQL, mariadb: MariaDB) -> None:
    async def lose() -> None:
        async with database.migration_lock() as session:
            ((number,),) = (await session.execute("SELECT CONNECTION_ID()")).rows
            mariadb.sql(f"KILL CONNECTION {number}")
            await session.execute("SELECT 1")

    with pytest.raises(StartupError, match="lost the database"):
        await lose()


async def test_a_lock_that_another_node_keeps(
    database: MySQL, url: str, monkeypatch: pytest.MonkeyPatch, mariadb: MariaDB
) -> None:
    monkeypatch.setattr("trio_chat.store.mysql.MIGRATION_LOCK", 0)
    other = MySQL(attrs.evolve(database.options, user="root"))
    async with other.migration_lock():
        with pytest.raises(StartupError, match=r"another node.*trio-chat\.migrate\."):
            async with database.migration_lock():
                pass
