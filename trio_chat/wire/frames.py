"""Splitting a byte stream into frames: pure, without I/O.

A frame is ended by a newline or a NUL, whichever the client prefers; empty frames are skipped. JSON
allows neither byte inside a string, so a terminator never occurs in a frame's text.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from itertools import repeat

__all__ = ["FrameSplitter"]

_TERMINATOR = re.compile(rb"([\n\0])")


class FrameSplitter:
    """Collects received bytes and gives back whole frames, in order.

    `limit` is the greatest size of a frame in bytes, its terminator not counted. `terminator` is the byte that ended
    the latest frame returned (a newline before there was one): the server's answers end the same way. `overflowed` is
    set once a frame, complete or not, was over the limit: what `feed` returned came before it, nothing comes after it.
    """

    __slots__ = ("_rest", "limit", "overflowed", "terminator")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.terminator = b"\n"
        self.overflowed = False
        # What has come of a frame; there as long as there is something.
        self._rest: bytearray | None = None

    @property
    def pending(self) -> int:
        """Bytes of the frame whose end has not come yet."""
        return 0 if self._rest is None else len(self._rest)

    def feed(self, data: bytes) -> list[bytes]:
        """Take received bytes and return the frames that they complete. Never blocks, never raises."""
        if self.overflowed:
            return []
        rest = self._rest
        if rest is None and data.find(b"\n") == len(data) - 1 and b"\0" not in data and len(data) <= self.limit:
            # Almost always a chunk is one frame.
            frame = data[:-1]
            if not frame or frame.isspace():
                return []
            self.terminator = b"\n"
            return [frame]
        if rest is not None:
            rest += data
            # Only the new bytes are searched: a sender of one byte at a time costs no rescans.
            if b"\n" not in data and b"\0" not in data:
                self.overflowed = len(rest) > self.limit
                return []
            data = bytes(rest)
            self._rest = None
        enders: Iterable[bytes]
        if b"\0" not in data:
            parts, enders = data.split(b"\n"), repeat(b"\n")
        elif b"\n" not in data:
            parts, enders = data.split(b"\0"), repeat(b"\0")
        else:
            pieces = _TERMINATOR.split(data)
            parts, enders = pieces[::2], pieces[1::2]
        tail = parts.pop()
        if tail:
            self._rest = bytearray(tail)
        frames = []
        for part, ender in zip(parts, enders, strict=False):
            if len(part) > self.limit:
                self.overflowed = True
                break
            if part and not part.isspace():
                frames.append(part)
                self.terminator = ender
        else:
            self.overflowed = len(tail) > self.limit
        return frames
