"""Which of the bus's channels this node wants: each for as long as somebody here has asked for it."""

from __future__ import annotations

from collections.abc import Iterable

from trio_chat.bus.contract import Bus

__all__ = ["Channels"]


class Channels:
    """Counts who wants each channel: an account that leaves takes none away from a login that is on its way."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        self._wanted: dict[str, int] = {}

    def __contains__(self, channel: str) -> bool:
        return channel in self._wanted

    def want(self, channels: Iterable[str]) -> None:
        """One more wants these. Never blocks; the bus says when they are in force."""
        new = []
        for channel in channels:
            count = self._wanted.get(channel, 0)
            if not count:
                new.append(channel)
            self._wanted[channel] = count + 1
        if new:
            self._bus.subscribe(new)

    def unwant(self, channels: Iterable[str]) -> None:
        """One less wants these; where it was the last the bus is told. Never blocks."""
        unwanted = []
        for channel in channels:
            self._wanted[channel] -= 1
            if not self._wanted[channel]:
                del self._wanted[channel]
                unwanted.append(channel)
        if unwanted:
            self._bus.unsubscribe(unwanted)
