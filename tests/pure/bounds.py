"""How far Hypothesis looks in these tests: the same examples on every run, few enough for every commit."""

from __future__ import annotations

from hypothesis import settings

__all__ = ["BOUNDED", "BRIEF"]

BOUNDED = settings(max_examples=100, deadline=None, derandomize=True)
#: For examples that are large.
BRIEF = settings(BOUNDED, max_examples=50)
