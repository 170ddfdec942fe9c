"""The contract between the statements and the databases that run them.

A transaction is a generator: it yields SQL with its parameters and is sent back what the database answered. So the
statements and the decisions between them are written once, as pure code, and each database only has to drive them:
MySQL by awaiting a round trip, SQLite in its own thread. (The idea is the sans-IO one, https://sans-io.readthedocs.io.)
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Sequence
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import attrs

from trio_chat.errors import Unavailable

__all__ = [
    "UNBOUNDED",
    "Database",
    "Dialect",
    "Last",
    "NullViolation",
    "OutcomeUnknown",
    "Result",
    "Statement",
    "Steps",
    "UniqueViolation",
    "Value",
    "Violation",
]

T = TypeVar("T")

#: More than any table could have of anything.
UNBOUNDED = 2**53

#: What may be passed as a parameter. Never a dict or a list: the MySQL driver does not escape them safely.
Value = str | bytes | int | None


@attrs.frozen
class Result:
    """What one statement gave: its `rows`, how many rows it `changed`, and the id that it `inserted` (0 if none)."""

    rows: Sequence[tuple[Any, ...]] = ()
    changed: int = 0
    inserted: int = 0


#: SQL with `?` for each parameter, and the parameters.
Statement = tuple[str, Sequence[Value]]


@attrs.frozen
class Last:
    """A transaction's last statements, which change something and whose `Result`s are of no interest.

    After them the transaction may only return, or deal with a `Violation`: so a database can send them and COMMIT in one
    round trip. Where one is refused those after it are not run.
    """

    statements: Sequence[Statement]


#: A transaction's steps: yields a statement, receives a `Result`, and returns a T.
Steps = Generator[Statement | Last, Result, T]


class Violation(Exception):
    """A statement would have broken a rule of the schema. Thrown into the generator at its `yield`.

    A transaction that does not catch it is rolled back, and it propagates from `Database.run`.
    """


class UniqueViolation(Violation):
    """A unique key would have occurred twice."""


class NullViolation(Violation):
    """A column that takes no NULL would have got one: an expression can so refuse what it finds."""


class OutcomeUnknown(Unavailable):
    """The connection was lost during COMMIT: the transaction may or may not have happened.

    `value` is what the transaction would have returned.
    """

    default = "the database was lost before it confirmed: this may have been stored; try again with the same key"

    def __init__(self, errmsg: str = "", value: object = None) -> None:
        self.value = value
        super().__init__(errmsg)


@attrs.frozen
class Dialect:
    """The few places where the databases' SQL differs.

    `for_update` ends a SELECT that locks its rows; `insert_ignore` begins an INSERT that leaves existing rows alone;
    `returning` says whether an upsert can answer with its rows; `now_ms` is the database's clock in milliseconds since
    the epoch, as an expression.
    """

    name: str
    for_update: str
    insert_ignore: str
    returning: bool
    now_ms: str

    def upsert(self, keys: str, updates: str) -> str:
        """The clause that turns an INSERT into an upsert.

        `keys` are the columns of the unique key. In `updates`, `new.COLUMN` stands for the value that was to be inserted.
        """
        if self.name == "sqlite":
            return f" ON CONFLICT ({keys}) DO UPDATE SET {updates.replace('new.', 'excluded.')}"
        return " ON DUPLICATE KEY UPDATE " + _with_values(updates)


@lru_cache(maxsize=512)
def _with_values(updates: str) -> str:
    return re.sub(r"new\.(\w+)", r"VALUES(\1)", updates)


class Database(Protocol):
    """A database that runs transactions. All its tasks and threads end with the nursery or context that opened it."""

    @property
    def dialect(self) -> Dialect: ...

    async def run(self, transaction: Callable[[], Steps[T]]) -> T:
        """Run a transaction: everything or nothing; durable when this returns.

        `transaction` makes the generator; it is called again where the database asks for a retry (deadlock), so it must
        have no effects outside the database. Raises `Violation`; `Unavailable` where the database cannot be
        reached within the store's timeout (nothing was stored); `OutcomeUnknown` where COMMIT was sent and its answer was
        not received. Cancelling is safe: the transaction then has happened as a whole or not at all.
        """
        ...

    async def read(self, query: Callable[[], Steps[T]]) -> T:
        """Run statements that only read, each seeing what was committed before it. Raises `Unavailable`. Cancelling is safe."""
        ...
