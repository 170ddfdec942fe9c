"""Who may log in now: a bounded number at a time, so that a herd of returning clients chokes nobody, itself least of all."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import trio

from trio_chat.errors import Unavailable

__all__ = ["Admission"]


class Admission:
    """Lets `limit` logins ask the database at a time. The others wait for their turn, in the order in which they came.

    Without it a thousand logins would wait for the database's few connections together, most until it is too late, and
    messages with them. Each connection has at most one login, so no more can wait than are connected.
    """

    def __init__(self, limit: int) -> None:
        self._limiter = trio.CapacityLimiter(limit)
        #: How many had to wait.
        self.waits = 0
        self._failures = 0

    @property
    def waiting(self) -> int:
        return self._limiter.statistics().tasks_waiting

    @asynccontextmanager
    async def turn(self) -> AsyncIterator[None]:
        """Wait for a turn, and have it in the block. Cancelling is safe.

        Raises `Unavailable` where the database failed another login meanwhile: to wait for the same would take for ever.
        """
        failures = self._failures
        self.waits += self._limiter.available_tokens <= 0
        async with self._limiter:
            if failures != self._failures:
                raise Unavailable
            try:
                yield
            except Unavailable:
                self._failures += 1
                raise
