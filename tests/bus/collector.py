"""A receiver that remembers, and lets a test wait for what it expects."""

from __future__ import annotations

import threading

import trio

from trio_chat.bus.contract import Event

__all__ = ["Collector"]

#: In seconds: nothing here takes that long unless it is broken.
PATIENCE = 10.0


class Collector:
    def __init__(self) -> None:
        self.events: list[Event] = []
        self.batches = 0
        self.gaps = 0
        self.threads: set[int] = set()
        self._changed = trio.Event()

    def receive(self, events: list[Event]) -> None:
        self.threads.add(threading.get_ident())
        trio.lowlevel.current_task()  # raises outside Trio
        self.events += events
        self.batches += 1
        self._tell()

    def missed(self) -> None:
        self.gaps += 1
        self._tell()

    def clear(self) -> None:
        self.events.clear()
        self.gaps = 0

    async def wait_events(self, count: int) -> list[Event]:
        """The first `count` events, as soon as there are so many."""
        with trio.fail_after(PATIENCE):
            while len(self.events) < count:
                await self._changed.wait()
        return self.events[:count]

    async def wait_event(self, event: Event) -> None:
        with trio.fail_after(PATIENCE):
            while event not in self.events:
                await self._changed.wait()

    async def wait_gaps(self, count: int = 1) -> None:
        with trio.fail_after(PATIENCE):
            while self.gaps < count:
                await self._changed.wait()

    def _tell(self) -> None:
        self._changed.set()
        self._changed = trio.Event()
