"""A cluster in one process: real nodes, put together by the server's own `open_node`, on a simulated foundation."""

from __future__ import annotations

import math
import random
from collections import deque
from collections.abc import Callable

import trio

from tests.simulation.chance import WallClock, stream
from tests.simulation.database import Engine, Handle
from tests.simulation.network import Exchange, SimulatedBus
from tests.simulation.plan import Plan
from tests.simulation.streams import ClientEnd, Line, ServerEnd
from trio_chat.assembly import Foundation
from trio_chat.errors import StartupError
from trio_chat.serving import Server, open_node
from trio_chat.transport.contract import Transport

__all__ = ["Cluster", "Life", "Refused", "Slot"]


class Refused(Exception):
    """Nobody listens there."""


class _Hasher:
    """What argon2 does in threads, in virtual time."""

    def __init__(self, chance: random.Random) -> None:
        self._chance = chance

    async def hash(self, password: str) -> str:
        await trio.sleep(self._chance.uniform(0.01, 0.05))
        return f"hash of {password}"

    async def verify(self, hashed: str | None, password: str) -> bool:
        return await self.hash(password) == hashed


class Life:
    """One life of a node, from its start to its stop or crash."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        plan = cluster.plan
        self.name = name
        self.handle = Handle(cluster.engine, plan.settings.store_timeout)
        self.bus = SimulatedBus(cluster.exchange)
        self.lines: dict[Line, None] = {}
        self.server: Server | None = None
        self.accepting = False
        #: It has ended, or has crashed; what is left of it then has no effect.
        self.over = trio.Event()
        self._frozen = False
        self._plan = plan
        self._chance = cluster.chance
        self._scope = trio.CancelScope()
        self._stopping = trio.Event()
        self._arrivals: deque[Line] = deque()
        self._arrived = trio.Event()
        self._to_carry, self._accepted = trio.open_memory_channel[ServerEnd](math.inf)

    async def run(self) -> None:
        """Until it is stopped or crashes, or cannot start."""
        foundation = Foundation(
            name=self.name,
            database=self.handle,
            place="a simulated database",
            alone=False,
            bus=self.bus,
            passwords=_Hasher(self._chance),
            sources=[self._accept],
            carriers=[self._carry],
        )
        try:
            with self._scope:
                async with open_node(self._plan.settings, foundation) as self.server:
                    await self._stopping.wait()
        except StartupError:
            await trio.sleep(0.2)
        finally:
            self.over.set()

    def stop(self) -> None:
        """Drain, and end."""
        self._stopping.set()

    def crash(self, *, silently: bool) -> None:
        """Nothing that the node does has any effect from now on.

        Its clients are told, as the kernel of a killed process does; or not, as when the whole machine is gone.
        """
        self.handle.die()
        self.bus.die()
        for line in list(self.lines):
            if silently:
                line.blackhole()
            else:
                line.reset()
        self._scope.cancel()
        self.over.set()

    def freeze(self) -> None:
        """Nothing reaches the node, and nothing that it sends arrives."""
        self._frozen = True
        self.handle.cut()
        self.bus.cut(noticed=False)
        for line in list(self.lines):
            line.blackhole()

    def thaw(self) -> None:
        self._frozen = False
        self.handle.mend()
        self.bus.mend()
        for line in list(self.lines):
            line.mend()

    def connect(self) -> ClientEnd:
        """A new client. Raises `Refused`."""
        if not self.accepting or self.handle.dead:
            raise Refused
        plan, chance = self._plan, self._chance
        line = Line(chance, delay=plan.line_delay, splitting=plan.splitting, room=plan.room, peer="client")
        if self._frozen:
            line.blackhole()
        # What a line holds is still to arrive when it is mended, be it the end of the connection.
        self.lines = {known: None for known in self.lines if known.blackholed or not known.server.closed.is_set()}
        self.lines[line] = None
        self._arrivals.append(line)
        self._arrived.set()
        return line.client

    async def _accept(self, handle: Callable[[Transport], None]) -> None:
        self.accepting = True
        try:
            while True:
                await self._arrived.wait()
                self._arrived = trio.Event()
                while self._arrivals:
                    end = self._arrivals.popleft().server
                    self._to_carry.send_nowait(end)
                    handle(end)
        finally:
            self.accepting = False
            while self._arrivals:
                self._arrivals.popleft().reset()

    async def _carry(self) -> None:
        """What the poller is for sockets."""
        async with trio.open_nursery() as nursery:
            async for end in self._accepted:
                nursery.start_soon(end.carry)


class Slot:
    """A place in the cluster where a node of a certain name runs, one life after the other."""

    def __init__(self, cluster: Cluster, name: str) -> None:
        self.name = name
        self.life: Life | None = None
        self.lives = 0
        self._cluster = cluster
        self._wanted = trio.Event()
        self._over = False

    @property
    def running(self) -> bool:
        return self.life is not None and self.life.accepting

    async def run(self) -> None:
        """Like a supervisor: keeps a node running while it is wanted, until `finish`."""
        async with trio.open_nursery() as nursery:
            await self._wanted.wait()
            while not self._over:
                self.life = Life(self._cluster, self.name)
                self.lives += 1
                nursery.start_soon(self.life.run)
                await self.life.over.wait()
                self.life = None
                await self._wanted.wait()

    def want(self) -> None:
        self._wanted.set()

    def unwant(self) -> None:
        """Do not start it again when it ends."""
        self._wanted = trio.Event()

    def finish(self) -> None:
        """Stop, and never start again."""
        self._over = True
        self._wanted.set()
        if self.life is not None:
            self.life.stop()


class Cluster:
    """All nodes with what they share."""

    def __init__(self, plan: Plan, engine: Engine, clock: WallClock) -> None:
        self.plan = plan
        self.engine = engine
        self.clock = clock
        self.chance = stream(plan.seed, "cluster")
        self.exchange = Exchange(stream(plan.seed, "bus"))
        self.slots = [Slot(self, f"node-{number}") for number in range(1, plan.nodes + 1)]

    def connect(self, chance: random.Random) -> ClientEnd:
        """A client's new connection, to any node. Raises `Refused`."""
        life = chance.choice(self.slots).life
        if life is None:
            raise Refused
        return life.connect()

    @property
    def lives(self) -> list[Life]:
        return [slot.life for slot in self.slots if slot.life is not None]
