"""Who and what is in trio-chat's database before a run: accounts with tokens, groups, a log of messages."""

from __future__ import annotations

import functools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import attrs
import trio

from trio_chat.services.accounts import AccountService
from trio_chat.services.passwords import Passwords
from trio_chat.store.accounts import Accounts
from trio_chat.store.contract import Steps
from trio_chat.store.groups import Groups
from trio_chat.store.mysql import MySQL
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite

__all__ = ["PASSWORD", "Account", "Population", "execute", "populate"]

PASSWORD = "a secret for everybody"
_AT_A_TIME = 8


@attrs.frozen
class Account:
    id: int
    token: str


@attrs.frozen
class Population:
    """`groups` are the groups' ids, in the order in which they were asked for."""

    accounts: list[Account]
    groups: list[int]


async def populate(url: str, users: int, groups: Sequence[Sequence[int]]) -> Population:
    """Make accounts that all have one password, with a token each, and groups of them; past the server."""
    async with _open(url) as database:
        await migrate(database)
        rows, group_rows = Accounts(database), Groups(database)
        passwords = Passwords(1)
        service = AccountService(rows, passwords, token_days=1)
        hashed = await passwords.hash(PASSWORD)  # one for all: a hash takes long
        accounts: dict[int, Account] = {}
        made: dict[int, int] = {}

        async def account(number: int) -> None:
            userid = await rows.register(f"user{number:05}", hashed)
            accounts[number] = Account(userid, await service.make_token(userid))

        async def group(number: int) -> None:
            creator, *others = [accounts[member].id for member in groups[number]]
            made[number] = await group_rows.create(creator, f"group{number:05}", "")
            for userid in others:
                await group_rows.join(userid, made[number])

        await _each(account, users)
        await _each(group, len(groups))
        return Population(
            [accounts[number] for number in range(users)], [made[number] for number in range(len(groups))]
        )


async def execute(url: str, statements: Sequence[str]) -> None:
    """Run statements, each in a transaction of its own."""

    def steps(statement: str) -> Steps[None]:
        yield statement, ()

    async with _open(url) as database:
        for statement in statements:
            await database.run(functools.partial(steps, statement))


async def _each(work: Callable[[int], Awaitable[None]], count: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            await work(number)

    async with trio.open_nursery() as nursery:
        for _ in range(min(_AT_A_TIME, count)):
            nursery.start_soon(some)


@asynccontextmanager
async def _open(url: str) -> AsyncIterator[SQLite | MySQL]:
    if url.startswith("sqlite:///"):
        async with SQLite.open(Path(url.removeprefix("sqlite:///")), patience=120.0) as sqlite:
            yield sqlite
    else:
        async with MySQL.from_url(url, timeout=120.0, pool=_AT_A_TIME).open() as mysql:
            yield mysql
