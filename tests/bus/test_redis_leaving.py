"""The thread of the Redis bus is gone within 100 ms of a cancellation, wherever it waits."""

from __future__ import annotations

import contextlib
import socket

import pytest
import structlog
import trio
import trio.testing

from tests.bus.collector import Collector
from tests.bus.redis_steps import cancelled_within, numbered, start
from trio_chat.bus.redis import RedisBus, RedisLimits
from trio_chat.verify.programs.process import free_port
from trio_chat.verify.programs.redis import Redis

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


async def test_leaving_while_the_connection_is_being_made(logs: list[structlog.typing.EventDict]) -> None:
    with contextlib.ExitStack() as stack:
        # A listener whose queue is full answers no more: the kernel drops what asks for a connection.
        full = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=0))
        for _ in range(3):
            filler = stack.enter_context(socket.socket())
            filler.setblocking(False)
            filler.connect_ex(full.getsockname())
        url = f"redis://127.0.0.1:{full.getsockname()[1]}/0"
        async with cancelled_within(0.1) as nursery:
            await start(nursery, RedisBus(url, limits=RedisLimits(connect_seconds=0.2)), "a")
            assert [entry["reason"] for entry in logs] == ["no answer in time"]
        async with cancelled_within(0.1) as nursery:
            nursery.start_soon(RedisBus(url).run, Collector())
            await trio.testing.wait_all_tasks_blocked(0.05)


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
