"""Who accepts the next connection: the worker that has the fewest.

All workers wait at the same listeners, and the kernel wakes them all: who comes first takes everything. Chat connections
last for hours, so what came unevenly stays so. Therefore each writes down on a board, a few bytes that they share, how many
connections it has, and one that has more than another leaves it a moment to come first.
"""

from __future__ import annotations

import mmap
import os
import struct
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO

import trio

__all__ = ["Board", "Turns"]

#: How long a worker waits for one that has fewer connections, in seconds; and how many it then takes if that did not
#: come: it may be stopped, or busy.
_COURTESY = 0.005
_THEN = 8
#: How many it takes in one go where there is no other one.
_ALONE = 64
#: How often a worker writes down what it has when nobody connects, in seconds.
_WRITE = 0.25

_PLACE = struct.Struct("=i")
_NOBODY = -1


class Board:
    """A number for each worker, in memory that they share; the file has no name and goes with the last of them."""

    def __init__(self, descriptor: int, places: int) -> None:
        """`descriptor` is the file's, also in another process, which has inherited it. It stays its owner's."""
        self.descriptor = descriptor
        self._memory = mmap.mmap(descriptor, _PLACE.size * places)
        self._places = range(places)

    @classmethod
    @contextmanager
    def new(cls, places: int) -> Iterator[Board]:
        """A board that nobody is on yet."""
        with _file_without_name() as file:
            file.truncate(_PLACE.size * places)
            board = cls(file.fileno(), places)
            for place in range(places):
                board.leave(place)
            yield board

    def write(self, place: int, connections: int) -> None:
        _PLACE.pack_into(self._memory, _PLACE.size * place, connections)

    def leave(self, place: int) -> None:
        """Whose place this is takes no connections at present."""
        self.write(place, _NOBODY)

    def fewest(self, but: int) -> int | None:
        """The least number on the board, `but` for one place; None where there is no other. It may be a moment old."""
        numbers = [_PLACE.unpack_from(self._memory, _PLACE.size * place)[0] for place in self._places if place != but]
        return min((number for number in numbers if number != _NOBODY), default=None)

    def others(self, but: int) -> int:
        """How many connections all have together, `but` for one place. It may be a moment old."""
        numbers = [_PLACE.unpack_from(self._memory, _PLACE.size * place)[0] for place in self._places if place != but]
        return sum(number for number in numbers if number != _NOBODY)


class Turns:
    """One worker's place on the board. `count` says how many connections it has."""

    def __init__(self, board: Board, place: int) -> None:
        self._board = board
        self._place = place
        self.count: Callable[[], int] = lambda: 0

    async def turn(self) -> int:
        """Wait until this worker may accept, and return how many connections, at most. Cancelling is safe."""
        mine = self.count()
        self._board.write(self._place, mine)
        fewest = self._board.fewest(self._place)
        if fewest is not None and fewest < mine:
            await trio.sleep(_COURTESY)
            return _THEN
        await trio.lowlevel.checkpoint()
        # As many as another one has, and one more: the next is that one's.
        return _ALONE if fewest is None else fewest - mine + 1

    def elsewhere(self) -> int:
        """How many connections the other workers have, a moment ago at most."""
        return self._board.others(self._place)

    async def run(self) -> None:
        """Keep the board right until cancelled; then leave it."""
        try:
            while True:
                self._board.write(self._place, self.count())
                await trio.sleep(_WRITE)
        finally:
            self._board.leave(self._place)


def _file_without_name() -> IO[bytes]:
    """In memory where the system has such files: there may be no folder to write to."""
    if hasattr(os, "memfd_create"):
        return os.fdopen(os.memfd_create("trio-chat-workers"), "w+b", buffering=0)
    return tempfile.TemporaryFile("w+b", buffering=0)
