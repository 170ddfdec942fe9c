"""The schema: made on the first start and brought up to date on every later one.

`db/schema.sql` is the truth, written for MySQL; SQLite's form of it is derived here, so there is no second one.
A change comes as `db/migrations/NNNN_name.sql`, in the same language, and into `db/schema.sql` as well.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import AbstractAsyncContextManager
from importlib import resources
from pathlib import Path
from typing import Protocol

import structlog

from trio_chat.errors import StartupError
from trio_chat.store.contract import Dialect, Result, Value

__all__ = [
    "Migratable",
    "MigrationSession",
    "migrate",
    "migrations",
    "newest",
    "refuse_foreign_tables",
    "schema",
    "to_sqlite",
]

log = structlog.get_logger(__name__)

_SQLITE = [
    (r"\bBIGINT NOT NULL AUTO_INCREMENT PRIMARY KEY", "INTEGER PRIMARY KEY AUTOINCREMENT"),
    (r"\bENUM\([^)]*\)", "TEXT"),
    (r" CHARACTER SET \w+( COLLATE \w+)?(?=[ ,\n])", ""),
    (r"\) ENGINE=[^;]*\Z", ")"),
]


def to_sqlite(statement: str) -> str:
    """SQLite's form of one of our MySQL statements."""
    for pattern, replacement in _SQLITE:
        statement = re.sub(pattern, replacement, statement)
    return statement


def _statements(text: str) -> list[str]:
    code = "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("--"))
    return [statement.strip() for statement in re.split(r";\s*(?:\n|\Z)", code) if statement.strip()]


def _directory() -> Path:
    """Where the SQL files are: in the installed package, or beside it in a checkout."""
    package = Path(str(resources.files("trio_chat")))
    for directory in (package / "db", package.parent / "db"):
        if (directory / "schema.sql").is_file():
            return directory
    raise StartupError("db/schema.sql is missing from this installation; install trio-chat again")


def schema() -> list[str]:
    """The statements that make the newest schema."""
    return _statements((_directory() / "schema.sql").read_text(encoding="utf-8"))


def migrations() -> dict[int, list[str]]:
    """The statements that lead to each version from the one before it."""
    found = sorted((_directory() / "migrations").glob("[0-9][0-9][0-9][0-9]_*.sql"))
    numbers = [int(path.name[:4]) for path in found]
    if numbers != list(range(2, 2 + len(numbers))):
        raise StartupError(f"this installation's migrations are {numbers}: one is missing, or there twice")
    return {int(path.name[:4]): _statements(path.read_text(encoding="utf-8")) for path in found}


def newest() -> int:
    """The version that a new database gets: 1, the first schema, or the last migration's."""
    return max(migrations(), default=1)


class MigrationSession(Protocol):
    """A database, locked against the migrations of other nodes. Statements take effect one by one."""

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Result: ...


class Migratable(Protocol):
    @property
    def dialect(self) -> Dialect: ...

    def migration_lock(self) -> AbstractAsyncContextManager[MigrationSession]: ...


async def migrate(database: Migratable) -> None:
    """Bring the schema up to date; several nodes may do so at once. Raises `StartupError`.

    MySQL cannot roll back a change of the schema, so each statement done is counted: a migration that was killed goes
    on where it stopped. Cancelling is as safe as being killed.
    """
    sqlite = database.dialect.name == "sqlite"
    translate = to_sqlite if sqlite else str
    async with database.migration_lock() as session:
        await session.execute(
            "CREATE TABLE IF NOT EXISTS SchemaVersion (version BIGINT NOT NULL, goal BIGINT NOT NULL, done BIGINT NOT NULL)"
        )
        found = await session.execute("SELECT version, goal, done FROM SchemaVersion")
        if not found.rows:
            await refuse_foreign_tables(session, sqlite=sqlite)
            await session.execute("INSERT INTO SchemaVersion (version, goal, done) VALUES (0, ?, 0)", (newest(),))
            version, goal, done, resumed = 0, newest(), 0, False
        else:
            version, goal, done = found.rows[0]
            resumed = True
        if version > newest():
            raise StartupError(
                f"the database has schema version {version}, this program knows versions up to {newest()}: upgrade it"
            )
        while version < newest():
            # A new database gets the newest schema at once; an older one each migration in turn.
            statements = schema() if version == 0 else migrations()[version + 1]
            goal = goal if version == 0 else version + 1
            if done == 0:
                log.info("changing the schema", version=goal, statements=len(statements))
            for number, statement in enumerate(statements[done:]):
                # Only the first may have been done before: by a start that was killed before it could count it.
                if number or not resumed or not await _is_done(session, statement, sqlite=sqlite):
                    await session.execute(translate(statement))
                done += 1
                await session.execute("UPDATE SchemaVersion SET done = ?", (done,))
            version, done = goal, 0
            await session.execute("UPDATE SchemaVersion SET version = ?, done = 0", (version,))


async def refuse_foreign_tables(session: MigrationSession, *, sqlite: bool) -> None:
    """Raises `StartupError` where a database without our schema has tables of the same names."""
    listing = (
        "SELECT name FROM sqlite_master"
        if sqlite
        else "SELECT table_name FROM information_schema.tables WHERE table_schema = DATABASE()"
    )
    there = {str(row[0]).lower() for row in (await session.execute(listing)).rows}
    ours = {name.lower() for name in re.findall(r"CREATE (?:TABLE|VIEW) (\w+)", "\n".join(schema()))}
    if there & ours:
        raise StartupError(
            f"the database holds tables that trio-chat did not make ({', '.join(sorted(there & ours))}); "
            "give it a database of its own"
        )


async def _is_done(session: MigrationSession, statement: str, *, sqlite: bool) -> bool:
    """Whether what a statement makes, an index or a column for example, is there already."""
    added = re.match(r"ALTER TABLE (\w+) ADD COLUMN (\w+)", statement)
    if added is not None:
        columns = (
            "SELECT 1 FROM pragma_table_info(?) WHERE lower(name) = lower(?)"
            if sqlite
            else "SELECT 1 FROM information_schema.columns"
            " WHERE table_schema = DATABASE() AND table_name = ? AND column_name = ?"
        )
        return bool((await session.execute(columns, added.groups())).rows)
    made = re.match(r"CREATE (?:UNIQUE )?(TABLE|VIEW|INDEX) (\w+)", statement)
    if made is None:
        return False
    kind, name = made.groups()
    if sqlite:
        query = "SELECT 1 FROM sqlite_master WHERE lower(name) = lower(?)"
    elif kind == "INDEX":
        query = "SELECT 1 FROM information_schema.statistics WHERE table_schema = DATABASE() AND index_name = ?"
    else:
        query = "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = ?"
    return bool((await session.execute(query, (name,))).rows)
