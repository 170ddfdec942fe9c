"""Turns by a key: at most so many tasks at a time for each key; the others wait, in the order in which they came."""

from __future__ import annotations

from collections.abc import AsyncIterator, Hashable
from contextlib import asynccontextmanager
from typing import Generic, TypeVar

import attrs
import trio

__all__ = ["Turns"]

K = TypeVar("K", bound=Hashable)


@attrs.define
class _Place:
    limiter: trio.CapacityLimiter
    here: int = 0


class Turns(Generic[K]):
    """A key that nobody has or waits for takes no memory."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._places: dict[K, _Place] = {}

    def __len__(self) -> int:
        return len(self._places)

    @asynccontextmanager
    async def turn(self, key: K) -> AsyncIterator[None]:
        """Wait for a turn, and have it in the block. Cancelling is safe."""
        place = self._places.setdefault(key, _Place(trio.CapacityLimiter(self._size)))
        place.here += 1
        try:
            async with place.limiter:
                yield
        finally:
            place.here -= 1
            if not place.here:
                del self._places[key]
