"""The signals that the command line's server obeys, as what they ask for."""

from __future__ import annotations

import enum
import os
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager

import trio

__all__ = ["Order", "Orders", "open_orders"]


class Order(enum.Enum):
    """What a signal asks for."""

    STOP = enum.auto()
    RELOAD = enum.auto()


class Orders:
    """What the signals ask for, in the order in which they came."""

    def __init__(self, signals: AsyncIterator[int]) -> None:
        self._signals = signals
        self._in_terminal = os.isatty(0)

    def __aiter__(self) -> Orders:
        return self

    async def __anext__(self) -> Order:
        number = await anext(self._signals)
        hung_up = self._in_terminal and not os.isatty(0)
        return Order.RELOAD if number == signal.SIGHUP and not hung_up else Order.STOP


@contextmanager
def open_orders() -> Iterator[Orders]:
    """Take the signals inside the block.

    SIGTERM and SIGINT ask to stop, SIGHUP to reload; but where it says that the server's terminal has gone, to stop.
    """
    with trio.open_signal_receiver(signal.SIGTERM, signal.SIGINT, signal.SIGHUP) as signals:
        yield Orders(signals)
