"""Thousands of connections that end in the same moment, and everybody else."""

from __future__ import annotations

from typing import cast

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_chat import departures
from trio_chat.connection import Connection
from trio_chat.departures import Departures


class Leaver:
    def __init__(self, told: list[str]) -> None:
        self._told = told

    def depart(self) -> None:
        self._told.append("departed")


def leaving(told: list[str]) -> Connection:
    return cast(Connection, Leaver(told))


async def test_others_have_their_turn_between(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(departures, "_AT_ONCE", 2)
    told: list[str] = []
    leave = Departures()

    async def another() -> None:
        while told.count("departed") < 5:
            told.append("turn")
            await trio.lowlevel.checkpoint()

    for _ in range(5):
        leave.add(leaving(told))
    async with trio.open_nursery() as nursery:
        nursery.start_soon(leave.run)
        nursery.start_soon(another)
        await wait_all_tasks_blocked()
        assert [run for run in "".join(each[0] for each in told).split("t") if run] == ["dd", "dd", "d"]
        leave.add(leaving(told))
        await wait_all_tasks_blocked()
        assert told[-1] == "departed"
        nursery.cancel_scope.cancel()


async def test_at_the_end_nobody_waits() -> None:
    told: list[str] = []
    leave = Departures()
    leave.add(leaving(told))
    assert not told
    leave.finish()
    assert told == ["departed"]
    leave.add(leaving(told))
    assert told == ["departed"] * 2
