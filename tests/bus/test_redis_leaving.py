"""The thread of the Redis bus is gone within 100 ms of a cancellation, wherever it waits."""

from __future__ import annotations

import socket

import pytest
import trio

from tests.bus.collector import Collector
from tests.bus.redis_steps import cancelled_within, numbered, start
from tests.services.process import free_port
from tests.services.redis import Redis
from trio_chat.bus.redis import RedisBus

pytestmark = pytest.mark.slow


async def test_leaving_while_it_listens(redis: Redis) -> None:
    async with cancelled_within(0.1) as nursery:
        await start(nursery, RedisBus(redis.url), "a")


async def test_leaving_while_redis_is_stopped(redis: Redis) -> None:
    async with cancelled_within(0.1) as nursery:
        bus = RedisBus(redis.url)
        await start(nursery, bus, "a")
        redis.pause()
        bus.subscribe(f"user:{number}" for number in range(100_000))  # more than the socket takes
        bus.publish([("a", b"x" * 1000)] * 5000)
        await bus.wait_subscribed()


@pytest.mark.parametrize("scheme", ["redis", "rediss"])
async def test_leaving_in_a_handshake_that_nobody_answers(scheme: str) -> None:
    with socket.create_server(("127.0.0.1", 0)) as mute:
        async with cancelled_within(0.1) as nursery:
            nursery.start_soon(RedisBus(f"{scheme}://127.0.0.1:{mute.getsockname()[1]}/0").run, Collector())
            for _ in range(2):  # publisher and subscriber are connected, and wait
                await trio.lowlevel.wait_readable(mute)
                connection, _ = mute.accept()
                nursery.start_soon(_hold, connection)
                await trio.lowlevel.wait_readable(connection)


async def test_leaving_between_two_attempts() -> None:
    async with cancelled_within(0.1) as nursery:
        await start(nursery, RedisBus(f"redis://127.0.0.1:{free_port()}/0"), "a")


async def test_leaving_in_the_middle_of_a_burst(redis: Redis) -> None:
    async with cancelled_within(0.3) as nursery:  # what the Trio thread itself has to do takes its time
        bus = RedisBus(redis.url)
        got = await start(nursery, bus, "a")
        bus.publish(numbered(50_000))
        await got.wait_events(1)


async def _hold(connection: socket.socket) -> None:
    with connection:
        await trio.sleep_forever()
