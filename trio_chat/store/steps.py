"""Turning transactions written as generators into methods that run them."""

from __future__ import annotations

import functools
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Concatenate, ParamSpec, Protocol, TypeVar

from trio_chat.store.contract import Database, Steps

__all__ = ["chunks", "placeholders", "query", "rows_of", "transaction"]

P = ParamSpec("P")
T = TypeVar("T")


class _HasDatabase(Protocol):
    @property
    def database(self) -> Database: ...


S = TypeVar("S", bound=_HasDatabase)


def transaction(
    steps: Callable[Concatenate[S, P], Steps[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a method of a generator method: its steps run as one transaction of `self.database`, durable on return."""

    @functools.wraps(steps)
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.run(lambda: steps(self, *args, **kwargs))

    return method


def query(
    steps: Callable[Concatenate[S, P], Steps[T]],
) -> Callable[Concatenate[S, P], Coroutine[Any, Any, T]]:
    """Make a method of a generator method that only reads."""

    @functools.wraps(steps)
    async def method(self: S, /, *args: P.args, **kwargs: P.kwargs) -> T:
        return await self.database.read(lambda: steps(self, *args, **kwargs))

    return method


def placeholders(count: int) -> str:
    """`?,?,?` for an IN list of `count` values."""
    return ",".join("?" * count)


@functools.lru_cache(maxsize=2048)
def rows_of(columns: int, count: int) -> str:
    """`(?,?),(?,?)` for a VALUES list of `count` rows of `columns` values."""
    row = f"({placeholders(columns)})"
    return ",".join([row] * count)


def chunks(items: Iterable[T], size: int) -> Iterable[list[T]]:
    """The items in lists of at most `size`: databases bound the number of parameters of one statement."""
    chunk: list[T] = []
    for item in items:
        chunk.append(item)
        if len(chunk) == size:
            yield chunk
            chunk = []
    if chunk:
        yield chunk
