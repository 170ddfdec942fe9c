"""How long to wait before the next attempt: pure."""

from __future__ import annotations

import random
from collections.abc import Callable

import attrs

from trio_chat.errors import RateLimited, RequestError, ShuttingDown, Unavailable

__all__ = ["PUT_OFF", "Backoff"]

#: The refusals after which the same request may well succeed.
PUT_OFF = (Unavailable, RateLimited, ShuttingDown)


@attrs.define
class Backoff:
    """Waiting times that double from `first` up to `limit` seconds.

    Each is drawn evenly between a fifth of it and the whole, so that many clients which lost one server do not come
    back at one moment.
    """

    first: float
    limit: float
    draw: Callable[[], float] = random.random
    _next: float = attrs.field(init=False)

    def __attrs_post_init__(self) -> None:
        self._next = self.first

    def delay(self) -> float:
        """The next waiting time, in seconds."""
        longest = min(self._next, self.limit)
        self._next = min(longest * 2, self.limit)
        return longest * (0.2 + 0.8 * self.draw())

    def reset(self) -> None:
        """Start anew: the last attempt succeeded."""
        self._next = self.first

    def after(self, error: RequestError) -> float:
        """The waiting time after a refusal: what the server asks for, else `delay`."""
        if isinstance(error, RateLimited):
            return error.retry_after * (1 + 0.1 * self.draw())
        return self.delay()
