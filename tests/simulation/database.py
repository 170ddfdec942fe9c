"""A database that several simulated nodes share: real SQL on SQLite, with a network in between that fails.

`Engine` is the database server, `Handle` one node's way to it. Transactions run one at a time, while others read what was
committed before. Each step of one takes a while, and at each the network, the server or the caller may end it:

- before COMMIT was sent: nothing has happened, and the caller is told `Unavailable`;
- afterwards: it happens, or not, or later while somebody waits for it, and the caller is told `OutcomeUnknown`; what was sent
  as one command may even be begun only long after the caller was told so;
- a deadlock makes the transaction begin again, as often as the real one.

What it does not model: two transactions that write at the same time and meet at a row. Here one waits for the other as
a whole; the locks of MariaDB itself are the store tests' matter.
"""

from __future__ import annotations

import contextlib
import random
import sqlite3
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import attrs
import trio

from tests.simulation.chance import WallClock
from trio_chat.errors import Unavailable
from trio_chat.store.contract import Dialect, Last, OutcomeUnknown, Result, Statement, Steps, Value, Violation
from trio_chat.store.schema import MigrationSession
from trio_chat.store.sqlite import DIALECT, define_functions, execute

__all__ = ["Engine", "Handle", "Moods"]

T = TypeVar("T")

_ATTEMPTS = 6
#: How long a node that is cut off waits before it takes the connection for lost, in seconds. (A real one waits until its
#: timeout, but meanwhile it would hold one row here and not everything.)
_GIVES_UP = 0.5


@attrs.define
class Moods:
    """How the database behaves at present. Times in seconds, the others are probabilities.

    `pause` is the mean time of a step, `long` of the few that take long; `failing` that a step loses its connection,
    `deadlocks` that a statement meets one.
    """

    pause: float = 0.001
    slow: float = 0.01
    long: float = 0.1
    failing: float = 0.0
    deadlocks: float = 0.0
    refuses: bool = False


class _Lost(Exception):
    """The connection broke."""


class _Deadlock(Exception):
    """The server has rolled back, and asks for the transaction again."""


class Engine:
    """The database server. Made by `open`."""

    def __init__(self, path: Path, clock: WallClock, chance: random.Random, nursery: trio.Nursery) -> None:
        self.moods = Moods()
        self.chance = chance
        self.running = trio.Event()
        self.running.set()
        self.transactions = 0
        self.late_commits = 0
        self.late_commands = 0
        # What nobody waits for and has not ended.
        self._late = 0
        self._nursery = nursery
        self._turn = trio.Semaphore(1)
        self._writer, self._reader = (sqlite3.connect(path, isolation_level=None) for _ in range(2))
        for connection in (self._writer, self._reader):
            # It has to survive no crash of this process.
            connection.execute("PRAGMA journal_mode=WAL")
            connection.execute("PRAGMA synchronous=OFF")
            define_functions(connection, clock.milliseconds)

    @classmethod
    @asynccontextmanager
    async def open(cls, path: Path, clock: WallClock, chance: random.Random) -> AsyncIterator[Engine]:
        """A new database in a file."""
        async with trio.open_nursery() as nursery:
            engine = cls(path, clock, chance, nursery)
            try:
                yield engine
            finally:
                nursery.cancel_scope.cancel()
                engine._reader.close()
                engine._writer.close()

    def stall(self) -> None:
        """From now on no step ends, until `go_on`."""
        self.running = trio.Event()

    def go_on(self) -> None:
        self.running.set()

    def look(self, sql: str, parameters: Sequence[Value] = ()) -> list[tuple[Any, ...]]:
        """What is committed, for the tests; at once."""
        return list(execute(self._reader, sql, parameters).rows)

    @property
    def in_transaction(self) -> bool:
        return self._writer.in_transaction

    async def step(self, *, may_fail: bool = True) -> None:
        """The time that a statement, or its answer, takes. Raises `_Lost`."""
        moods, chance = self.moods, self.chance
        if not self.running.is_set():
            await self.running.wait()
        if moods.refuses and may_fail:
            raise _Lost
        draw = chance.random()
        if draw < moods.slow:
            await trio.sleep(chance.expovariate(1 / moods.long))
        elif draw < 0.4:
            await trio.sleep(chance.expovariate(1 / moods.pause))
        elif draw < 0.6:
            await trio.lowlevel.checkpoint()
        if may_fail and moods.failing and chance.random() < moods.failing:
            raise _Lost

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[_Transaction]:
        """One at a time. What has not been committed at the end of the block is rolled back."""
        await self._turn.acquire()
        transaction = _Transaction(self)
        try:
            yield transaction
        finally:
            transaction.end()

    def begin(self) -> None:
        self.transactions += 1
        self._writer.execute("BEGIN IMMEDIATE")

    def execute(self, sql: str, parameters: Sequence[Value]) -> Result:
        return execute(self._writer, sql, parameters)

    def query(self, sql: str, parameters: Sequence[Value]) -> Result:
        return execute(self._reader, sql, parameters)

    def end(self, *, commit: bool) -> None:
        self._writer.execute("COMMIT" if commit else "ROLLBACK")
        self._turn.release()

    def commit_later(self) -> None:
        """The server is about to commit, and nobody waits for the answer."""
        self.late_commits += 1
        self._late += 1
        self._nursery.start_soon(self._commit_later)

    async def _commit_later(self) -> None:
        await trio.sleep(self.chance.uniform(0.01, 2.0))
        self._late -= 1
        self.end(commit=True)

    def run_later(self, command: Sequence[Statement]) -> None:
        """The server has got a transaction as one command, and has not begun with it; nobody waits for the answer."""
        self.late_commands += 1
        self._late += 1
        self._nursery.start_soon(self._run_later, command)

    async def _run_later(self, command: Sequence[Statement]) -> None:
        await trio.sleep(self.chance.uniform(0.01, 2.0))
        async with self.transaction() as transaction:
            with contextlib.suppress(Violation):
                for sql, parameters in command:
                    transaction.execute(sql, parameters)
                transaction.commit()
        self._late -= 1

    async def wait_settled(self) -> None:
        """Wait until nothing is under way that nobody waits for."""
        while self._late:
            await trio.sleep(0.1)


class _Transaction:
    """The one that has its turn."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._open = True
        engine.begin()

    def execute(self, sql: str, parameters: Sequence[Value]) -> Result:
        return self._engine.execute(sql, parameters)

    def commit(self) -> None:
        self._open = False
        self._engine.end(commit=True)

    def commit_later(self) -> None:
        self._open = False
        self._engine.commit_later()

    def end(self) -> None:
        if self._open:
            self._open = False
            self._engine.end(commit=False)


@attrs.define(eq=False)
class Handle:
    """One node's `Database`.

    `cut`: it is separated from the server, without being told. After `die` nothing that its node still tries has any
    effect.
    """

    engine: Engine
    timeout: float
    dead: bool = False
    reachable: trio.Event = attrs.field(factory=trio.Event)

    def __attrs_post_init__(self) -> None:
        self.reachable.set()

    @property
    def dialect(self) -> Dialect:
        return DIALECT

    def die(self) -> None:
        self.dead = True
        self.reachable.set()

    def cut(self) -> None:
        self.reachable = trio.Event()

    def mend(self) -> None:
        self.reachable.set()

    @asynccontextmanager
    async def migration_lock(self) -> AsyncIterator[MigrationSession]:
        yield _Migration(self.engine)

    async def run(self, transaction: Callable[[], Steps[T]]) -> T:
        values: list[T] = []
        with trio.move_on_after(self.timeout), _told_unavailable():
            for attempt in range(_ATTEMPTS):
                with contextlib.suppress(_Deadlock):
                    values.append(await self._once(transaction))
                    break
                await trio.sleep(self.engine.chance.uniform(0, 0.005 * 2**attempt))
        if not values:
            raise Unavailable
        if self.engine.chance.random() < 0.5:
            # Whether a caller that was cancelled hears of the commit is not the same for all databases.
            await trio.lowlevel.checkpoint_if_cancelled()
        return values[0]

    async def read(self, query: Callable[[], Steps[T]]) -> T:
        with trio.move_on_after(self.timeout), _told_unavailable():
            await self._step()
            return await self._drive(query(), lambda step: _execute(step, self.engine.query))
        raise Unavailable

    async def _step(self) -> None:
        if not self.reachable.is_set():
            with trio.move_on_after(_GIVES_UP):
                await self.reachable.wait()
            if not self.reachable.is_set():
                raise _Lost
        await self.engine.step()
        if self.dead:
            raise _Lost

    async def _once(self, transaction: Callable[[], Steps[T]]) -> T:
        engine = self.engine
        await self._step()
        async with engine.transaction() as open_transaction:
            sent: list[Statement | Last] = []

            def ask(step: Statement | Last) -> Result:
                if engine.moods.deadlocks and engine.chance.random() < engine.moods.deadlocks:
                    raise _Deadlock
                sent.append(step)
                return _execute(step, open_transaction.execute)

            value = await self._drive(transaction(), ask)
            await trio.lowlevel.checkpoint_if_cancelled()
            if not await self._answered():
                # COMMIT was sent, and its answer will not come.
                whole = sent[0] if len(sent) == 1 else None
                what = engine.chance.choice(["never", "now", "later", "begun later"])
                if what == "now":
                    open_transaction.commit()
                elif what == "later":
                    open_transaction.commit_later()
                elif what == "begun later" and isinstance(whole, Last):
                    engine.run_later(whole.statements)
                raise OutcomeUnknown(value=value)
            open_transaction.commit()
        if not await self._answered():
            raise OutcomeUnknown(value=value)
        return value

    async def _answered(self) -> bool:
        """A step of COMMIT, which the caller's cancellation does not reach: whether it ended in time."""
        with trio.move_on_after(self.timeout, shield=True), contextlib.suppress(_Lost):
            await self._step()
            return True
        return False

    async def _drive(self, steps: Steps[T], ask: Callable[[Statement | Last], Result]) -> T:
        try:
            statement = next(steps)
            while True:
                try:
                    result = ask(statement)
                except Violation as violation:
                    await self._step()
                    statement = steps.throw(violation)
                else:
                    await self._step()
                    statement = steps.send(result)
        except StopIteration as stop:
            value: T = stop.value
            return value
        finally:
            steps.close()


def _execute(step: Statement | Last, execute: Callable[[str, Sequence[Value]], Result]) -> Result:
    if not isinstance(step, Last):
        return execute(*step)
    for sql, parameters in step.statements:
        execute(sql, parameters)
    # What comes after the last statements has no right to their results.
    return Result()


@contextmanager
def _told_unavailable() -> Iterator[None]:
    try:
        yield
    except _Lost:
        raise Unavailable from None


@attrs.frozen
class _Migration:
    _engine: Engine

    async def execute(self, sql: str, parameters: Sequence[Value] = ()) -> Result:
        return self._engine.execute(sql, parameters)
