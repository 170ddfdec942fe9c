"""What a run is going to do, drawn from its seed: pure, so the same seed gives the same plan of load and of faults."""

from __future__ import annotations

import random
from collections.abc import Mapping

import attrs

__all__ = ["AccountPlan", "FaultPlan", "Plan", "draw_faults", "draw_plan"]

#: How long each fault lasts, in seconds (from, to); what is killed or restarted takes its start's time beyond that.
FAULTS: dict[str, tuple[float, float]] = {
    "node-kill": (0.1, 2.0),
    "node-pause": (0.5, 9.0),
    "node-restart": (0.0, 0.5),
    "redis-kill": (0.3, 4.0),
    "redis-flap": (0.2, 0.5),
    "redis-pause": (0.5, 6.0),
    "database-kill": (0.1, 2.0),
    "database-restart": (0.0, 1.0),
    "database-pause": (0.5, 6.0),
    "client-reset": (0.0, 0.0),
    "client-blackhole": (2.0, 8.0),
    "nginx-reload": (0.0, 0.0),
    "partition-services": (1.0, 9.0),
    "partition-clients": (1.0, 8.0),
}

#: Between one fault's end and the next one's begin, in seconds; and how many do not keep the next one waiting.
_PAUSE = (0.5, 3.5)
_BESIDE = 0.15


@attrs.frozen
class AccountPlan:
    """`devices` connections at once; `peers`, `friends` and `groups` are numbers of accounts and groups.

    `late` are groups that it joins during the run, `fickle` those that it leaves and joins again. Who `leaves` is away when
    the run ends.
    """

    number: int
    devices: int
    peers: tuple[int, ...]
    friends: tuple[int, ...]
    groups: tuple[int, ...]
    late: tuple[int, ...]
    fickle: tuple[int, ...]
    leaves: bool


@attrs.frozen
class FaultPlan:
    """After a `pause` the fault begins and lasts for `seconds`; the next one waits for its end, unless `beside` others.

    `draw` chooses what is hit among what there is, from 0 to 1.
    """

    pause: float
    kind: str
    seconds: float
    draw: float
    beside: bool


@attrs.frozen
class Plan:
    """`founders` are the accounts that create the groups, in the order of their numbers."""

    seed: int
    accounts: tuple[AccountPlan, ...]
    founders: tuple[int, ...]
    faults: tuple[FaultPlan, ...]


def draw_plan(seed: int, *, clients: int, seconds: float, kinds: Mapping[str, int]) -> Plan:
    """A plan for `clients` connections: two thirds as many accounts, some with several devices, in groups of all sizes.

    `kinds` are the faults that there may be, with how often each is drawn compared with the others.
    """
    draw = random.Random(f"{seed} load")
    count = max(2, clients * 2 // 3)
    devices = [1] * count
    for _ in range(clients - count):
        devices[draw.randrange(count)] += 1
    groups = max(1, count // 3)
    founders = tuple(draw.randrange(count) for _ in range(groups))
    accounts = []
    for number in range(count):
        others = [other for other in range(count) if other != number]
        member = [group for group in range(groups) if founders[group] != number and draw.random() < 0.6]
        late = tuple(group for group in member if draw.random() < 0.3)
        fickle = tuple(group for group in member if draw.random() < 0.5)
        accounts.append(
            AccountPlan(
                number,
                devices[number],
                tuple(draw.sample(others, min(3, len(others)))) + ((number,) if draw.random() < 0.2 else ()),
                tuple(sorted(draw.sample(others, min(3, len(others))))),
                tuple(group for group in member if group not in late),
                late,
                fickle,
                leaves=number % 4 == 3,
            )
        )
    return Plan(seed, tuple(accounts), founders, draw_faults(seed, seconds=seconds, kinds=kinds))


def draw_faults(seed: int, *, seconds: float, kinds: Mapping[str, int]) -> tuple[FaultPlan, ...]:
    """More faults than there is time for: how many there will be depends on how quickly programs start."""
    draw = random.Random(f"{seed} faults")
    return tuple(
        FaultPlan(
            round(draw.uniform(*_PAUSE), 3),
            kind,
            round(draw.uniform(*FAULTS[kind]), 3),
            draw.random(),
            draw.random() < _BESIDE,
        )
        for kind in (draw.choices(list(kinds), list(kinds.values()), k=int(seconds) + 10) if kinds else ())
    )
