"""What a session may send: so much a second, some seconds' worth at once, and debts are paid by waiting."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trio_chat.meter import Meter, Rates

RATES = Rates.per_second(frames=10, size=1000, deliveries=100, burst=5.0)


def test_a_burst_then_the_rate() -> None:
    meter = Meter(RATES)
    assert meter.charge(100.0, 49, 0) == 0
    assert meter.charge(100.0, 11, 0) == 0  # there was something left
    assert meter.charge(100.0, 1, 0) == pytest.approx(1.1)
    assert meter.reached == "frames_per_second"
    assert meter.charge(101.2, 1, 0) == 0
    assert meter.charge(200.0, 51, 0) == 0
    assert meter.charge(200.0, 20, 0) == pytest.approx(2.1)


def test_bytes_count_too() -> None:
    meter = Meter(RATES)
    assert meter.charge(0.0, 1, 6000) == 0
    assert meter.charge(0.0, 1, 100) == pytest.approx(1.1)
    assert meter.reached == "bytes_per_second"


@given(st.lists(st.tuples(st.floats(0, 3), st.integers(0, 40)), max_size=50))
def test_never_more_than_the_rate_and_one_burst(steps: list[tuple[float, int]]) -> None:
    """Who stops when he is told to, and for as long, has sent at most that, and the chunk that went over it."""
    meter, now, sent = Meter(RATES), 0.0, 0
    for pause, frames in steps:
        now += pause
        over = meter.charge(now, frames, 0)
        assert sent <= 10 * (now + 5.0) + 40 + 1e-6
        sent += frames
        now += over


def test_deliveries_are_counted_only_where_they_are_granted() -> None:
    meter = Meter(RATES)
    assert meter.charge_deliveries(0.0, 10_000) == 0.0  # a group larger than the burst
    over = meter.charge_deliveries(0.0, 1)
    assert over == pytest.approx(95.0)
    assert meter.deliveries_over(0.0) == over
    assert meter.charge_deliveries(over + 0.001, 1) == 0.0
