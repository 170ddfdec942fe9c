"""Thousands of connections that end in the same moment, and everybody else."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_chat import departures
from trio_chat.departures import Departures
from trio_chat.sending import Sender


class Leaver:
    def __init__(self, told: list[str]) -> None:
        self._told = told

    def wake(self) -> None:
        self._told.append("departed")


def leaving(told: list[str]) -> Sender:
    return cast(Sender, Leaver(told))


async def test_others_have_their_turn_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "_AT_ONCE", 2)
    told: list[str] = []
    leave = Departures()

    async def another() -> None:
        while told.count("departed") < 9:
            told.append("turn")
            await trio.lowlevel.checkpoint()

    for _ in range(9):
        leave.add(leaving(told))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave.run)
        nursery.start_soon(another)
        await wait_all_tasks_blocked()
        # Two of them at a time; in each round of tasks Trio has its own order, so two turns may follow one another.
        together = [len(run) for run in "".join(each[0] for each in told).split("t") if run]
        assert sum(together) == 9
        assert max(together) <= 4
        leave.add(leaving(told))
        await wait_all_tasks_blocked()
        assert told[-1] == "departed"
        nursery.cancel_scope.cancel()
