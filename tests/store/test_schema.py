"""The schema: what is in it, and how it is made and changed, however often that is interrupted."""

from __future__ import annotations

import contextlib
import itertools
import re
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from tests.store.conftest import TABLES, Store, open_mysql
from trio_chat.errors import StartupError
from trio_chat.store.contract import Dialect, Result, Steps, Value
from trio_chat.store.mysql import MySQL
from trio_chat.store.schema import MigrationSession, _statements, migrate, migrations, newest, schema, to_sqlite
from trio_chat.store.sqlite import SQLite

#: What tools and people who know the family expect; we may have more columns.
FAMILY = {
    "User": ["id", "name", "password", "state"],
    "Friend": ["userid", "friendid"],
    "AllGroup": ["id", "groupname", "groupdesc"],
    "GroupUser": ["groupid", "userid", "grouprole"],
    "OfflineMessage": ["userid", "message"],
}


class Killed(Exception):
    """Stands for the end of the process in the middle of a migration."""


@attrs.define
class Mortal:
    """A database whose process is killed right after the `lives`-th statement of its migration."""

    database: SQLite | MySQL
    lives: int

    @property
    def dialect(self) -> Dialect:
        return self.database.dialect

    @asynccontextmanager
    async def migration_lock(self) -> AsyncIterator[MigrationSession]:
        async with self.database.migration_lock() as session:
            yield _MortalSession(self, session)


@attrs.frozen
class _MortalSession:
    mortal: Mortal
    session: MigrationSession

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Result:
        self.mortal.lives -= 1
        result = await self.session.execute(sql, parameters)
        if not self.mortal.lives:
            raise Killed
        return result


@pytest.fixture
async def database(kind: str, bare: str) -> AsyncIterator[SQLite | MySQL]:
    """Empty, without a schema."""
    if kind == "sqlite":
        async with SQLite.open(Path(bare)) as sqlite:
            yield sqlite
    else:
        async with open_mysql(kind, bare).open() as mysql:
            yield mysql


async def ask(database: SQLite | MySQL, sql: str, *parameters: Value) -> list[tuple[object, ...]]:
    def steps() -> Steps[list[tuple[object, ...]]]:
        return list((yield sql, parameters).rows)

    return await database.run(steps)


async def columns(database: SQLite | MySQL) -> dict[str, list[str]]:
    """All tables and views with their columns, in order."""
    found: dict[str, list[str]] = {}
    if isinstance(database, SQLite):
        rows = await ask(
            database,
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
            " WHERE m.type IN ('table', 'view') AND m.name NOT LIKE 'sqlite_%' ORDER BY m.name, c.cid",
        )
    else:
        rows = await ask(
            database,
            "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = DATABASE()"
            " ORDER BY table_name, ordinal_position",
        )
    for table, column in rows:
        found.setdefault(str(table), []).append(str(column))
    return found


async def works(database: SQLite | MySQL) -> None:
    store = Store.on(database)
    (userid,) = await store.people(1)
    assert await store.accounts.by_id(userid)
    assert await ask(database, "SELECT version, done FROM SchemaVersion") == [(newest(), 0)]


def declared() -> dict[str, list[str]]:
    """The tables of db/schema.sql with their columns, as its text says."""
    found = {}
    for statement in schema():
        made = re.match(r"CREATE TABLE (\w+) \(\n(.*)\n\)", statement, re.DOTALL)
        if made is not None:
            words = [line.split()[0] for line in made[2].splitlines()]
            found[made[1]] = [word for word in words if word not in {"PRIMARY", "UNIQUE", "KEY"}]
    return found


async def test_the_tables_are_those_of_the_family_and_of_the_file(database: SQLite | MySQL) -> None:
    await migrate(database)
    found = await columns(database)
    for table, names in FAMILY.items():
        assert found[table][: len(names)] == names or set(names) <= set(found[table])
    assert found.pop("OfflineMessage") == FAMILY["OfflineMessage"]
    assert found.pop("SchemaVersion") == ["version", "goal", "done"]
    assert found == declared()
    assert sorted(found) == sorted(TABLES)
    await works(database)


async def test_the_keys_of_the_familys_tables(database: SQLite | MySQL) -> None:
    await migrate(database)
    if isinstance(database, SQLite):
        rows = await ask(
            database,
            "SELECT m.name, c.name FROM sqlite_master m, pragma_table_info(m.name) c"
            " WHERE m.type = 'table' AND c.pk > 0 ORDER BY m.name, c.pk",
        )
    else:
        rows = await ask(
            database,
            "SELECT table_name, column_name FROM information_schema.statistics WHERE table_schema = DATABASE()"
            " AND index_name = 'PRIMARY' ORDER BY table_name, seq_in_index",
        )
    keys: dict[str, list[str]] = {}
    for table, column in rows:
        keys.setdefault(str(table), []).append(str(column))
    assert {table: keys[table] for table in ("User", "Friend", "AllGroup", "GroupUser")} == {
        "User": ["id"],
        "Friend": ["userid", "friendid"],
        "AllGroup": ["id"],
        "GroupUser": ["groupid", "userid"],
    }
    for sql in (
        "INSERT INTO User (name, password) VALUES ('n', 'x')",
        "INSERT INTO AllGroup (groupname) VALUES ('n')",
        "INSERT INTO Friend (userid, friendid) VALUES (1, 2)",
        "INSERT INTO GroupUser (groupid, userid) VALUES (1, 2)",
    ):
        await ask(database, sql)
        with pytest.raises(Exception, match=r"(?i)unique|duplicate"):
            await ask(database, sql)
    assert await ask(database, "SELECT state FROM User") == [("offline",)]
    assert await ask(database, "SELECT grouprole FROM GroupUser") == [("normal",)]


async def test_migrating_again_changes_nothing(database: SQLite | MySQL) -> None:
    await migrate(database)
    await works(database)
    before = await columns(database)
    await migrate(database)
    assert await columns(database) == before
    assert await ask(database, "SELECT COUNT(*) FROM User") == [(1,)]
    await works(database)


async def test_several_nodes_at_once(database: SQLite | MySQL, kind: str, bare: str) -> None:
    async def start() -> None:
        async with open_mysql(kind, bare).open() as another:
            await migrate(another)

    if isinstance(database, SQLite):  # its file is locked: one server, so one migration
        await migrate(database)
    else:
        async with trio.open_nursery() as nursery:
            for _ in range(4):
                nursery.start_soon(start)
    await works(database)


@pytest.mark.parametrize("lives", [4, 5], ids=["before it was counted", "after it was counted"])
async def test_killed_at_every_statement(database: SQLite | MySQL, lives: int) -> None:
    """Start after start is killed as soon as it has done one more statement."""
    starts = 0
    while True:
        starts += 1
        try:
            await migrate(Mortal(database, lives))
        except Killed:
            continue
        break
    assert starts > len(schema())
    await works(database)
    found = await columns(database)
    assert {table: found[table] for table in TABLES} == declared()


async def test_killed_at_a_later_statement_each_time(database: SQLite | MySQL) -> None:
    for lives in itertools.count(1):
        try:
            await migrate(Mortal(database, lives))
        except Killed:
            continue
        break
    await works(database)


FIRST = _statements((Path(__file__).parent / "schema_1.sql").read_text())


async def make_first(database: SQLite | MySQL) -> None:
    """The database of a first version, with somebody in it."""
    async with database.migration_lock() as session:
        translate = to_sqlite if isinstance(database, SQLite) else str
        for statement in FIRST:
            await session.execute(translate(statement))
        await session.execute(
            "CREATE TABLE SchemaVersion (version BIGINT NOT NULL, goal BIGINT NOT NULL, done BIGINT NOT NULL)"
        )
        await session.execute("INSERT INTO SchemaVersion (version, goal, done) VALUES (1, 1, 0)")
        await session.execute("INSERT INTO User (name, password) VALUES ('first', '-')")
        await session.execute("INSERT INTO DeliveryCursor (userid, conv, received, seen) VALUES (1, 'd:1:2', 3, 2)")


async def test_from_the_first_version(database: SQLite | MySQL) -> None:
    """Its data stay, and it ends as a new one begins."""
    await make_first(database)
    await migrate(database)
    found = await columns(database)
    del found["OfflineMessage"], found["SchemaVersion"]
    assert found == declared()
    assert await ask(database, "SELECT received, seen FROM DeliveryCursor") == [(3, 2)]
    await works(database)


async def test_from_the_first_version_killed_at_every_statement(database: SQLite | MySQL) -> None:
    await make_first(database)
    for _ in range(100):
        mortal = Mortal(database, lives=4)  # two that look, one that changes, and the count of it
        with contextlib.suppress(Killed):
            await migrate(mortal)
            break
        mortal = Mortal(database, lives=3)
        with contextlib.suppress(Killed):
            await migrate(mortal)
            break
    await works(database)


@pytest.mark.parametrize("table", ["User", "Message", "OfflineMessage", "Conversation"])
async def test_tables_of_others_are_refused(database: SQLite | MySQL, table: str) -> None:
    await ask(database, f"CREATE TABLE {table} (id INT)")
    with pytest.raises(
        StartupError, match=r"tables that trio-chat did not make \(\w+\); give it a database of its own"
    ):
        await migrate(database)
    assert [name for name in await columns(database) if name != "SchemaVersion"] == [table]
    # And again: nothing has been noted that would let it through the second time.
    with pytest.raises(StartupError, match="did not make"):
        await migrate(database)


async def test_foreign_tables_with_other_names_are_none_of_our_business(database: SQLite | MySQL) -> None:
    await ask(database, "CREATE TABLE Invoices (id INT)")
    await migrate(database)
    await works(database)


async def test_a_newer_version_is_refused(database: SQLite | MySQL) -> None:
    await migrate(database)
    await ask(database, "UPDATE SchemaVersion SET version = ?", newest() + 1)
    with pytest.raises(StartupError, match=rf"version {newest() + 1}.*up to {newest()}: upgrade"):
        await migrate(database)


def test_migrations_are_numbered_without_a_gap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "migrations").mkdir()
    monkeypatch.setattr("trio_chat.store.schema._directory", lambda: tmp_path)
    for name in ("0002_one.sql", "0002_two.sql"):
        (tmp_path / "migrations" / name).write_text("SELECT 1;\n")
    with pytest.raises(StartupError, match=r"\[2, 2\]: one is missing, or there twice"):
        migrations()
    (tmp_path / "migrations" / "0002_two.sql").rename(tmp_path / "migrations" / "0004_two.sql")
    with pytest.raises(StartupError, match=r"\[2, 4\]"):
        migrations()
