"""Figures from a history: how much was done, and how long clients had to wait around each fault."""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Sequence
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
    Received,
    Record,
    Requested,
)

__all__ = ["Stats", "Worst", "summarize"]


_APART = 2.0


@attrs.define
class Worst:
    """The worst of all faults of a kind, in seconds, of what was under way while one lasted that came alone.

    A fault is alone where no other lasted within two seconds of it: who has to wait for two waits for neither's sake.
    `acknowledged`: from first sending a message to its REPLY. `delivered`: from first sending it to its delivery on a
    connection that was there before. `recovered`: from a fault's end to the REPLY of a message that was sent before it.
    """

    faults: int = 0
    alone: int = 0
    acknowledged: float = 0.0
    delivered: float = 0.0
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
    begun: dict[int, FaultBegan] = {}
    faults: list[tuple[str, float, float]] = []
    for record in history:
        match record:
            case LoggedIn():
                stats.logins += 1
                users[record.connection] = record.user
                since[record.connection] = record.at
            case Closed() | LoggedOut():
                stats.connections += isinstance(record, Closed)
                users.pop(record.connection, None)
            case Requested(text=text) if text and record.connection in users:
                message = (users[record.connection], text)
                stats.sent_again += message in first
                first.setdefault(message, record.at)
                requests[record.connection, record.ref] = message
            case Answered():
                if record.error:
                    stats.refused[record.error] += 1
                elif (sent := requests.get((record.connection, record.ref))) is not None:
                    acknowledged.setdefault(sent, _Span(first[sent], record.at))
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
    acks, deliveries = _Spans(list(acknowledged.values())), _Spans(delivered)
    for kind, begin, end in faults:
        worst = stats.faults.setdefault(kind, Worst())
        worst.faults += 1
        if sum(other[1] <= end + _APART and other[2] >= begin - _APART for other in faults) > 1:
            continue
        worst.alone += 1
        for span in acks.overlapping(begin, end):
            worst.acknowledged = max(worst.acknowledged, span.end - span.begin)
            worst.recovered = max(worst.recovered, span.end - end)
        for span in deliveries.overlapping(begin, end):
            worst.delivered = max(worst.delivered, span.end - span.begin)
    return stats


class _Spans:
    def __init__(self, spans: list[_Span]) -> None:
        self._spans = sorted(spans, key=attrgetter("end"))

    def overlapping(self, begin: float, end: float) -> list[_Span]:
        at = bisect_left(self._spans, begin, key=attrgetter("end"))
        return [span for span in self._spans[at:] if span.begin <= end]
