"""What supervisors and load balancers ask: /livez, does the process work; /readyz, should clients be sent here."""

from __future__ import annotations

from typing import TYPE_CHECKING

import trio
from websockets.datastructures import Headers

from trio_chat.background import as_unavailable
from trio_chat.errors import Unavailable
from trio_chat.transport.http import Reply
from trio_chat.wire.messages import encode

if TYPE_CHECKING:
    from trio_chat.node import Node

__all__ = ["Health"]

#: How long the database may take to answer, and how long its answer holds, in seconds.
_PATIENCE = 1.0
_HOLDS = 1.0


class Health:
    """The two pages. However often they are asked for, the database is asked once a second at most."""

    def __init__(self, node: Node) -> None:
        self._node = node
        self._database_up = False
        self._asked = -1e9
        self._asking = trio.Lock()

    async def live(self, _: Headers) -> Reply:
        """The event loop turns, or this would not be answered."""
        await trio.lowlevel.checkpoint()
        return Reply(200, b"alive\n", headers={"Cache-Control": "no-store"})

    async def ready(self, _: Headers) -> Reply:
        """503 while draining, or without the database. Without the bus a node works, and is a second behind at most."""
        database = await self._ask_database()
        node = self._node
        ready = database and not node.draining
        facts = {
            "ready": ready,
            "database": "up" if database else "down",
            "bus": "up" if node.router.bus_up else "down",
            "draining": node.draining,
            "node": node.name,
        }
        headers = {"Cache-Control": "no-store"} | ({} if ready else {"Retry-After": "1"})
        return Reply(200 if ready else 503, encode(facts) + b"\n", "application/json", headers)

    async def _ask_database(self) -> bool:
        async with self._asking:
            if trio.current_time() - self._asked >= _HOLDS:
                answered = False
                with trio.move_on_after(_PATIENCE):
                    try:
                        with as_unavailable("ask the database"):
                            await self._node.messages.now()
                        answered = True
                    except Unavailable:
                        pass
                self._database_up = answered
                self._asked = trio.current_time()
            return self._database_up
