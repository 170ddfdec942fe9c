"""Connections that are to end, and do so some at a time.

Thousands may end in the same moment: a network fails, a load balancer goes. To forget one is little work; everybody else
would have to wait for what it is for all of them together.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING

import trio

if TYPE_CHECKING:
    from trio_chat.sending import Sender

__all__ = ["Departures"]

#: So many end before others have their turn.
_AT_ONCE = 50


class Departures:
    """Owned by the server; `run` is a task of its own. At most all connections wait here."""

    def __init__(self) -> None:
        self._queue: deque[Sender] = deque()
        self._came = trio.Event()

    def add(self, connection: Sender) -> None:
        """It was said that a connection is to end: have its task do so soon. Never blocks."""
        self._queue.append(connection)
        self._came.set()

    async def run(self) -> None:
        """Wake their tasks, in the order in which it was said, until cancelled."""
        while True:
            await self._came.wait()
            self._came = trio.Event()
            while self._queue:
                for _ in range(min(_AT_ONCE, len(self._queue))):
                    self._queue.popleft().wake()
                await trio.lowlevel.checkpoint()
