"""The pauses between attempts."""

from __future__ import annotations

import pytest

from trio_chat.backoff import Backoff


def test_pauses_grow_to_the_limit_and_start_over() -> None:
    backoff = Backoff(0.1, 1.0)
    for longest in (0.1, 0.2, 0.4, 0.8, 1.0, 1.0):
        assert longest / 5 <= backoff.pause() <= longest
    backoff.reset()
    assert backoff.pause() <= 0.1


@pytest.mark.parametrize(("part", "pause"), [(0.0, 2.0), (0.5, 6.0), (1.0, 10.0)])
def test_chance_spreads_them(part: float, pause: float) -> None:
    assert Backoff(10.0, 30.0, lambda: part).pause() == pytest.approx(pause)
