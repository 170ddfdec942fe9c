"""Parts about growth: the same load with more and more stored, more people online, more groups per user."""

from __future__ import annotations

from collections.abc import Iterator

import trio

from bench.dialects import TEXT, Native
from bench.parts import Context, Figure, Part, loads, pairs
from bench.population import Population, execute
from bench.systems import ClusterSystem, Need, OwnPlace, OwnSystem, SQLiteSystem, System
from bench.workloads import Sizes
from trio_chat.wire.conversation import direct_conv

__all__ = ["growth_parts"]

_IN_FLIGHT = 64
_ACTIVE_PAIRS = 5
_GROUP_MEMBERS = 10
#: Rows of one statement, so that it stays well within the store's patience.
_CHUNK = 200_000


def growth_parts(sizes: Sizes) -> list[Part]:
    return [
        *(_stored(count, sizes) for count in sizes.stored),
        *(_online(count) for count in sizes.online),
        *(_groups(count) for count in sizes.groups),
    ]


def _is_own(system: System) -> bool:
    return isinstance(system, OwnSystem) and not isinstance(system, ClusterSystem)


def _stored(count: int, sizes: Sizes) -> Part:
    """Half of what is stored is in the conversations under load, half in others."""
    count_pairs = min(50, sizes.rate_pairs)

    def measure(system: System, context: Context) -> Iterator[Figure]:
        most = min(count, sizes.stored_sqlite) if isinstance(system, SQLiteSystem) else count
        each = most // 2 // count_pairs

        def fill(url: str, population: Population) -> None:
            context.tell(f"{system.name}/stored-{count}: storing {most:,} messages")
            ids = [account.id for account in population.accounts[: 2 * count_pairs]]
            trio.run(_fill, url, list(zip(ids[::2], ids[1::2], strict=True)), each, most - each * count_pairs)

        with system.open(context.directory, Need(2 * count_pairs, fill=fill)) as place:
            assert isinstance(place, OwnPlace)
            ids = [account.id for account in place.population.accounts]
            links = [
                Native.direct(pair, ids[2 * pair], ids[2 * pair + 1], (2 * pair, [2 * pair + 1]), first=each + 1)
                for pair in range(count_pairs)
            ]
            load = {f"stored-{count}": (f"{most:,} messages stored", _IN_FLIGHT, 0.0)}
            yield from loads(system, context, place, links, load)

    return Part([f"stored-{count}"], measure, _is_own)


def _online(count: int) -> Part:
    """Five pairs chat, all the others are only there."""
    workload = f"online-{count}"

    def measure(system: System, context: Context) -> Iterator[Figure]:
        with system.open(context.directory, Need(count)) as place:
            load = {workload: (f"{count:,} users online, {_ACTIVE_PAIRS} pairs chat", _IN_FLIGHT, 0.0)}
            yield from loads(system, context, place, pairs(place, _ACTIVE_PAIRS), load)

    return Part([workload], measure, _is_own)


def _groups(count: int) -> Part:
    """Ten people who have so many groups together; one of the groups chats."""
    workload = f"groups-{count}"

    def measure(system: System, context: Context) -> Iterator[Figure]:
        members = range(_GROUP_MEMBERS)
        with system.open(context.directory, Need(_GROUP_MEMBERS, groups=[members] * count)) as place:
            load = {workload: (f"{count:,} groups per user, one of ten members chats", _IN_FLIGHT, 0.0)}
            yield from loads(system, context, place, [place.group(0, 0, 0)], load)

    return Part([workload], measure, _is_own)


async def _fill(url: str, users: list[tuple[int, int]], each: int, others: int) -> None:
    """Store `each` messages between each of `users`, received, and `others` in conversations of a hundred."""
    sqlite = url.startswith("sqlite:")

    def numbers(first: int, last: int) -> str:
        """A table `n` of the numbers from first to last, in a column `seq`."""
        if not sqlite:
            return f"seq_{first}_to_{last} n"
        series = f"WITH RECURSIVE s(seq) AS (SELECT {first} UNION ALL SELECT seq + 1 FROM s WHERE seq < {last}) SELECT seq FROM s"
        return f"({series}) n"

    def joined(*parts: str) -> str:
        return " || ".join(parts) if sqlite else f"CONCAT({', '.join(parts)})"

    columns = "INSERT INTO Message (conv, seq, sender, target, ts, time, sender_key, msg)"
    key = joined("'stored-'", "(1000000000 + n.seq)")
    rest = f"1, '2026-01-01 00:00:00', {key}, '{TEXT}'"
    statements = []
    for one, other in users:
        conv = direct_conv(one, other)
        for first, last in _spans(each):
            statements.append(f"{columns} SELECT '{conv}', n.seq, {one}, {other}, {rest} FROM {numbers(first, last)}")
        statements.append(f"INSERT INTO Conversation (conv, last_seq, changed) VALUES ('{conv}', {each}, 1)")
        statements += [
            f"INSERT INTO DeliveryCursor (userid, conv, received) VALUES ({user}, '{conv}', {each})"
            for user in (one, other)
        ]
    # Conversations of people that have no account: the log does not ask.
    pair = "(10000000 + (n.seq - 1) / 100)" if sqlite else "(10000000 + (n.seq - 1) DIV 100)"
    conv = joined("'d:'", pair, "':'", "90000000")
    for first, last in _spans(others):
        fields = f"{conv}, (n.seq - 1) % 100 + 1, {pair}, 90000000, {rest}"
        statements.append(f"{columns} SELECT {fields} FROM {numbers(first, last)}")
    last_conv = joined("'d:'", "(9999999 + n.seq)", "':'", "90000000")
    for first, last in _spans(others // 100):
        statements.append(
            f"INSERT INTO Conversation (conv, last_seq, changed) SELECT {last_conv}, 100, 1 FROM {numbers(first, last)}"
        )
    await execute(url, statements)


def _spans(count: int) -> Iterator[tuple[int, int]]:
    """First and last of chunks of 1 to count."""
    for first in range(1, count + 1, _CHUNK):
        yield first, min(count, first + _CHUNK - 1)
