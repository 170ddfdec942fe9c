"""Who may be connected, and for how long without saying who he is; and how much all connections may hold together.

Its rule is that nobody who behaves pays for those who do not. Where there is no room the connection goes that has been
anonymous for longest; where memory is short, those that hold most.
"""

from __future__ import annotations

import contextlib
from collections import Counter
from collections.abc import Callable
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import structlog
import trio

from trio_chat.address import network_of
from trio_chat.errors import NotLoggedIn, RateLimited, RequestError
from trio_chat.meter import Meter
from trio_chat.sending import take_leave
from trio_chat.transport.contract import End, Transport, TransportBroken
from trio_chat.wire.messages import Kind, encode

if TYPE_CHECKING:
    from trio_chat.config import Limits
    from trio_chat.connection import Connection
    from trio_chat.counters import Counters

__all__ = ["Doorkeeper", "nowhere", "turn_away"]

log = structlog.get_logger(__name__)

#: How often it looks around, in seconds, and at how many connections before others have their turn.
_LOOK = 0.5
_AT_ONCE = 500
#: So many are closed before others have their turn.
_ENDED_AT_ONCE = 20
#: So long, in seconds, a connection is left to log in even where there is no room.
_GRACE = 2.0
#: When somebody for whom there is no room should try again, in seconds.
_COME_BACK = 10


def nowhere() -> int:
    """A node that counts for itself."""
    return 0


class Doorkeeper:
    """Counts the connections of a node. All but `run` is synchronous.

    `elsewhere` says how many others count together with them: those of the other workers.
    """

    def __init__(
        self,
        limits: Limits,
        counters: Counters,
        connections: dict[Connection, None],
        elsewhere: Callable[[], int] = nowhere,
    ) -> None:
        self._elsewhere = elsewhere
        self._limits = limits
        self._counters = counters
        self._connections = connections
        self._by_network: Counter[str] = Counter()
        # Who is not logged in, with the time since when; the longest comes first.
        self._anonymous: dict[Connection, float] = {}
        # What each account's sessions use together; and what those who left owe, lest they come back without it.
        self._meters: WeakValueDictionary[int, Meter] = WeakValueDictionary()
        self._owing: list[Meter] = []

    def make_room(self) -> RateLimited | None:
        """One more wants to connect: close another for it, or return what to tell him."""
        if len(self._connections) + self._elsewhere() < self._limits.connections:
            return None
        self._counters.reached["connections"] += 1
        longest = next(iter(self._anonymous), None)
        if longest is None or trio.current_time() - self._anonymous[longest] < _GRACE:
            return RateLimited(_COME_BACK, "there are too many connections")
        self._dismiss(longest, End.FULL, RateLimited(_COME_BACK, "there are too many connections; log in sooner"))
        return None

    def enter(self, connection: Connection) -> None:
        """A connection is there."""
        self._anonymous[connection] = trio.current_time()

    def locate(self, connection: Connection) -> RateLimited | None:
        """Where it comes from is known. Returns what to tell him where there are too many from there."""
        network = network_of(connection.peer)
        if self._by_network[network] >= self._limits.address_connections:
            self._counters.reached["address_connections"] += 1
            return RateLimited(_COME_BACK, "there are too many connections from your address")
        self._by_network[network] += 1
        connection.network = network
        return None

    def recognise(self, connection: Connection, userid: int) -> None:
        """It has logged in: what it sends counts together with what the account's other sessions send."""
        self._anonymous.pop(connection, None)
        if connection.meter is not None:
            connection.meter = self._meters.setdefault(userid, connection.meter)

    def unmask(self, connection: Connection) -> None:
        """It has logged out."""
        self._anonymous[connection] = trio.current_time()

    def leave(self, connection: Connection) -> None:
        """It has ended."""
        self._anonymous.pop(connection, None)
        if connection.meter is not None and not connection.meter.is_paid(trio.current_time()):
            self._owing.append(connection.meter)
        network, connection.network = connection.network, ""
        if network:
            self._by_network[network] -= 1
            if not self._by_network[network]:
                del self._by_network[network]

    async def run(self) -> None:
        """Close who takes too long to log in, and who holds most where memory is short, until cancelled."""
        while True:
            await trio.sleep(_LOOK)
            now = trio.current_time()
            self._owing = [meter for meter in self._owing if not meter.is_paid(now)]
            await self._dismiss_late()
            await self._free_memory()

    async def _dismiss_late(self) -> None:
        seconds = self._limits.login_seconds
        latest = trio.current_time() - seconds
        late = []
        for connection, since in self._anonymous.items():
            if since > latest:
                break
            late.append(connection)
        for number, connection in enumerate(late, 1):
            self._counters.reached["login_seconds"] += 1
            self._dismiss(connection, End.LATE, NotLoggedIn(f"log in within {seconds} seconds; connect again"))
            if number % _ENDED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()

    def _dismiss(self, connection: Connection, reason: End, error: RequestError) -> None:
        self._anonymous.pop(connection, None)
        connection.dismiss(reason, error)

    async def _free_memory(self) -> None:
        """Looks at a part of the connections at a time: nobody waits for it, even where there are very many."""
        total = 0
        held: list[tuple[int, Connection]] = []
        connections = list(self._connections)
        for start in range(0, len(connections), _AT_ONCE):
            for connection in connections[start : start + _AT_ONCE]:
                size = connection.held
                if size:
                    total += size
                    held.append((size, connection))
            await trio.lowlevel.checkpoint()
        self._counters.held = total
        if total <= self._limits.memory:
            return
        log.warning("memory is short: who holds most is closed", bytes=total, limit=self._limits.memory)
        held.sort(key=lambda each: each[0], reverse=True)
        for number, (size, connection) in enumerate(held, 1):
            if total <= self._limits.memory:
                break
            if number % _ENDED_AT_ONCE == 0:
                await trio.lowlevel.checkpoint()
            self._counters.reached["memory"] += 1
            connection.close(End.HOARDING)
            total -= size


async def turn_away(transport: Transport, refusal: RateLimited) -> None:
    """End a connection that there is no room for. Never raises but `Cancelled`."""
    frame = encode({"msgid": int(Kind.REPLY), **refusal.fields()})
    try:
        with contextlib.suppress(TransportBroken):
            transport.send_nowait(frame + b"\n")
            await take_leave(transport, End.FULL)
    finally:
        transport.close()
