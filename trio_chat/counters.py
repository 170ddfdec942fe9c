"""What a node counts of itself: plain numbers, so that counting costs next to nothing. Pure; `metrics.py` shows them."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence

import attrs

__all__ = ["Counters", "Histogram"]

_SECONDS = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
_MESSAGES = (1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 2000)


class Histogram:
    """How often a value was at most each of `bounds`, or over the last; and the sum of all."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


@attrs.define(eq=False)
class Counters:
    """Since the node was started; `connections` are those of the moment.

    `opened`, `closed` and `connections` are by transport, and `closed` by its reason too; `not_entered` by the reason;
    `logins` and `rejected` by what came of it: the name of the error, or `ok`. `reached` is by limit; `held` the
    bytes of all connections, lately.
    """

    opened: Counter[str] = attrs.field(factory=Counter)
    connections: Counter[str] = attrs.field(factory=Counter)
    closed: Counter[tuple[str, str]] = attrs.field(factory=Counter)
    turned_away: int = 0
    not_entered: Counter[str] = attrs.field(factory=Counter)
    logins: Counter[str] = attrs.field(factory=Counter)
    rejected: Counter[str] = attrs.field(factory=Counter)
    reached: Counter[str] = attrs.field(factory=Counter)
    held: int = 0
    frames: int = 0
    stored: int = 0
    delivered: int = 0
    batches: Histogram = attrs.field(factory=lambda: Histogram(_MESSAGES))
    commits: Histogram = attrs.field(factory=lambda: Histogram(_SECONDS))
    bus_delay: Histogram = attrs.field(factory=lambda: Histogram(_SECONDS))
    loop_delay: Histogram = attrs.field(factory=lambda: Histogram(_SECONDS))
