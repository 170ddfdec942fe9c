"""Writes the history while a run goes on, with what its progress line shows."""

from __future__ import annotations

import itertools

import trio

from trio_chat.verify.history import Answered, Closed, Delivered, FaultBegan, FaultEnded, Opened, Record, Requested

__all__ = ["Recorder"]


class Recorder:
    """Called from one Trio program only: the order of the calls is the order of the history.

    Once `stop` was called nothing is added: what the end of the program does to its connections is no part of the run.
    """

    def __init__(self) -> None:
        self.records: list[Record] = []
        self.acknowledged = 0
        self.delivered = 0
        self.connected = 0
        self.faults: dict[int, FaultBegan] = {}
        #: When a message was last delivered or acknowledged.
        self.moved = 0.0
        self._connections = itertools.count(1)
        self._fault_numbers = itertools.count(1)
        self._stopped = False

    def now(self) -> float:
        return trio.current_time()

    def stop(self) -> None:
        self._stopped = True

    def add(self, record: Record) -> None:
        if not self._stopped:
            self.records.append(record)

    def opened(self, client: str) -> int:
        """A client has a new connection; its number."""
        number = next(self._connections)
        self.connected += 1
        self.add(Opened(self.now(), number, client))
        return number

    def closed(self, connection: int, why: str) -> None:
        self.connected -= 1
        self.add(Closed(self.now(), connection, why))

    def requested(
        self,
        connection: int,
        ref: int,
        kind: str,
        conv: str = "",
        key: str | None = None,
        text: str = "",
        about: int = 0,
    ) -> None:
        self.add(Requested(self.now(), connection, ref, kind, conv, key, text, about))

    def answered(self, connection: int, ref: int, error: str, conv: str, seq: int, ts: int) -> None:
        now = self.now()
        if seq and not error:
            self.acknowledged += 1
            self.moved = now
        self.add(Answered(now, connection, ref, error, conv, seq, ts))

    def delivery(self, record: Delivered) -> None:
        self.delivered += 1
        self.moved = record.at
        self.add(record)

    def fault_began(self, kind: str, target: str) -> int:
        number = next(self._fault_numbers)
        self.faults[number] = FaultBegan(self.now(), number, kind, target)
        self.add(self.faults[number])
        return number

    def fault_ended(self, number: int) -> None:
        del self.faults[number]
        self.add(FaultEnded(self.now(), number))
