"""Transactions for the tests of MySQL, on a table `t (id INT PRIMARY KEY, text LONGTEXT)`."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from trio_chat.store.contract import Result, Steps, Value
from trio_chat.store.mysql import MySQL

__all__ = ["ids", "insert", "statements"]


def statements(*all_of_them: tuple[str, Sequence[Value]] | str) -> Callable[[], Steps[list[Result]]]:
    """A transaction of these statements; its value is what they gave."""

    def steps() -> Steps[list[Result]]:
        results = []
        for each in all_of_them:
            result = yield (each, ()) if isinstance(each, str) else each
            results.append(result)
        return results

    return steps


def insert(*numbers: int) -> Callable[[], Steps[list[Result]]]:
    """A transaction of one INSERT for each number."""
    return statements(*[("INSERT INTO t VALUES (?, 'x')", (number,)) for number in numbers])


async def ids(database: MySQL) -> list[int]:
    """What is stored."""
    (result,) = await database.read(statements("SELECT id FROM t ORDER BY id"))
    return [row[0] for row in result.rows]
