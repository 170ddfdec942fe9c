"""What the server is to reach, and whether it does by the figures."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import attrs

from bench.results import Results

__all__ = ["GOALS", "GROWTH", "Goal", "growth_ratio", "system_cpu"]

#: What each of the growing numbers is, and the workloads that grow it.
GROWTH = {
    "messages stored": ("stored-1000", "stored-100000", "stored-10000000"),
    "users online": ("online-10", "online-1000", "online-10000"),
    "groups per user": ("groups-1", "groups-100", "groups-1000"),
}


@attrs.frozen
class Goal:
    """`check` says what was measured in words, and whether that will do; None where it was not measured."""

    workload: str
    goal: str
    check: Callable[[Results], tuple[str, bool] | None]


def system_cpu(results: Results, name: str) -> float | None:
    """Microseconds of CPU per thing counted: server, database and Redis together."""
    parts = [results.median(name, f"cpu_{part}") for part in ("server", "database", "redis")]
    known = [part for part in parts if part is not None]
    return sum(known) if known else None


def growth_ratio(results: Results, system: str, workloads: Sequence[str]) -> float | None:
    """The dearest message's CPU time by the cheapest one's."""
    costs = [cost for workload in workloads if (cost := system_cpu(results, f"{system}/{workload}"))]
    return max(costs) / min(costs) if len(costs) > 1 else None


def _rate(name: str, **factors: float) -> Callable[[Results], tuple[str, bool] | None]:
    """A rate that is so many times the rate of each of some peers at the same."""

    def check(results: Results) -> tuple[str, bool] | None:
        rate = results.median(name, "rate")
        workload = name.partition("/")[2]
        others = {peer: results.median(f"{peer}/{workload}", "rate") for peer in factors}
        if rate is None or None in others.values():
            return None
        times = {peer: rate / other for peer, other in others.items() if other}
        words = ", ".join(f"{factor:.2g} times {peer}" for peer, factor in times.items())
        return f"{rate:,.0f}/s: {words}", all(times[peer] >= factor for peer, factor in factors.items())

    return check


def _bound(
    name: str, number: str, unit: str, *, most: float | None = None, least: float | None = None
) -> Callable[[Results], tuple[str, bool] | None]:
    def check(results: Results) -> tuple[str, bool] | None:
        value = results.median(name, number)
        if value is None:
            return None
        enough = (most is None or value <= most) and (least is None or value >= least)
        return f"{value:,.0f} {unit}" if value >= 1000 else f"{value:.3g} {unit}", enough

    return check


def _growth(system: str, what: str) -> Callable[[Results], tuple[str, bool] | None]:
    def check(results: Results) -> tuple[str, bool] | None:
        ratio = growth_ratio(results, system, GROWTH[what])
        return None if ratio is None else (f"{ratio:.2f} times", ratio <= 1.2)

    return check


def _both(workload: str, goal: str, check: Callable[[str], Callable[[Results], tuple[str, bool] | None]]) -> list[Goal]:
    """The same goal on MariaDB with Redis and on SQLite."""
    return [
        Goal(f"{workload}, MariaDB + Redis", goal, check("mariadb")),
        Goal(f"{workload}, SQLite", goal, check("sqlite")),
    ]


GOALS = [
    Goal(
        "direct, 50 pairs, 1 in flight, MariaDB + Redis",
        "1.3 times ejabberd",
        _rate("mariadb/direct-50-1", ejabberd=1.3),
    ),
    Goal(
        "the same",
        "at most 30 µs of server CPU a message",
        _bound("mariadb/direct-50-1", "cpu_server", "µs", most=30),
    ),
    Goal("the same, SQLite", "1.3 times ejabberd", _rate("sqlite/direct-50-1", ejabberd=1.3)),
    *_both("direct, 64 in flight", "4 times ejabberd", lambda system: _rate(f"{system}/direct-50-64", ejabberd=4)),
    *_both("the same", "p99 under 40 ms", lambda system: _bound(f"{system}/direct-50-64", "ack_p99", "ms", most=40)),
    *_both(
        "group of 100, 1 in flight",
        "160,000 deliveries/s",
        lambda system: _bound(f"{system}/group-100-1", "rate", "/s", least=160e3),
    ),
    *_both(
        "the same",
        "at most 6 µs of server CPU a delivery",
        lambda system: _bound(f"{system}/group-100-1", "cpu_server", "µs", most=6),
    ),
    *_both(
        "group of 100, 64 in flight",
        "1,000,000 deliveries/s",
        lambda system: _bound(f"{system}/group-100-64", "rate", "/s", least=1e6),
    ),
    *_both(
        "the same",
        "more than all peers",
        lambda system: _rate(f"{system}/group-100-64", ngircd=1, ejabberd=1, prosody=1),
    ),
    Goal(
        "10,000 messages/s, 500 pairs, MariaDB + Redis",
        "p50 under 1.5 ms",
        _bound("mariadb/latency-10000", "delivery_p50", "ms", most=1.5),
    ),
    Goal("the same", "p99 under 5 ms", _bound("mariadb/latency-10000", "delivery_p99", "ms", most=5)),
    *_both(
        "offline, storing pipelined",
        "10 times ejabberd, 5 times prosody",
        lambda system: _rate(f"{system}/store-pipelined", ejabberd=10, prosody=5),
    ),
    *_both("offline, draining 5,000", "under 50 ms", lambda system: _bound(f"{system}/drain", "ms", "ms", most=50)),
    *_both(
        "idle, plain", "at most 4.6 KiB a connection", lambda system: _bound(f"{system}/idle", "kib", "KiB", most=4.6)
    ),
    *_both(
        "logins by token",
        "3,000/s on one node",
        lambda system: _bound(f"{system}/login-token", "rate", "/s", least=3000),
    ),
    *_both(
        "delivery meanwhile",
        "p99 under 50 ms",
        lambda system: _bound(f"{system}/login-token", "delivery_p99", "ms", most=50),
    ),
    *(
        Goal(f"cost per message over {what}, {title}", "within 1.2 times", _growth(system, what))
        for system, title in (("mariadb", "MariaDB + Redis"), ("sqlite", "SQLite"))
        for what in GROWTH
    ),
]
