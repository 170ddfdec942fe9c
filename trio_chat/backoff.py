"""How long to wait before the next attempt: pure."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

__all__ = ["Backoff"]


@attrs.define
class Backoff:
    """Pauses that double from `first` up to `limit` seconds.

    Each is drawn evenly between a fifth of it and the whole, so that many who lost one server do not come back at one
    moment. `draw` gives the random part, between 0 and 1.
    """

    first: float
    limit: float
    draw: Callable[[], float] = random.random
    _next: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.first

    def pause(self) -> float:
        """How long to wait now, in seconds."""
        longest = min(self._next, self.limit)
        self._next = min(longest * 2, self.limit)
        return longest * (0.2 + 0.8 * self.draw())

    def reset(self) -> None:
        """Start anew: the last attempt succeeded."""
        self._next = self.first
