"""Figures from a history: how much was done, and how long clients had to wait around each fault."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from operator import attrgetter

import attrs

from trio_chat.verify.history import (
    Answered,
    Closed,
    Delivered,
    FaultBegan,
    FaultEnded,
    LoggedIn,
    LoggedOut,
    Noticed,
    Opened,
    Received,
    Record,
    Requested,
)

__all__ = ["Stats", "Worst", "summarize"]


@attrs.define
class Worst:
    """The worst waits of all faults of a kind, in seconds. Who waited during two faults at once counts for neither.

    `acknowledged`: from first sending a message to its REPLY. `delivered`: from first sending it to its delivery on a
    connection that was there before. `reconnected`: from what was last heard of the server, or the fault's beginning,
    to the next login. `recovered`: from the fault's end to the REPLY of a message that was sent before it.
    """

    faults: int = 0
    acknowledged: float = 0.0
    delivered: float = 0.0
    reconnected: float = 0.0
    recovered: float = 0.0


@attrs.define
class Stats:
    seconds: float = 0.0
    messages: int = 0
    acknowledged: int = 0
    sent_again: int = 0
    delivered: int = 0
    receipts: int = 0
    logins: int = 0
    connections: int = 0
    refused: Counter[str] = attrs.field(factory=Counter)
    acknowledged_per_second: float = 0.0
    faults: dict[str, Worst] = attrs.field(factory=dict)


@attrs.define
class _Span:
    """A message under way, from its first request on."""

    begin: float
    end: float


def summarize(history: Sequence[Record]) -> Stats:
    stats = Stats()
    if history:
        stats.seconds = history[-1].at - history[0].at
    users: dict[int, int] = {}
    since: dict[int, float] = {}
    requests: dict[tuple[int, int | str], tuple[int, str]] = {}
    first: dict[tuple[int, str], float] = {}
    acknowledged: dict[tuple[int, str], _Span] = {}
    delivered: list[_Span] = []
    heard: dict[int, float] = {}
    clients: dict[int, str] = {}
    away: dict[str, float] = {}  # since when a client has heard nothing, because its connection broke
    unanswered: defaultdict[int, set[tuple[int, str]]] = defaultdict(set)
    patient: set[tuple[int, str]] = set()  # messages whose sender left by himself before they were acknowledged
    outages: list[_Span] = []
    begun: dict[int, FaultBegan] = {}
    faults: list[tuple[str, float, float]] = []
    for record in history:
        if isinstance(record, (Answered, Delivered, Noticed)):
            heard[record.connection] = record.at
        match record:
            case Opened():
                clients[record.connection] = record.client
            case LoggedIn():
                if (broke := away.pop(clients.get(record.connection, ""), None)) is not None:
                    outages.append(_Span(broke, record.at))
                stats.logins += 1
                users[record.connection] = record.user
                since[record.connection] = record.at
            case Closed() | LoggedOut():
                stats.connections += isinstance(record, Closed)
                if users.pop(record.connection, None) is not None and isinstance(record, Closed):
                    if record.why == "left":
                        patient |= unanswered.get(record.connection, set())
                    else:
                        away[clients.get(record.connection, "")] = heard[record.connection]
                    unanswered.pop(record.connection, None)
            case Requested(text=text) if text and record.connection in users:
                message = (users[record.connection], text)
                stats.sent_again += message in first
                first.setdefault(message, record.at)
                requests[record.connection, record.ref] = message
                unanswered[record.connection].add(message)
            case Answered():
                if record.error:
                    stats.refused[record.error] += 1
                elif (sent := requests.get((record.connection, record.ref))) is not None:
                    acknowledged.setdefault(sent, _Span(first[sent], record.at))
                    unanswered[record.connection].discard(sent)
            case Delivered():
                stats.delivered += 1
                began = first.get((record.sender, record.text))
                if began is not None and since.get(record.connection, record.at) < began:
                    delivered.append(_Span(began, record.at))
            case Received():
                stats.receipts += 1
            case FaultBegan():
                begun[record.number] = record
            case FaultEnded() if record.number in begun:
                fault = begun.pop(record.number)
                faults.append((fault.kind, fault.at, record.at))
            case _:
                pass
    stats.messages = len(first)
    stats.acknowledged = len(acknowledged)
    if acknowledged:
        times = [span.end for span in acknowledged.values()]
        stats.acknowledged_per_second = len(times) / max(max(times) - min(times), 1.0)
    waited = [span for message, span in acknowledged.items() if message not in patient]
    _find_worst(stats, faults, waited, delivered, outages)
    return stats


def _find_worst(
    stats: Stats,
    faults: list[tuple[str, float, float]],
    acknowledged: list[_Span],
    delivered: list[_Span],
    outages: list[_Span],
) -> None:
    acks, deliveries, absences = (sorted(spans, key=_END) for spans in (acknowledged, delivered, outages))
    for fault in faults:
        kind, begin, end = fault
        others = [(other[1], other[2]) for other in faults if other is not fault]
        worst = stats.faults.setdefault(kind, Worst())
        worst.faults += 1
        for span in _during(acks, begin, end, others):
            worst.acknowledged = max(worst.acknowledged, span.end - span.begin)
            worst.recovered = max(worst.recovered, span.end - end)
        for span in _during(deliveries, begin, end, others):
            worst.delivered = max(worst.delivered, span.end - span.begin)
        for span in _during(absences, begin, end, others):
            worst.reconnected = max(worst.reconnected, span.end - max(span.begin, begin))


_END = attrgetter("end")


def _during(spans: list[_Span], begin: float, end: float, others: list[tuple[float, float]]) -> Iterator[_Span]:
    """Those that overlap a time, and none of the others."""
    for span in spans[bisect_left(spans, begin, key=_END) :]:
        if span.begin <= end and not any(span.begin <= stop and span.end >= start for start, stop in others):
            yield span
