"""What time it is by the database's clock, without asking it each time."""

from __future__ import annotations

from collections.abc import Callable

import attrs

__all__ = ["DatabaseClock"]


@attrs.define(eq=False)
class DatabaseClock:
    """The database's clock as far as it was heard of: that, and what has passed since by `monotonic`, in seconds.

    Whoever reads the time from the database tells it (the look does once a second), so it is right to within a round
    trip, and follows a clock that jumps.
    """

    monotonic: Callable[[], float]
    _ahead: float | None = None

    def heard(self, now: int) -> None:
        """The database has just said that it is `now`, in milliseconds since the epoch."""
        self._ahead = now - self.monotonic() * 1000

    def now(self) -> int | None:
        """Milliseconds since the epoch; None before anything was heard."""
        return None if self._ahead is None else int(self.monotonic() * 1000 + self._ahead)
