"""How much a session may send: so much a second, and some seconds' worth of it at once. Pure; time is given.

Each kind of use is metered by the time up to which it is paid for (the generic cell rate algorithm, ITU-T I.371): one
number instead of a bucket and the time of its last filling, and nothing to be done while nobody sends.
"""

from __future__ import annotations

import attrs

__all__ = ["Meter", "Rates"]


@attrs.frozen
class Rates:
    """What one frame, byte and delivery costs, in seconds; and how many seconds may be spent ahead."""

    frame: float
    byte: float
    delivery: float
    burst: float

    @classmethod
    def per_second(cls, *, frames: int, size: int, deliveries: int, burst: float) -> Rates:
        return cls(1 / frames, 1 / size, 1 / deliveries, burst)


class Meter:
    """What a session uses, or an account's sessions together. Times in seconds, all of the same clock."""

    __slots__ = ("__weakref__", "_bytes", "_deliveries", "_frames", "rates")

    def __init__(self, rates: Rates) -> None:
        self.rates = rates
        self._frames = self._bytes = self._deliveries = 0.0

    def charge(self, now: float, frames: int, size: int) -> float:
        """Count what has come. Returns for how long it is too much, and nothing more should come; 0 where it is not.

        As long as there is something left a chunk is granted whole: who waits for as long as he was told can go on.
        """
        rates = self.rates
        horizon = now + rates.burst
        over = self._frames > horizon or self._bytes > horizon
        self._frames = max(self._frames, now) + frames * rates.frame
        self._bytes = max(self._bytes, now) + size * rates.byte
        return max(self._frames, self._bytes) - horizon if over else 0.0

    @property
    def reached(self) -> str:
        """The setting behind the latest answer of `charge`."""
        return "frames_per_second" if self._frames >= self._bytes else "bytes_per_second"

    def charge_deliveries(self, now: float, count: int) -> float:
        """Count a message's deliveries, unless it has to wait. Returns for how long; 0 where it was counted.

        As long as there is something left any count is granted: a group may be larger than the burst.
        """
        over = self.deliveries_over(now)
        if over > 0:
            return over
        self._deliveries = max(self._deliveries, now) + count * self.rates.delivery
        return 0.0

    def deliveries_over(self, now: float) -> float:
        """For how long the next message to a group has to wait; 0 or less where it need not."""
        return self._deliveries - now - self.rates.burst

    def is_paid(self, now: float) -> bool:
        """Whether nothing is left of what was used: a new meter would say the same."""
        return max(self._frames, self._bytes, self._deliveries) <= now
