"""Splitting a byte stream into frames: pure, without I/O.

A frame is ended by a newline or a NUL, whichever the client prefers; empty frames are skipped. JSON
allows neither byte inside a string, so a terminator never occurs in a frame's text.
"""

from __future__ import annotations

import re

__all__ = ["FrameSplitter"]

_TERMINATED = re.compile(rb"([^\n\0]*)([\n\0])")


class FrameSplitter:
    """Collects received bytes and gives back whole frames, in order.

    `limit` is the greatest size of a frame in bytes, its terminator not counted. `terminator` is the byte that ended
    the latest frame (a newline before there was one): the server's answers end the same way. `overflowed` is set once
    a frame, complete or not, was over the limit: what `feed` returned came before it, nothing comes after it.
    """

    __slots__ = ("_rest", "limit", "overflowed", "terminator")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.terminator = b"\n"
        self.overflowed = False
        self._rest = bytearray()

    def feed(self, data: bytes) -> list[bytes]:
        """Take received bytes and return the frames that they complete. Never blocks, never raises."""
        if self.overflowed:
            return []
        rest = self._rest
        if rest:
            rest += data
            # Only the new bytes are searched: a sender of one byte at a time costs no rescans.
            if b"\n" not in data and b"\0" not in data:
                self.overflowed = len(rest) > self.limit
                return []
            data = bytes(rest)
            rest.clear()
        if b"\0" not in data:
            parts, terminator = data.split(b"\n"), b"\n"
        elif b"\n" not in data:
            parts, terminator = data.split(b"\0"), b"\0"
        else:
            parts, terminator = _split_mixed(data, self.terminator)
        tail = parts.pop()
        rest += tail
        frames = []
        for part in parts:
            if len(part) > self.limit:
                self.overflowed = True
                break
            if part and not part.isspace():
                frames.append(part)
        else:
            self.overflowed = len(tail) > self.limit
        if frames:
            self.terminator = terminator
        return frames


def _split_mixed(data: bytes, terminator: bytes) -> tuple[list[bytes], bytes]:
    """Split where both terminators occur; also return the one that ended the latest frame with something in it."""
    parts = []
    end = 0
    for match in _TERMINATED.finditer(data):
        part, ender = match.groups()
        end = match.end()
        parts.append(part)
        if part and not part.isspace():
            terminator = ender
    parts.append(data[end:])
    return parts, terminator
