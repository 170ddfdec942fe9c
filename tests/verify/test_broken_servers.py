"""The whole of `verify` against real servers: good ones pass, and each that is broken on purpose is caught."""

from __future__ import annotations

import sys
from pathlib import Path

import attrs
import pytest
import trio

from trio_chat.verify.facts import Promises
from trio_chat.verify.plan import FAULTS, FaultPlan, draw_plan
from trio_chat.verify.run import Outcome, run
from trio_chat.verify.setups import SERVER, Setup, cluster, embedded

pytestmark = [pytest.mark.slow, pytest.mark.timeout(90)]

#: A broken server is not waited for as long as a good one may take.
PATIENCE = Promises(presence=1.5, node_death=3.0, answer=3.0)
BROKEN = Path(__file__).with_name("broken_server.py")
SEED = 4
KILLS = (FaultPlan(2.5, "node-kill", 0.1, 0.0, beside=False), FaultPlan(2.0, "node-kill", 0.1, 0.0, beside=False))


def verify(setup: Setup, seconds: float, faults: tuple[FaultPlan, ...] | None = None) -> Outcome:
    plan = draw_plan(SEED, clients=8, seconds=seconds, kinds=setup.kinds)
    if faults is not None:
        plan = attrs.evolve(plan, faults=faults)
    return trio.run(run, setup, plan, seconds, None if faults is None else PATIENCE)


def caught(way: str, seconds: float, *faults: FaultPlan) -> set[str]:
    with embedded([sys.executable, str(BROKEN), way]) as setup:
        return {violation.rule for violation in verify(setup, seconds, faults).violations}


def test_a_good_server_passes() -> None:
    with embedded() as setup:
        outcome = verify(setup, 6)
    assert outcome.violations == []
    assert len(outcome.records) > 1000


def test_a_good_cluster_passes() -> None:
    with cluster(2, SERVER) as setup:
        assert set(setup.kinds) <= set(FAULTS)
        outcome = verify(setup, 12)
    assert outcome.violations == []


def test_who_acknowledges_before_the_commit_is_caught() -> None:
    assert "acknowledged-and-lost" in caught("acknowledges_before_the_commit", 7, *KILLS)


def test_who_forgets_a_delivery_is_caught() -> None:
    # The last of a conversation that was forgotten leaves no hole: it is missing at the end.
    assert "hole" in (found := caught("forgets_a_delivery", 3))
    assert found <= {"hole", "undelivered"}


def test_who_swaps_two_deliveries_is_caught() -> None:
    assert "fall" in caught("swaps_two_deliveries", 3)


def test_who_forgets_keys_after_a_while_is_caught() -> None:
    # Where one of its messages was sent again late enough it is there twice; all that are old are not in the log as they were sent.
    assert caught("forgets_keys_after_a_while", 5) & {"stored-twice", "acknowledged-and-lost"}


def test_who_leaves_presence_behind_is_caught() -> None:
    assert caught("leaves_presence_behind", 4) == {"presence-wrong"}
