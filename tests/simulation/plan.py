"""What a seed stands for: the cluster, the people, how bad the world is to them. All drawn before anything runs."""

from __future__ import annotations

import random

import attrs

from tests.simulation.chance import stream
from tests.simulation.database import Moods
from tests.simulation.network import Weather
from trio_chat.config import Limits, Settings

__all__ = ["FAULTS", "Plan", "draw"]

#: The kinds of faults. Those that begin with `node-` or `partition-` cost presence a node's lease.
FAULTS = (
    "node-kill",
    "node-kill-at-step",
    "node-power",
    "node-restart",
    "node-freeze",
    "partition-database",
    "partition-bus",
    "bus-restart",
    "bus-flap",
    "bus-weather",
    "database-stall",
    "database-refuse",
    "database-failing",
    "database-slow",
    "clients-reset",
    "client-blackhole",
    "connection-cancel",
    "clock-step",
)


@attrs.frozen(kw_only=True)
class Plan:
    """`unrest` is for how long there are faults, one about every `fault_gap` seconds, of the kinds in `faults`.

    `action_gap` is the mean time between two things that a client does, `parting` how many of these are to leave a group, to
    remove somebody from one, to block somebody or to take that back; `line_delay`, `splitting` and `room` are those of
    connections (see `streams`).
    """

    seed: int
    nodes: int
    people: int
    classic: int
    devices: int
    unrest: float
    faults: tuple[str, ...]
    fault_gap: float
    action_gap: float
    keyless: float
    restless: float
    parting: float
    line_delay: float
    splitting: float
    room: int
    moods: Moods
    weather: Weather
    settings: Settings


def draw(seed: int) -> Plan:
    """Not every seed has every kind of fault: what one kind hides another seed without it shows."""
    chance = stream(seed, "plan")
    nodes = chance.choice([1, 2, 2, 3])
    faults = tuple(kind for kind in FAULTS if chance.random() < 0.4)
    if nodes == 1:
        faults = tuple(kind for kind in faults if not kind.startswith(("bus-", "partition-bus")))
    return Plan(
        seed=seed,
        nodes=nodes,
        people=chance.randint(2, 4),
        classic=chance.choice([0, 0, 1, 2]),
        devices=chance.choice([1, 1, 2]),
        unrest=chance.uniform(4, 10),
        faults=faults,
        fault_gap=chance.choice([0.5, 1.0, 2.0]),
        action_gap=chance.choice([0.05, 0.15, 0.4]),
        keyless=chance.choice([0.0, 0.2]),
        restless=chance.choice([0.0, 0.01, 0.05]),
        line_delay=chance.choice([0.0005, 0.005, 0.03]),
        splitting=chance.choice([0.0, 0.1, 0.5]),
        room=chance.choice([512, 4096, 65536]),
        moods=_moods(chance),
        weather=_weather(chance),
        settings=_settings(chance),
        parting=chance.choice([0.0, 0.04, 0.15]),
    )


def _moods(chance: random.Random) -> Moods:
    return Moods(
        pause=chance.choice([0.0005, 0.002, 0.01]),
        slow=chance.choice([0.0, 0.01, 0.05]),
        long=chance.choice([0.05, 0.2]),
        failing=chance.choice([0.0, 0.0, 0.003]),
        deadlocks=chance.choice([0.0, 0.0, 0.03]),
    )


def _weather(chance: random.Random) -> Weather:
    return Weather(
        delay=chance.choice([0.0005, 0.005, 0.05]),
        loss=chance.choice([0.0, 0.0, 0.02, 0.3]),
        doubling=chance.choice([0.0, 0.1]),
        reordering=chance.choice([0.0, 0.2]),
        room=chance.choice([5, 10_000, 10_000]),
    )


def _settings(chance: random.Random) -> Settings:
    return Settings(
        bus="redis://simulated",
        heartbeat=chance.choice([2.0, 5.0]),
        drain=chance.choice([0.5, 3.0]),
        store_timeout=chance.choice([1.0, 3.0]),
        lease=chance.choice([1.0, 2.0]),
        sweep=chance.choice([0.3, 1.0]),
        limits=Limits(
            outbox=65536,
            in_flight=chance.choice([2, 256]),
            requests=chance.choice([2, 64]),
            queue=chance.choice([3, 20000]),
            batch=chance.choice([1, 3, 500]),
            password_checks=1000,
            history=chance.choice([3, 200]),
        ),
    )
