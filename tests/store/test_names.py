"""Names in both databases: of two that look alike one is given out, and what was given out before there were claims stays."""

from __future__ import annotations

from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path

import pytest
import trio

from tests.store.conftest import Store, open_mysql
from tests.store.test_schema import make_first
from trio_chat.errors import AlreadyExists, NameTaken
from trio_chat.store.accounts import Accounts
from trio_chat.store.contract import Result, Steps, Value
from trio_chat.store.mysql import MySQL
from trio_chat.store.names import Names
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite

ALIKE = ["Alice", "аlice", "A1ice", "ALICE"]


async def ask(store: Store, sql: str, *parameters: Value) -> list[tuple[object, ...]]:
    def steps() -> Steps[Result]:
        return (yield sql, parameters)

    return list((await store.database.run(steps)).rows)


async def test_of_names_that_look_alike_one_is_given_out(store: Store) -> None:
    userid = await store.accounts.register("alice", "x")
    for name in ALIKE:
        with pytest.raises(NameTaken):
            await store.accounts.register(name, "x")
    assert await ask(store, "SELECT COUNT(*) FROM User") == [(1,)]
    group = await store.groups.create(userid, "alice", "")  # another kind of name
    for name in ALIKE:
        with pytest.raises(AlreadyExists):
            await store.groups.create(userid, name, "")
    assert await ask(store, "SELECT COUNT(*) FROM AllGroup") == [(1,)]
    for name in ("alice", "ALICE", "ａlice"):
        found = await store.accounts.by_name(name)
        assert found is not None
        assert found.id == userid
        friend = await store.accounts.find(name)
        assert friend is not None
        assert (friend.id, friend.name) == (userid, "alice")
        assert await store.groups.by_name(name) == group
    assert await store.accounts.by_name("аlice") is None  # it only looks so
    assert await store.groups.by_name("аlice") is None


async def test_several_nodes_give_it_out_once(stores: tuple[Store, Store]) -> None:
    made: list[int] = []
    refused: list[str] = []

    async def register(store: Store, name: str) -> None:
        try:
            made.append(await store.accounts.register(name, "x"))
        except NameTaken:
            refused.append(name)

    async with trio.open_nursery() as nursery:
        for number, name in enumerate(ALIKE):
            nursery.start_soon(register, stores[number % 2], name)
    assert (len(made), len(refused)) == (1, 3)


async def test_names_from_before_the_claims(stores: tuple[Store, Store]) -> None:
    """Whoever has a name keeps it and logs in by it, however it looks; the older one has the claim."""
    one, two = stores
    names = ["😀 from before", *ALIKE, "bob"]
    for name in names:
        await ask(one, "INSERT INTO User (name, password) VALUES (?, ?)", name, f"password of {name}")
        await ask(one, "INSERT INTO AllGroup (groupname) VALUES (?)", name)

    async def claim(store: Store) -> None:
        await Names(store.database).claim_all()

    async with trio.open_nursery() as nursery:
        nursery.start_soon(claim, one)
        nursery.start_soon(claim, two)
    assert await Names(one.database).claim_all() == 0
    for name in names:
        found = await one.accounts.by_name(name)
        assert found is not None
        assert (found.name, found.password) == (name, f"password of {name}")
        assert await one.groups.by_name(name) is not None
    found = await one.accounts.by_name("aLICE")
    assert found is not None
    assert found.name == "Alice"
    for name in ("BOB", "alice", "😀 FROM before"):
        with pytest.raises(NameTaken):
            await one.accounts.register(name, "x")


async def test_more_names_than_one_statement_takes(store: Store) -> None:
    for number in range(0, 1200, 100):
        rows = ",".join(f"('name {each}', '-')" for each in range(number, number + 100))
        await ask(store, f"INSERT INTO User (name, password) VALUES {rows}")
    assert await Names(store.database).claim_all() == 1200
    with pytest.raises(NameTaken):
        await store.accounts.register("NAME 1199", "x")


async def test_a_full_database_is_migrated_while_a_node_of_the_first_version_works_on_it(kind: str, bare: str) -> None:
    """Two accounts whose names collide both keep theirs; who registers there meanwhile is claimed by the next start."""
    async with AsyncExitStack() as stack:
        old: SQLite | MySQL
        new: SQLite | MySQL
        if kind == "sqlite":
            old, new = [await stack.enter_async_context(SQLite.open(Path(bare), beside=True)) for _ in range(2)]
        else:
            old, new = [await stack.enter_async_context(open_mysql(kind, bare).open()) for _ in range(2)]
        await make_first(old)
        rows = ",".join(f"('name {number}', '-')" for number in range(2000))
        await old.run(lambda: statement(f"INSERT INTO User (name, password) VALUES {rows}"))
        await old.run(lambda: statement("INSERT INTO User (name, password) VALUES ('First', 'another')"))
        done = trio.Event()
        registered = 0

        async def register() -> None:
            nonlocal registered
            while not done.is_set():
                sql = f"INSERT INTO User (name, password) VALUES ('late {registered}', '-')"
                await old.run(partial(statement, sql))
                registered += 1

        async with trio.open_nursery() as nursery:
            nursery.start_soon(register)
            await migrate(new)
            claimed = await Names(new).claim_all()
            done.set()
        claimed += await Names(new).claim_all()
        assert claimed == 2002 + registered
        assert registered > 0
        accounts = Accounts(new)
        for name, password in (("first", "-"), ("First", "another"), ("late 0", "-")):
            found = await accounts.by_name(name)
            assert found is not None
            assert (found.name, found.password) == (name, password)
        with pytest.raises(NameTaken):
            await accounts.register("FIRST", "x")
        with pytest.raises(NameTaken):
            await accounts.register("LATE 0", "x")


def statement(sql: str) -> Steps[Result]:
    return (yield sql, ())
