"""Stretches of time: sorted, without overlap, each from its begin to its end in seconds."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator

__all__ = ["Spans", "merged", "unexcused"]

Spans = list[tuple[float, float]]


def merged(spans: Spans) -> Spans:
    result: Spans = []
    for begin, end in sorted(spans):
        if result and begin <= result[-1][1]:
            result[-1] = (result[-1][0], max(end, result[-1][1]))
        else:
            result.append((begin, end))
    return result


def unexcused(begin: float, end: float, spans: Spans) -> Iterator[tuple[float, float]]:
    """The parts of a time that lie outside of `spans`, which are sorted and do not overlap."""
    index = bisect_right(spans, begin, key=lambda span: span[0]) - 1
    for excuse_begin, excuse_end in spans[max(index, 0) :]:
        if excuse_begin >= end:
            break
        if excuse_begin > begin:
            yield begin, excuse_begin
        begin = max(begin, excuse_end)
    if begin < end:
        yield begin, end
