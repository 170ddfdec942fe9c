"""Attacks on a real server: those who chat beside them are served, memory stays bounded. Figures: bench/attacks.py.

Smaller than there, and with wide margins: the machine may be busy with other tests.
"""

from __future__ import annotations

import resource
from collections.abc import Iterator

import pytest

from bench.attacks import Measured, Sizes, Town, measure, town

pytestmark = pytest.mark.slow

SIZES = Sizes(pairs=5, idle=2500, slow=60, deaf=20, group=100, here=90, storm=30, seconds=3.0, login_seconds=4)
MIB = 2**20


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Town]:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    # Small limits, so that they are reached soon.
    limits = ("--limit", f"memory={8 * MIB}", "--limit", f"outbox={MIB}", "--limit", "frames_per_second=300")
    with town(tmp_path_factory.mktemp("attacks"), SIZES, *limits, "--limit", "guesses=3") as running:
        yield running
    resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


@pytest.fixture
async def attacked(place: Town, request: pytest.FixtureRequest) -> Measured:
    """What was measured during the attack that the test is named after."""
    measured = await measure(place, request.node.name.removeprefix("test_"), SIZES)
    # Everybody's messages came, and most of them soon.
    assert len(measured.times) >= 0.8 * 10 * SIZES.pairs * SIZES.seconds - 2 * SIZES.pairs
    assert measured.within(0.5) < 1.0
    assert measured.memory < measured.before + 100 * MIB
    return measured


async def test_idle(attacked: Measured) -> None:
    assert attacked.found["connections"] == 2500  # that they are closed is shown in tests/server/test_doorkeeper.py


async def test_dribble(attacked: Measured) -> None:
    assert attacked.found["connections"] == 59


async def test_silent(attacked: Measured) -> None:
    assert attacked.found["connections"] == 59


async def test_deaf(attacked: Measured) -> None:
    assert attacked.found["closed by the server"] > 0
    assert attacked.memory < attacked.before + 40 * MIB


async def test_flood(attacked: Measured) -> None:
    assert attacked.found["refused"] > 0
    assert attacked.found["messages stored"] < 300 * (SIZES.seconds + 20) + 4 * 2000


async def test_crowd(attacked: Measured) -> None:
    assert attacked.found["deliveries"] > 0
    assert attacked.found["a JOIN_GROUP, ms"] > 0


async def test_storm(attacked: Measured) -> None:
    assert attacked.found["wrong passwords"] > 0


async def test_stubborn(attacked: Measured) -> None:
    assert attacked.found["refused"] > 0
