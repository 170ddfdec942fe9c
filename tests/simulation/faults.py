"""What goes wrong: faults of every kind of the plan, some at once, each begun and ended at a time that the seed says."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable

import attrs
import trio

from tests.simulation.chance import stream
from tests.simulation.cluster import Life, Slot
from tests.simulation.database import Moods
from tests.simulation.world import World
from trio_chat.transport.contract import End

__all__ = ["Director"]

#: What the kernel needs to find out that nobody is at the other end of a silent line, in seconds.
_KEEPALIVE = 6.0


class Director:
    """Draws faults until cancelled; `heal` ends what then still is."""

    def __init__(self, world: World) -> None:
        self.world = world
        self.cluster = world.cluster
        self.chance = stream(world.plan.seed, "faults")
        self.steps = _AtStep()
        self.counts: dict[str, int] = {}
        self._kinds: dict[str, Callable[[], Awaitable[None]]] = {
            "node-kill": self._kill,
            "node-kill-at-step": self._kill_at_step,
            "node-power": self._power_off,
            "node-restart": self._restart,
            "node-freeze": self._freeze,
            "partition-database": self._cut_database,
            "partition-bus": self._cut_bus,
            "bus-restart": self._restart_bus,
            "bus-flap": self._flap_bus,
            "bus-weather": self._storm,
            "database-stall": self._stall,
            "database-refuse": self._refuse,
            "database-failing": self._fail,
            "database-slow": self._slow,
            "clients-reset": self._reset_clients,
            "client-blackhole": self._blackhole,
            "connection-cancel": self._cancel_connection,
            "clock-step": self._step_clock,
        }

    async def run(self) -> None:
        plan, chance = self.world.plan, self.chance
        trio.lowlevel.add_instrument(self.steps)
        try:
            async with trio.open_nursery() as nursery:
                while plan.faults:
                    await trio.sleep(chance.expovariate(1 / plan.fault_gap))
                    if len(nursery.child_tasks) < 3:
                        nursery.start_soon(self._one, chance.choice(plan.faults))
                await trio.sleep_forever()
        finally:
            trio.lowlevel.remove_instrument(self.steps)

    async def _one(self, kind: str) -> None:
        self.counts[kind] = self.counts.get(kind, 0) + 1
        number = self.world.fault_began(kind)
        if kind.startswith("node-kill"):
            # A moment: what the others promise about a dead node counts from there, whenever it comes back.
            self.world.fault_ended(number)
            await self._kinds[kind]()
            return
        try:
            await self._kinds[kind]()
        finally:
            self.world.fault_ended(number)

    async def _hold(self, most: float) -> None:
        await trio.sleep(self.chance.uniform(0.01, most))

    def _slot(self) -> Slot:
        return self.chance.choice(self.cluster.slots)

    # -- nodes --------------------------------------------------------------------------------------------------------

    async def _kill(self) -> None:
        await self._crash(self._slot(), silently=False)

    async def _power_off(self) -> None:
        slot = self._slot()
        lines = list(slot.life.lines) if slot.life is not None else []
        try:
            await self._crash(slot, silently=True)
            await trio.sleep(_KEEPALIVE)
        finally:
            for line in lines:
                line.reset()

    async def _crash(self, slot: Slot, *, silently: bool) -> None:
        if slot.life is None:
            return
        try:
            slot.unwant()
            slot.life.crash(silently=silently)
            await self._stay_away()
        finally:
            slot.want()

    async def _stay_away(self) -> None:
        draw = self.chance.random()
        if draw < 0.2:
            await trio.sleep_forever()
        elif draw < 0.8:
            await self._hold(4)

    async def _kill_at_step(self) -> None:
        """In the middle of whatever it does: before some step of some task."""
        slot = self._slot()

        def crash() -> None:
            if slot.life is not None:
                slot.unwant()
                slot.life.crash(silently=False)

        try:
            with trio.move_on_after(2):
                await self.steps.after(self.chance.randrange(1, 2000), crash).wait()
            await self._stay_away()
        finally:
            slot.want()

    async def _restart(self) -> None:
        slot = self._slot()
        if slot.life is not None:
            life = slot.life
            life.stop()
            await life.over.wait()

    async def _freeze(self) -> None:
        await self._without(Life.freeze, Life.thaw)

    async def _cut_database(self) -> None:
        await self._without(lambda life: life.handle.cut(), lambda life: life.handle.mend())

    async def _cut_bus(self) -> None:
        noticed = self.chance.random() < 0.5
        await self._without(lambda life: life.bus.cut(noticed=noticed), lambda life: life.bus.mend())

    async def _without(self, cut: Callable[[Life], None], mend: Callable[[Life], None]) -> None:
        life = self._slot().life
        if life is None:
            return
        try:
            cut(life)
            await self._hold(5)
        finally:
            mend(life)

    # -- the bus ------------------------------------------------------------------------------------------------------

    async def _restart_bus(self) -> None:
        buses = [life.bus for life in self.cluster.lives]
        try:
            for bus in buses:
                bus.cut(noticed=True)
            await self._hold(2)
            for bus in buses:
                bus.mend()
                await self._hold(0.5)
        finally:
            for bus in buses:
                bus.mend()

    async def _flap_bus(self) -> None:
        for _ in range(self.chance.randrange(2, 6)):
            life = self.chance.choice(self.cluster.slots).life
            if life is None:
                continue
            try:
                life.bus.cut(noticed=self.chance.random() < 0.5)
                await self._hold(0.1)
            finally:
                life.bus.mend()
            await self._hold(0.1)

    async def _storm(self) -> None:
        exchange = self.cluster.exchange
        exchange.weather = attrs.evolve(
            self.world.plan.weather,
            delay=self.chance.choice([0.01, 0.3]),
            loss=self.chance.choice([0.1, 0.5, 1.0]),
            doubling=0.2,
            reordering=0.5,
        )
        try:
            await self._hold(3)
        finally:
            exchange.weather = self.world.plan.weather

    # -- the database -------------------------------------------------------------------------------------------------

    async def _stall(self) -> None:
        try:
            self.cluster.engine.stall()
            await self._hold(4)
        finally:
            self.cluster.engine.go_on()

    async def _refuse(self) -> None:
        await self._in_a_mood(attrs.evolve(self.world.plan.moods, refuses=True))

    async def _fail(self) -> None:
        await self._in_a_mood(attrs.evolve(self.world.plan.moods, failing=self.chance.choice([0.02, 0.2])))

    async def _slow(self) -> None:
        await self._in_a_mood(attrs.evolve(self.world.plan.moods, pause=0.05, slow=0.2, long=0.3))

    async def _in_a_mood(self, moods: Moods) -> None:
        engine = self.cluster.engine
        engine.moods = moods
        try:
            await self._hold(3)
        finally:
            engine.moods = self.world.plan.moods

    # -- clients ------------------------------------------------------------------------------------------------------

    async def _reset_clients(self) -> None:
        life = self._slot().life
        if life is not None:
            for line in list(life.lines):
                if self.chance.random() < 0.7:
                    line.reset()
        await trio.lowlevel.checkpoint()

    async def _blackhole(self) -> None:
        """A client's network is gone. Both sides find that out by themselves."""
        life = self._slot().life
        lines = [line for line in life.lines if not line.server.closed.is_set()] if life is not None else []
        if not lines:
            return
        line = self.chance.choice(lines)
        line.blackhole()
        try:
            with trio.move_on_after(_KEEPALIVE):
                await line.server.closed.wait()
        finally:
            line.reset()

    async def _cancel_connection(self) -> None:
        """A node's connection is closed before some step of some task."""
        life = self._slot().life

        def close() -> None:
            if life is not None and life.server is not None and (found := list(life.server.node.connections)):
                self.chance.choice(found).close(End.FAILED)

        with trio.move_on_after(1):
            await self.steps.after(self.chance.randrange(1, 500), close).wait()

    async def _step_clock(self) -> None:
        # What the look goes back covers jumps of up to 5 s.
        self.cluster.clock.offset = self.chance.uniform(-2, 2)
        await trio.lowlevel.checkpoint()

    # -- the end ------------------------------------------------------------------------------------------------------

    def heal(self) -> None:
        """Whatever was broken is whole; all nodes are wanted, but for one perhaps that has just died for good."""
        for life in self.cluster.lives:
            life.thaw()
            for line in list(life.lines):
                line.mend()
        alive, *others = self.cluster.slots
        for slot in others:
            if slot.life is not None and self.chance.random() < 0.3:
                self.world.fault_ended(self.world.fault_began("node-kill"))
                slot.life.crash(silently=False)
                slot.unwant()
                break
            slot.want()
        alive.want()


class _AtStep(trio.abc.Instrument):
    """Does things before certain steps of the scheduler; counts them all."""

    def __init__(self) -> None:
        self.count = 0
        self._next = math.inf
        self._due: list[tuple[int, Callable[[], None], trio.Event]] = []

    def after(self, steps: int, do: Callable[[], None]) -> trio.Event:
        """Returns an event for when it was done."""
        done = trio.Event()
        self._due.append((self.count + steps, do, done))
        self._next = min(self._next, self.count + steps)
        return done

    def before_task_step(self, task: trio.lowlevel.Task) -> None:  # noqa: ARG002
        self.count += 1
        if self.count < self._next:
            return
        due, self._due = self._due, []
        for entry in due:
            step, do, done = entry
            if step <= self.count:
                do()
                done.set()
            else:
                self._due.append(entry)
        self._next = min((step for step, _, _ in self._due), default=math.inf)
