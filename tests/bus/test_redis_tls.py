"""The Redis bus over TLS."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
import structlog
import trio

from tests.bus.redis_steps import QUICK, cancelled_within, down, numbered, start, up_again
from tests.services.certificates import Authority
from trio_chat.bus.redis import RedisBus
from trio_chat.verify.programs.redis import TLS, Redis

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def redis_tls() -> Iterator[Redis]:
    with tempfile.TemporaryDirectory(prefix="redis-") as directory:
        authority = Authority(Path(directory))
        own = authority.issue("redis", "DNS:localhost", "IP:127.0.0.1")
        tls = TLS(own.certificate, own.key, authority.certificate)
        with Redis(Path(directory), tls=tls, password="geheim?#/%") as server:
            yield server


async def test_events_flow_both_ways_and_survive_a_cut(redis_tls: Redis, nursery: trio.Nursery) -> None:
    sender, reader = RedisBus(redis_tls.url), RedisBus(redis_tls.url)
    await start(nursery, sender)
    got = await start(nursery, reader, "a", *(f"user:{number}" for number in range(20_000)))
    await up_again(sender, reader)
    sender.publish(numbered(20_000))
    sender.publish([("a", b"large" * 200_000)])
    assert (await got.wait_events(20_001))[:-1] == numbered(20_000)
    with redis_tls.client() as client:
        client.client_kill_filter(_type="pubsub")
    await down(reader)
    await up_again(sender, reader)
    await got.wait_gaps()
    sender.publish([("user:19999", b"end")])
    await got.wait_event(("user:19999", b"end"))


async def test_a_stopped_redis_is_noticed_and_left_in_time(redis_tls: Redis) -> None:
    try:
        async with cancelled_within(0.1) as nursery:
            bus = RedisBus(redis_tls.url, limits=QUICK)
            await start(nursery, bus, "a")
            assert bus.up
            redis_tls.pause()
            await down(bus)
            redis_tls.resume()
            await up_again(bus)
    finally:
        redis_tls.resume()


async def test_an_unknown_authority_is_refused_and_named(
    redis_tls: Redis, nursery: trio.Nursery, logs: list[structlog.typing.EventDict]
) -> None:
    bus = RedisBus(redis_tls.url.split("?", maxsplit=1)[0])
    await start(nursery, bus)
    assert not bus.up
    assert [entry["reason"] for entry in logs] == ["TLS: self-signed certificate in certificate chain"]
    trusting = RedisBus(redis_tls.url.split("?", maxsplit=1)[0] + "?ssl_cert_reqs=none")
    await start(nursery, trusting)
    assert trusting.up
