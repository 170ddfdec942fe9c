"""Steps that the tests of the Redis bus share."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import AsyncIterator, Iterator

import trio

from tests.bus.collector import PATIENCE, Collector
from trio_chat.bus.contract import Event
from trio_chat.bus.redis import RedisBus, RedisLimits

__all__ = ["QUICK", "cancelled_within", "down", "numbered", "start", "up_again", "within"]

#: Notices a silent Redis five times as fast as in production.
QUICK = RedisLimits(
    ping_seconds=0.1,
    silence_seconds=0.3,
    connect_seconds=0.3,
    handshake_seconds=0.3,
    retry_min_seconds=0.02,
    retry_max_seconds=0.2,
)


def numbered(count: int, first: int = 0, channel: str = "a") -> list[Event]:
    return [(channel, b"%d" % number) for number in range(first, first + count)]


async def start(nursery: trio.Nursery, bus: RedisBus, *channels: str) -> Collector:
    collector = Collector()
    bus.subscribe(channels)
    await nursery.start(bus.run, collector)
    return collector


@contextlib.asynccontextmanager
async def cancelled_within(seconds: float) -> AsyncIterator[trio.Nursery]:
    """A nursery that is cancelled at the end, and must then be done in time, with no thread of ours left."""
    async with trio.open_nursery() as nursery:
        yield nursery
        began = time.perf_counter()
        nursery.cancel_scope.cancel()
    assert time.perf_counter() - began < seconds
    assert not [thread for thread in threading.enumerate() if "redis" in thread.name]


@contextlib.contextmanager
def within(seconds: float) -> Iterator[None]:
    began = time.perf_counter()
    yield
    assert time.perf_counter() - began < seconds


async def up_again(*buses: RedisBus) -> None:
    with trio.fail_after(PATIENCE):
        for bus in buses:
            await bus.wait_up()


async def down(*buses: RedisBus) -> None:
    with trio.fail_after(PATIENCE):
        for bus in buses:
            await bus.wait_down()
