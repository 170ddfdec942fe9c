"""What the clients of a simulation have in common: the history that they write, what they know, and how far the run is."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from enum import IntEnum
from typing import Any

import attrs
import trio

from tests.simulation.cluster import Cluster
from tests.simulation.plan import Plan
from trio_chat.verify.history import FaultBegan, FaultEnded, Record

__all__ = ["Account", "Phase", "World"]


class Phase(IntEnum):
    """UNREST: faults, and everybody does what he likes. CALM: all is whole, everybody gets and sends what is left.

    READING: the classic clients have gone, the others read the logs. OVER: everybody leaves.
    """

    UNREST = 0
    CALM = 1
    READING = 2
    OVER = 3


@attrs.define(eq=False)
class Account:
    """A user; `id` is 0 until somebody has been told it. `groups` and `blocked` are what his devices believe."""

    name: str
    password: str
    classic: bool
    id: int = 0
    groups: dict[int, None] = attrs.field(factory=dict)
    blocked: dict[int, None] = attrs.field(factory=dict)


class World:
    def __init__(self, plan: Plan, cluster: Cluster) -> None:
        self.plan = plan
        self.cluster = cluster
        self.phase = Phase.UNREST
        self.history: list[Record] = []
        self.accounts: list[Account] = []
        #: Groups that somebody has heard of.
        self.groups: dict[int, None] = {}
        self.numbers = itertools.count(1)
        #: What the harness itself finds wrong.
        self.complaints: list[str] = []

    def record(self, kind: Callable[..., Record], *args: Any, **fields: Any) -> None:
        self.history.append(kind(trio.current_time(), *args, **fields))

    def fault_began(self, kind: str, target: str = "") -> int:
        number = next(self.numbers)
        self.record(FaultBegan, number, kind, target)
        return number

    def fault_ended(self, number: int) -> None:
        self.record(FaultEnded, number)
