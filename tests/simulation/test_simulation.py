"""Seeds of whole clusters, each with its own faults: no promise is broken, and a seed means the same everywhere."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.simulation.run import simulate

ROOT = Path(__file__).parents[2]


def play(*arguments: str, hash_seed: str = "random") -> None:
    """Play seeds in a process of their own."""
    environment = {**os.environ, "PYTHONHASHSEED": hash_seed}
    command = [sys.executable, "-m", "tests.simulation", *arguments]
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("seed", range(1, 11))
def test_a_seed(seed: int) -> None:
    outcome = simulate(seed)
    assert not outcome.wrong, outcome.report()


@pytest.mark.slow
@pytest.mark.timeout(300)
def test_hundreds_of_seeds() -> None:
    play("11", "--count", "190")


def test_a_seed_replays_exactly(tmp_path: Path) -> None:
    histories = []
    for hash_seed in ("1", "2"):
        file = tmp_path / hash_seed
        play("100", "--count", "6", "--history", str(file), hash_seed=hash_seed)
        histories.append(file.read_bytes())
    assert histories[0] == histories[1]
    assert histories[0].count(b"\n") > 1000
