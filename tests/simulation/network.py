"""The bus between simulated nodes: it delays, loses, doubles and reorders events, and its links break, told or not.

`Exchange` stands for Redis, `SimulatedBus` for one node's two connections to it. A break that a node notices makes the bus
not `up`, and ends with `missed`, as the contract says; one that nobody notices just loses events: that must cost
no more than time. A publisher's lost events are told to the others as they are by the real bus.
"""

from __future__ import annotations

import heapq
import itertools
import random
from collections.abc import Iterable

import attrs
import structlog
import trio

from trio_chat.bus.contract import Event, Receiver

__all__ = ["Exchange", "SimulatedBus", "Weather"]

log = structlog.get_logger(__name__)


@attrs.define
class Weather:
    """How the bus behaves at present.

    `delay` is a mean in seconds, `loss`, `doubling` and `reordering` are probabilities for each event; `room` is how many
    events may be on their way to a node: those beyond it are dropped, and it is told.
    """

    delay: float = 0.002
    loss: float = 0.0
    doubling: float = 0.0
    reordering: float = 0.0
    room: int = 10_000


class Exchange:
    """What joins the buses of one simulation."""

    def __init__(self, chance: random.Random) -> None:
        self.weather = Weather()
        self.chance = chance
        self.buses: list[SimulatedBus] = []
        self.lost = 0

    def send(self, sender: SimulatedBus, events: list[Event]) -> None:
        for bus in self.buses:
            for event in events:
                self._send_one(bus, event, itself=bus is sender)

    def _send_one(self, bus: SimulatedBus, event: Event, *, itself: bool) -> None:
        weather, chance = self.weather, self.chance
        if weather.loss and not itself and chance.random() < weather.loss:
            self.lost += 1
            return
        copies = 2 if weather.doubling and chance.random() < weather.doubling else 1
        for _ in range(copies):
            delay = chance.expovariate(1 / weather.delay)
            bus.offer(event, delay, overtaking=bool(weather.reordering) and chance.random() < weather.reordering)

    def tell_of_gap(self, sender: SimulatedBus) -> None:
        """Events of this sender were dropped, and it knows: the others are to look."""
        for bus in self.buses:
            if bus is not sender:
                bus.gap()


class SimulatedBus:
    """One node's `Bus`, for one life of the node.

    `cut` breaks it; with `noticed` the node knows. `mend` ends that. Events come in the order of their publishers,
    unless the weather says otherwise; its own come back to it, as from Redis.
    """

    def __init__(self, exchange: Exchange) -> None:
        self._exchange = exchange
        self._running = False
        self._connected = True
        self._noticed = False
        self._dead = False
        self._dropped = False
        self._gap = False
        # Channels, and from when on they are in force.
        self._channels: dict[str, float] = {}
        self._inbox: list[tuple[float, int, Event]] = []
        self._numbers = itertools.count()
        self._latest = 0.0
        self._wake = trio.Event()

    @property
    def up(self) -> bool:
        return self._running and not self._noticed

    def cut(self, *, noticed: bool) -> None:
        self._connected = False
        self._noticed = self._noticed or noticed
        self._inbox.clear()

    def die(self) -> None:
        """Its node is no more."""
        self._dead = True
        self.cut(noticed=False)

    def mend(self) -> None:
        if not self._connected and not self._dead:
            self._connected = True
            if self._noticed:
                self._noticed = False
                self.gap()
                if self._dropped:
                    self._dropped = False
                    self._exchange.tell_of_gap(self)

    def gap(self) -> None:
        self._gap = True
        self._wake.set()

    def subscribe(self, channels: Iterable[str]) -> None:
        since = trio.current_time() + self._delay()
        for channel in channels:
            self._channels.setdefault(channel, since)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        for channel in channels:
            self._channels.pop(channel, None)

    async def wait_subscribed(self) -> None:
        await trio.lowlevel.checkpoint()
        if self.up:
            await trio.sleep_until(max(self._channels.values(), default=0.0))

    def publish(self, events: Iterable[Event]) -> None:
        batch = list(events)
        if not self._running:
            return
        if self._connected:
            self._exchange.send(self, batch)
        elif batch:
            self._dropped = True

    def offer(self, event: Event, delay: float, *, overtaking: bool) -> None:
        """Called by the exchange."""
        if not self._connected:
            return
        if len(self._inbox) >= self._exchange.weather.room:
            self.gap()
            return
        due = trio.current_time() + delay
        if overtaking:
            due += 5 * self._delay()
        else:
            due = self._latest = max(due, self._latest)
        heapq.heappush(self._inbox, (due, next(self._numbers), event))
        self._wake.set()

    def _delay(self) -> float:
        exchange = self._exchange
        return exchange.chance.expovariate(1 / exchange.weather.delay)

    async def run(self, receiver: Receiver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        if self._running:
            raise trio.BusyResourceError("this bus is running already")
        self._running = True
        self._exchange.buses.append(self)
        try:
            task_status.started()
            while True:
                until = self._inbox[0][0] if self._inbox else float("inf")
                with trio.move_on_at(until):
                    await self._wake.wait()
                self._wake = trio.Event()
                now = trio.current_time()
                batch = []
                while self._inbox and self._inbox[0][0] <= now:
                    _, _, event = heapq.heappop(self._inbox)
                    if self._channels.get(event[0], float("inf")) <= now:
                        batch.append(event)
                try:
                    if batch:
                        receiver.receive(batch)
                except Exception:
                    # The contract forbids it. (In a simulation whatever is logged as an error is a violation.)
                    log.exception("bus_receiver_failed")
                    self._gap = True
                if self._gap and self._connected:
                    self._gap = False
                    receiver.missed()
        finally:
            self._running = False
            self._inbox.clear()
            self._exchange.buses.remove(self)
