"""The contract of the bus: hints between the nodes. No message depends on it; the log in the database is the truth."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

import trio

__all__ = ["Bus", "Event", "Receiver"]

#: A channel's name and what was published on it.
Event = tuple[str, bytes]


class Receiver(Protocol):
    """Who takes what a bus brings. Both are called in the Trio thread, never block and never raise."""

    def receive(self, events: list[Event]) -> None:
        """Events of subscribed channels, in the order of each publisher. May include one's own."""
        ...

    def missed(self) -> None:
        """Events may have been lost (a reconnect, an overflow): look into the database."""
        ...


class Bus(Protocol):
    """Publish/subscribe between the nodes. `up` says whether events flow at present."""

    @property
    def up(self) -> bool: ...

    def subscribe(self, channels: Iterable[str]) -> None:
        """Ask for the events of these channels from now on. Never blocks; kept over reconnects."""
        ...

    def unsubscribe(self, channels: Iterable[str]) -> None:
        """Ask for no more events of these channels. Never blocks."""
        ...

    async def wait_subscribed(self) -> None:
        """Wait until every `subscribe` so far is in force, or the bus is down. Cancelling is safe."""
        ...

    def publish(self, events: Iterable[Event]) -> None:
        """Send events, in order. Never blocks. While the bus is down or its buffer is full they are dropped.

        A bus that knows of no other node does not iterate over them.
        """
        ...

    async def run(self, receiver: Receiver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and stay connected until cancelled; started when a first attempt to connect has ended, well or not.

        After every loss of the connection it calls `receiver.missed()` once events flow again.
        """
        ...
