"""The bus of one process: nothing at all for one node, and a hub that joins several nodes of one process."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import attrs
import structlog
import trio

from trio_chat.bus.contract import Event, Receiver

__all__ = ["LocalBus", "LocalHub", "LocalStatistics"]

log = structlog.get_logger(__name__)


@attrs.frozen
class LocalStatistics:
    """Counters since the bus was made."""

    published: int  #: events that were given to the hub
    received: int  #: events that were given to the receiver
    dropped: int  #: events that were not: the bus was not running, or its inbox was full
    channels: int  #: channels subscribed to at present


class LocalHub:
    """What joins `LocalBus` objects of one Trio run: an event published on one reaches every other that subscribed."""

    def __init__(self) -> None:
        self._buses: list[LocalBus] = []

    def __repr__(self) -> str:
        return f"<LocalHub of {len(self._buses)}>"

    def join(self, bus: LocalBus) -> None:
        self._buses.append(bus)

    def leave(self, bus: LocalBus) -> None:
        self._buses.remove(bus)

    def send(self, sender: LocalBus, events: list[Event]) -> None:
        for bus in self._buses:
            if bus is not sender:
                bus.offer(events)


class LocalBus:
    """A bus inside one process; without a hub it is the bus of a single node and throws every event away.

    A node on a hub is there while `run` runs. Its own events do not come back to it. Events wait in an inbox of at most
    `inbox` events until `run` hands them over in a batch; when it is full the newest are dropped and the receiver's
    `missed` is called. An event that is in the inbox at the moment of an `unsubscribe` may still come.
    """

    def __init__(self, hub: LocalHub | None = None, *, inbox: int = 100_000) -> None:
        self._hub = hub
        self._limit = inbox
        self._inbox: deque[Event] = deque()
        self._gap = False
        self._wake = trio.Event()
        self._channels: set[str] = set()
        self._running = False
        self._published = self._received = self._dropped = 0

    def __repr__(self) -> str:
        return f"<LocalBus {'up' if self._running else 'down'}, {len(self._channels)} channels>"

    @property
    def up(self) -> bool:
        """Whether `run` is running."""
        return self._running

    def subscribe(self, channels: Iterable[str]) -> None:
        self._channels.update(channels)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        self._channels.difference_update(channels)

    async def wait_subscribed(self) -> None:
        """Subscriptions are in force at once: this is only a checkpoint."""
        await trio.lowlevel.checkpoint()

    def publish(self, events: Iterable[Event]) -> None:
        if self._hub is None:
            return
        batch = list(events)
        if self._running:
            self._published += len(batch)
            self._hub.send(self, batch)
        else:
            self._dropped += len(batch)

    def offer(self, events: list[Event]) -> None:
        """Called by the hub: take those events that are subscribed to. Never blocks."""
        wanted = [event for event in events if event[0] in self._channels]
        room = self._limit - len(self._inbox)
        if len(wanted) > room:
            self._dropped += len(wanted) - room
            self._gap = True
            del wanted[room:]
        self._inbox.extend(wanted)
        if self._inbox or self._gap:
            self._wake.set()

    def statistics(self) -> LocalStatistics:
        return LocalStatistics(self._published, self._received, self._dropped, len(self._channels))

    async def run(self, receiver: Receiver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Hand over events until cancelled. One at a time: raises `trio.BusyResourceError` if it is running already."""
        if self._running:
            raise trio.BusyResourceError("this bus is running already")
        self._running = True
        if self._hub is not None:
            self._hub.join(self)
        try:
            task_status.started()
            while True:
                await self._wake.wait()
                self._wake = trio.Event()
                self._hand_over(receiver)
        finally:
            self._running = False
            self._inbox.clear()
            self._gap = False
            if self._hub is not None:
                self._hub.leave(self)

    def _hand_over(self, receiver: Receiver) -> None:
        # What a receiver publishes while it receives goes into the other inboxes, never into this batch.
        batch, gap = list(self._inbox), self._gap
        self._inbox.clear()
        self._gap = False
        try:
            if batch:
                self._received += len(batch)
                receiver.receive(batch)
        except Exception:
            # The contract forbids it; the gap that it leaves is repaired like every other.
            log.exception("bus_receiver_failed")
            gap = True
        if gap:
            receiver.missed()
