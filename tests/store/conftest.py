"""The databases that the contract is tested on: SQLite, MariaDB, and MariaDB as if it were MySQL 8."""

from __future__ import annotations

import itertools
import random
import time
from collections.abc import AsyncIterator, Iterator
from functools import partial
from pathlib import Path

import attrs
import pytest
import trio

from tests.simulation.chance import WallClock
from tests.simulation.database import Engine, Handle
from trio_chat.errors import RequestError
from trio_chat.store.accounts import Account, Accounts, Friend, TokenUse
from trio_chat.store.append import Appender
from trio_chat.store.clock import DatabaseClock
from trio_chat.store.contract import Database, Dialect
from trio_chat.store.groups import Groups
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.store.mysql import MySQL
from trio_chat.store.presence import Entry, PresenceTable, StateChange
from trio_chat.store.relations import Relations
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite
from trio_chat.verify.programs.mariadb import MariaDB

__all__ = ["TABLES", "MySQL8", "Store", "open_mysql"]

TABLES = [
    *("User", "Friend", "AllGroup", "GroupUser", "Conversation", "Message", "DeliveryCursor", "Token", "Node"),
    *("Presence", "NameClaim", "Invitation", "Erasure", "Guess"),
    *("Block", "Barred"),
]
KINDS = ["sqlite", "mariadb", "mysql8"]


class MySQL8(MySQL):
    """Sends the statements that MySQL gets, which has no INSERT … RETURNING."""

    @property
    def dialect(self) -> Dialect:
        return attrs.evolve(super().dialect, name="mysql", returning=False)


def open_mysql(kind: str, url: str) -> MySQL:
    return (MySQL8 if kind == "mysql8" else MySQL).from_url(url, timeout=10, pool=4)


@attrs.frozen
class Store:
    """Everything that a node asks a database for."""

    database: Database
    accounts: Accounts
    groups: Groups
    log: MessageLog
    appender: Appender
    presence: PresenceTable
    relations: Relations

    @classmethod
    def on(cls, database: Database) -> Store:
        clock = DatabaseClock(time.monotonic)
        log, appender = MessageLog(database, clock), Appender(database, clock)
        accounts, groups = Accounts(database), Groups(database)
        return cls(database, accounts, groups, log, appender, PresenceTable(database), Relations(database))

    async def people(self, count: int) -> list[int]:
        """New accounts."""
        return [await self.accounts.register(f"user {next(_numbers)}", "hash") for _ in range(count)]

    async def enter(self, userid: int, node: int, *, exclusive: bool = False) -> StateChange | None:
        """One login, by itself. Raises `AccountInUse`, `Forbidden`."""
        (change,) = await self.presence.enter([Entry(userid, exclusive)], node)
        if isinstance(change, RequestError):
            raise change
        return change

    async def use_token(
        self, digest: bytes, expires: int, now: int, client: str = "", address: str = ""
    ) -> Account | None:
        """One login by token, by itself."""
        return (await self.accounts.use_tokens([TokenUse(digest, client, address)], expires, now))[0]

    async def friends(self, userid: int) -> list[Friend]:
        return (await self.accounts.friends([userid]))[userid]

    async def cursors(self, userid: int) -> list[Cursor]:
        return (await self.log.cursors([userid]))[userid]

    async def apart(self, userid: int) -> set[int]:
        return (await self.relations.apart([userid]))[userid]


_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def migrated(mariadb: MariaDB) -> Iterator[str]:
    """The name of a database with our schema, for the tests of one file."""
    name = f"contract_{next(_numbers)}"
    mariadb.create_database(name)

    async def make() -> None:
        async with MySQL.from_url(mariadb.url(name), timeout=20).open() as database:
            await migrate(database)

    trio.run(make)
    yield name
    mariadb.drop_database(name)


@pytest.fixture(params=KINDS)
def kind(request: pytest.FixtureRequest) -> str:
    chosen: str = request.param
    return chosen


@pytest.fixture(params=[*KINDS, "simulated"])
def contracted(request: pytest.FixtureRequest) -> str:
    """The kinds of databases that keep the contract: the simulation's too."""
    chosen: str = request.param
    return chosen


@pytest.fixture
def emptied(contracted: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The path or the URL of a database with our schema and nothing in it."""
    if contracted in {"sqlite", "simulated"}:
        return str(tmp_path / "chat.db")
    mariadb: MariaDB = request.getfixturevalue("mariadb")
    name: str = request.getfixturevalue("migrated")
    mariadb.sql("; ".join(f"DELETE FROM {table}" for table in TABLES), name)
    return mariadb.url(name)


@pytest.fixture
def bare(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The path or the URL of a database without a schema."""
    if kind == "sqlite":
        return str(tmp_path / "chat.db")
    mariadb: MariaDB = request.getfixturevalue("mariadb")
    return mariadb.url(request.getfixturevalue("mysql_database"))


@pytest.fixture
async def stores(contracted: str, emptied: str) -> AsyncIterator[tuple[Store, Store]]:
    """An empty database as two nodes see it. SQLite serves one node, so there both are the same."""
    if contracted == "simulated":
        async with Engine.open(Path(emptied), WallClock(), random.Random(1)) as engine:
            one, two = Handle(engine, 10), Handle(engine, 10)
            await migrate(one)
            yield Store.on(one), Store.on(two)
    elif contracted == "sqlite":
        async with SQLite.open(Path(emptied)) as sqlite:
            await migrate(sqlite)
            yield Store.on(sqlite), Store.on(sqlite)
    else:
        make = partial(open_mysql, contracted, emptied)
        async with make().open() as first, make().open() as second:
            yield Store.on(first), Store.on(second)


@pytest.fixture
def store(stores: tuple[Store, Store]) -> Store:
    return stores[0]
