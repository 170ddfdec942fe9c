"""Connections that are over, and are forgotten some at a time.

Thousands may end in the same moment: a network fails, a load balancer goes. To forget one is little work; everybody else
would have to wait for what it is for all of them together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_chat.connection import Connection

__all__ = ["Departures"]

#: So many depart before others have their turn.
_AT_ONCE = 50


class Departures:
    """Owned by the server; `run` is a task of its own. At most all connections wait here."""

    def __init__(self) -> None:
        self._queue: deque[Connection] = deque()
        self._came = trio.Event()
        self._finished = False

    def add(self, connection: Connection) -> None:
        """Nothing is going on for this connection any more: have it depart soon. Never blocks."""
        if self._finished:
            connection.depart()
        else:
            self._queue.append(connection)
            self._came.set()

    async def run(self) -> None:
        """Have them depart, in the order in which they ended, until cancelled. `finish` is for those that are left."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            while self._queue:
                for _ in range(min(_AT_ONCE, len(self._queue))):
                    self._queue.popleft().depart()
                await trio.lowlevel.checkpoint()

    def finish(self) -> None:
        """The server ends: all depart now, and who comes from now on at once. Never blocks."""
        self._finished = True
        while self._queue:
            self._queue.popleft().depart()
