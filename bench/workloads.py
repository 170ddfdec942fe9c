"""What is measured, and how much of it."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

__all__ = ["FULL", "QUICK", "Sizes"]


@attrs.frozen
class Sizes:
    """How much a run does. Times in seconds; `stored` has the most rows that SQLite gets as its second part."""

    pairs: Sequence[int]
    members: Sequence[int]
    in_flight: Sequence[int]
    warmup: float
    measured: float
    rates: Sequence[int]
    rate_pairs: int
    offline: int
    one_at_a_time: int
    idle: int
    idle_seconds: float
    logins: int
    password_logins: int
    reconnecting: int
    stored: Sequence[int]
    stored_sqlite: int
    online: Sequence[int]
    groups: Sequence[int]


FULL = Sizes(
    pairs=(50, 500, 5000),
    members=(10, 100, 1000),
    in_flight=(1, 64),
    warmup=0.5,
    measured=2.5,
    rates=(2000, 10000),
    rate_pairs=500,
    offline=5000,
    one_at_a_time=1000,
    idle=10000,
    idle_seconds=5.0,
    logins=6000,
    password_logins=200,
    reconnecting=10000,
    stored=(10**3, 10**5, 10**7),
    stored_sqlite=10**6,
    online=(10, 1000, 10000),
    groups=(1, 100, 1000),
)
QUICK = Sizes(
    pairs=(5,),
    members=(5,),
    in_flight=(1, 16),
    warmup=0.05,
    measured=0.2,
    rates=(200,),
    rate_pairs=5,
    offline=50,
    one_at_a_time=20,
    idle=20,
    idle_seconds=0.2,
    logins=20,
    password_logins=4,
    reconnecting=20,
    stored=(1000,),
    stored_sqlite=1000,
    online=(10,),
    groups=(3,),
)
