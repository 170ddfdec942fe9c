"""Who logs in now: those that come together go together, and no more than the database can bear.

One alone goes at once. Who comes while others are on their way waits a moment, and goes with all that came meanwhile: so
the more come the less each of them costs, in round trips, commits and turns of the scheduler, and a herd of returning
clients chokes nobody, itself least of all.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable
from typing import Generic, TypeVar

import attrs
import trio

from trio_chat.errors import Unavailable

__all__ = ["Admission", "Entrant"]

#: A group of this many costs hardly more than one of half as many; more would only make the others wait longer.
_MOST = 64
#: While one group reads the next one says who it is. So somebody who has very much to read does not keep the others.
_GROUPS = 2


@attrs.define(eq=False)
class Entrant:
    """Somebody who wants to come in. He is `ended` when he is in, was refused with an `error`, or has gone away."""

    error: Exception | None = attrs.field(default=None, init=False)
    ended: bool = attrs.field(default=False, init=False)
    _over: trio.Event = attrs.field(factory=trio.Event, init=False)
    _at_end: Callable[[], None] | None = attrs.field(default=None, init=False)

    def at_end(self, call: Callable[[], None]) -> None:
        """Call this when he has ended, however; at once where he has."""
        if self.ended:
            call()
        else:
            self._at_end = call

    def end(self, error: Exception | None = None) -> None:
        """He is in, or there is an error that he hears. Never blocks; what has ended does not end again."""
        if not self.ended:
            self.ended, self.error = True, error
            self._over.set()
            if self._at_end is not None:
                self._at_end()

    async def wait(self) -> None:
        """Wait for his end, and raise the error. Cancelling is safe, and is his end."""
        try:
            await self._over.wait()
        finally:
            self.end()
        if self.error is not None:
            raise self.error


E = TypeVar("E", bound=Entrant)
Step = Callable[[list[E]], Awaitable[None]]


class Admission(Generic[E]):
    """Lets at most `limit` in at a time, group by group, each by `announce` and then `admit`; one group announces at a time.

    The others wait, in the order in which they came; nobody has two attempts at a time, so no more can wait than are
    connected. A step ends each of its group or leaves him to the next step; it may be repeated for those that it has not
    ended. Where one raises `Unavailable` all hear that, those that wait too: to wait for the same would take for ever. Where
    it raises something else it is tried for each alone, so that nobody spoils it for the others.
    """

    def __init__(self, limit: int, announce: Step[E], admit: Step[E]) -> None:
        self._groups = min(_GROUPS, limit)
        self._most = min(_MOST, limit // self._groups)
        self._announce = announce
        self._admit = admit
        self._queue: deque[E] = deque()
        self._came = trio.Event()
        self._door = trio.Lock()
        #: How many had to wait for others that came before them.
        self.waits = 0

    @property
    def waiting(self) -> int:
        return sum(not entrant.ended for entrant in self._queue)

    async def enter(self, entrant: E) -> None:
        """Wait until he is in. Raises what the steps raise, or ended him with. Cancelling is safe."""
        self.waits += len(self._queue) >= self._most
        self._queue.append(entrant)
        self._came.set()
        await entrant.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Let them in, until cancelled."""
        async with trio.open_nursery() as nursery:
            for _ in range(self._groups):
                nursery.start_soon(self._work)
            task_status.started()

    async def _work(self) -> None:
        while True:
            async with self._door:
                group = await self._next_group()
                await self._do(self._announce, group)
            await self._do(self._admit, group)

    async def _next_group(self) -> list[E]:
        group: list[E] = []
        while not group:
            await self._came.wait()
            while self._queue and len(group) < self._most:
                entrant = self._queue.popleft()
                if not entrant.ended:
                    group.append(entrant)
            if not self._queue:
                self._came = trio.Event()
        return group

    async def _do(self, step: Step[E], group: list[E]) -> None:
        group = [entrant for entrant in group if not entrant.ended]
        try:
            if group:
                await step(group)
        except Unavailable as error:
            while self._queue:
                group.append(self._queue.popleft())
            for entrant in group:
                own = Unavailable(error.errmsg)
                own.__cause__ = error
                entrant.end(own)
        except Exception as error:  # noqa: BLE001 - it is raised where he waits
            if len(group) == 1:
                group[0].end(error)
            else:
                for entrant in group:
                    await self._do(step, [entrant])
