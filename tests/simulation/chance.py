"""Everything that could differ between two runs of one seed, made to depend on the seed alone.

That is the order in which Trio runs tasks that are ready, the wall clock, and the secrets of tokens. This is the only
place that knows private names of Trio: those that Hypothesis's own plugin uses.
"""

from __future__ import annotations

import random
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import trio

__all__ = ["WallClock", "determined", "stream"]

#: When every simulation begins, in seconds since the epoch.
_EPOCH = 1_750_000_000.0


class WallClock:
    """The one wall clock of a simulated cluster: Trio's clock with an offset, which faults may change."""

    def __init__(self) -> None:
        self.offset = 0.0

    def seconds(self) -> float:
        return _EPOCH + self.offset + trio.current_time()

    def milliseconds(self) -> int:
        return int(self.seconds() * 1000)

    def nanoseconds(self) -> int:
        return self.milliseconds() * 1_000_000


def stream(seed: int, name: str) -> random.Random:
    """The random numbers of one part of a simulation: what other parts draw does not change them."""
    return random.Random(f"{seed} {name}")


@contextmanager
def determined(seed: int, clock: WallClock) -> Iterator[None]:
    """Inside, a `trio.run` with a virtual clock does the same in every process."""
    run = trio._core._run
    scheduler = run._r.getstate()
    tokens = stream(seed, "tokens")

    def token_urlsafe(_: int | None = None) -> str:
        return f"{tokens.getrandbits(192):048x}"

    run._r.seed(f"{seed} scheduler")
    try:
        with (
            mock.patch.object(run, "_ALLOW_DETERMINISTIC_SCHEDULING", new=True),
            mock.patch.object(secrets, "token_urlsafe", token_urlsafe),
            mock.patch.object(time, "time", clock.seconds),
            mock.patch.object(time, "time_ns", clock.nanoseconds),
        ):
            yield
    finally:
        run._r.setstate(scheduler)
