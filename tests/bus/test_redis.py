"""The Redis bus against a real Redis that fails by real means."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import structlog
import trio
import trio.testing

from tests.bus.collector import PATIENCE
from tests.bus.redis_steps import QUICK, down, numbered, start, up_again, within
from trio_chat.bus.redis import RedisBus, RedisLimits
from trio_chat.verify.programs.process import free_port
from trio_chat.verify.programs.redis import Redis

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("graceful", [False, True])
async def test_a_redis_that_dies_is_noticed_and_used_again_when_it_is_back(
    redis: Redis, nursery: trio.Nursery, graceful: bool
) -> None:
    sender, reader = RedisBus(redis.url), RedisBus(redis.url)
    sent = await start(nursery, sender, "own")
    got = await start(nursery, reader, "a", "b")
    if graceful:
        redis.stop()
    else:
        redis.kill()
    with within(1.0), trio.fail_after(PATIENCE):
        await down(sender, reader)
        while sender._publisher.up:  # a graceful end reaches one direction after the other
            await sender._changed.wait()
    sender.publish(numbered(10))
    assert sender.statistics().dropped == 10
    redis.start()
    with within(1.5):
        await up_again(sender, reader)
        await got.wait_gaps()
        await sent.wait_gaps()
    sender.publish([("b", b"again")])
    await got.wait_event(("b", b"again"))
    assert got.events == [("b", b"again")]
    assert reader.statistics().reconnects == 2


async def test_a_stopped_redis_is_noticed_within_3_seconds_and_used_again_within_one(
    redis: Redis, nursery: trio.Nursery
) -> None:
    sender, reader = RedisBus(redis.url), RedisBus(redis.url)
    await start(nursery, sender)
    got = await start(nursery, reader, "a")
    redis.pause()
    with within(3.0):
        await down(sender, reader)
    redis.resume()
    with within(1.5):
        await up_again(sender, reader)
        await got.wait_gaps()
    sender.publish(numbered(1))
    await got.wait_event(numbered(1)[0])


async def test_a_stopped_redis_is_noticed_while_much_is_published(redis: Redis, nursery: trio.Nursery) -> None:
    sender = RedisBus(redis.url, limits=QUICK)
    await start(nursery, sender)
    redis.pause()
    batch = [("a", b"x" * 10_000)] * 100
    with trio.fail_after(PATIENCE):
        while sender.up:
            sender.publish(batch)
            await trio.sleep(0.01)  # paces the load; the loop ends by what the bus says
    assert sender.statistics().dropped > 0
    redis.resume()
    await up_again(sender)


async def test_start_with_a_stopped_redis_is_bounded(redis: Redis, nursery: trio.Nursery) -> None:
    redis.pause()
    bus = RedisBus(redis.url)
    with within(3.2):
        got = await start(nursery, bus, "a")
    assert not bus.up
    redis.resume()
    with within(1.5):
        await up_again(bus)
    await got.wait_gaps()  # what was published since the start may have been missed


async def test_start_without_a_redis_is_no_error_and_is_logged_once(
    logs: list[structlog.typing.EventDict], nursery: trio.Nursery, tmp_path: Path
) -> None:
    port = free_port()
    bus = RedisBus(f"redis://:secret@127.0.0.1:{port}/3", limits=QUICK)
    with within(1.0):
        got = await start(nursery, bus, "a")
    assert not bus.up
    await bus.wait_subscribed()
    assert logs == [
        {
            "event": "bus_down",
            "log_level": "warning",
            "address": f"redis://127.0.0.1:{port}/3",
            "reason": "Connection refused",
        }
    ]
    # Some attempts later it is still the only line; then one that it is up.
    await trio.sleep(0.5)
    assert len(logs) == 1
    with Redis(tmp_path, port=port, password="secret"):
        await up_again(bus)
        await got.wait_gaps()
        assert [entry["event"] for entry in logs] == ["bus_down", "bus_up"]
    await down(bus)


async def test_flapping_under_load_neither_crashes_nor_swaps_nor_hides_a_loss(
    redis: Redis, nursery: trio.Nursery
) -> None:
    sender, reader = RedisBus(redis.url, limits=QUICK), RedisBus(redis.url, limits=QUICK)
    await start(nursery, sender)
    got = await start(nursery, reader, "a")
    published = 0

    async def load() -> None:
        nonlocal published
        while True:
            sender.publish(numbered(50, first=published))
            published += 50
            await trio.sleep(0.001)

    async with trio.open_nursery() as loading:
        loading.start_soon(load)
        for _ in range(5):
            await up_again(sender, reader)
            count = len(got.events)
            await got.wait_events(count + 500)
            redis.kill()
            await down(sender, reader)
            redis.start()
        await up_again(sender, reader)
        loading.cancel_scope.cancel()
    sender.publish([("a", b"-1")])
    await got.wait_event(("a", b"-1"))
    numbers = [int(data) for _, data in got.events[:-1]]
    assert numbers == sorted(set(numbers))
    assert 0 < len(numbers) < published
    # Two for each loss: the reader's own, and the sender's.
    await got.wait_gaps(5)
    statistics = sender.statistics()
    assert statistics.published + statistics.publish_dropped >= published


async def test_cut_subscribers_come_back_with_all_their_channels(redis: Redis, nursery: trio.Nursery) -> None:
    sender, reader = RedisBus(redis.url), RedisBus(redis.url)
    await start(nursery, sender)
    channels = [f"user:{number}" for number in range(20_000)]
    with within(5.0):
        got = await start(nursery, reader)
        reader.subscribe(channels)
        await wait_confirmed(reader)
    with redis.client() as client:
        for round_number in (1, 2):
            client.client_kill_filter(_type="pubsub")
            await down(reader)
            await up_again(reader)
            await got.wait_gaps(round_number)
            assert client.pubsub_numsub("trio-chat:0:user:19999") == [(b"trio-chat:0:user:19999", 1)]
    # The sender's own end was cut too, so it may have missed what others published, and the reader did not lose more.
    got.clear()
    events = [(channel, b"1") for channel in channels]
    sender.publish(events)
    assert await got.wait_events(20_000) == events
    reader.unsubscribe(channels[1:])
    await wait_for_channels(redis, 2)


async def wait_confirmed(bus: RedisBus) -> None:
    """`wait_subscribed` gives up early on purpose; here every confirmation is wanted."""
    with trio.fail_after(PATIENCE):
        subscriber = bus._subscriber
        while subscriber._confirmed < subscriber._generation:
            await bus.wait_subscribed()


async def wait_for_channels(redis: Redis, count: int) -> None:
    with redis.client() as client, trio.fail_after(PATIENCE):
        while len(client.pubsub_channels()) != count:
            await trio.sleep(0.005)  # Redis tells nobody when a channel has gone


async def test_a_publisher_that_lost_events_makes_the_other_nodes_look(redis: Redis, nursery: trio.Nursery) -> None:
    sender, reader = RedisBus(redis.url), RedisBus(redis.url)
    sent = await start(nursery, sender)
    got = await start(nursery, reader, "a")
    with redis.client() as client:
        client.client_kill_filter(_type="normal", skipme=True)
    await down(sender)
    assert reader._subscriber.up
    sender.publish(numbered(1))
    await up_again(sender, reader)
    # Both have lost their publisher: each tells the other, and ignores its own notice.
    await got.wait_gaps()
    await sent.wait_gaps()
    sender.publish([("a", b"end")])
    await got.wait_event(("a", b"end"))
    assert got.gaps == sent.gaps == 1
    assert reader._subscriber.reconnects == 0


async def test_calls_in_one_turn_become_one_command(redis: Redis, nursery: trio.Nursery) -> None:
    bus = RedisBus(redis.url)
    await start(nursery, bus)
    with redis.client() as client:
        client.config_resetstat()
        for number in range(500):
            bus.subscribe([f"user:{number}"])
        await bus.wait_subscribed()
        assert client.info("commandstats")["cmdstat_subscribe"]["calls"] == 1
        assert len(client.pubsub_channels("trio-chat:0:user:*")) == 500


async def test_a_burst_arrives_complete_and_in_order(redis: Redis, nursery: trio.Nursery) -> None:
    sender, reader = RedisBus(redis.url), RedisBus(redis.url)
    await start(nursery, sender)
    got = await start(nursery, reader, "a")
    for first in range(0, 50_000, 100):
        sender.publish(numbered(100, first=first))
    assert await got.wait_events(50_000) == numbered(50_000)
    assert got.gaps == 0
    assert got.batches < 1000
    statistics = reader.statistics()
    assert (statistics.received, statistics.dropped, statistics.channels) == (50_000, 0, 1)
    assert sender.statistics().published == 50_000


async def test_a_receiver_that_is_too_slow_loses_events_and_is_told(redis: Redis, nursery: trio.Nursery) -> None:
    reader = RedisBus(redis.url, limits=RedisLimits(handover_bytes=200_000))
    got = await start(nursery, reader, "a")
    with redis.client() as client:
        # The Trio thread stands still meanwhile: nothing is taken from the mailbox.
        pipeline = client.pipeline(transaction=False)
        for number in range(20_000):
            pipeline.publish("trio-chat:0:a", b"%d" % number + b" " * 100)
        pipeline.execute()
        deadline = time.monotonic() + PATIENCE
        while not reader.statistics().dropped and time.monotonic() < deadline:
            time.sleep(0.005)  # noqa: ASYNC251 - on purpose
        await got.wait_gaps()
        ends = 0
        with trio.fail_after(PATIENCE):
            # Until the rest of the flood has been taken, an end may be dropped as well.
            while ("a", b"end") not in got.events:
                client.publish("trio-chat:0:a", b"end")
                ends += 1
                await trio.sleep(0.01)
            while (statistics := reader.statistics()).received + statistics.receive_dropped < 20_000 + ends:
                await trio.sleep(0.01)
    assert statistics.received == len(got.events)
    assert statistics.received + statistics.receive_dropped == 20_000 + ends
    assert statistics.reconnects == 0


async def test_a_full_publish_buffer_drops_the_newest_and_the_others_are_told(
    redis: Redis, nursery: trio.Nursery
) -> None:
    sender = RedisBus(redis.url, limits=RedisLimits(publish_bytes=10_000, ping_seconds=0.05))
    reader = RedisBus(redis.url)
    await start(nursery, sender)
    got = await start(nursery, reader, "a")
    sender.publish(numbered(1000))
    await got.wait_gaps()
    assert got.events == numbered(len(got.events))
    statistics = sender.statistics()
    assert 0 < statistics.published == len(got.events) < 1000
    assert statistics.published + statistics.dropped == 1000
    assert sender.up


async def test_a_standstill_of_this_process_is_not_taken_for_a_dead_redis(redis: Redis, nursery: trio.Nursery) -> None:
    bus = RedisBus(redis.url, limits=QUICK)
    await start(nursery, bus, "a")
    for _ in range(3):
        bus.publish(numbered(10))
        time.sleep(0.5)  # noqa: ASYNC251 - on purpose: longer than the limit of silence
        await trio.testing.wait_all_tasks_blocked(0.05)
    assert bus.up
    assert bus.statistics().reconnects == 0


async def test_wait_subscribed_is_bounded(redis: Redis, nursery: trio.Nursery) -> None:
    bus = RedisBus(redis.url)
    await start(nursery, bus)
    redis.pause()
    bus.subscribe(["a"])
    with within(0.7):
        await bus.wait_subscribed()
    assert bus._subscriber.up  # the limit ended it, not the loss
    await down(bus)
    bus.subscribe(["b"])
    with within(0.1):
        await bus.wait_subscribed()


async def test_databases_and_prefixes_keep_deployments_apart(redis: Redis, nursery: trio.Nursery) -> None:
    urls = [redis.url, redis.url.removesuffix("/0") + "/1"]
    buses = [RedisBus(url, prefix=prefix) for url in urls for prefix in ("one", "two")]
    collectors = [await start(nursery, bus, "a") for bus in buses]
    for number, bus in enumerate(buses):
        await bus.wait_subscribed()
        bus.publish(numbered(1, first=number))
    for number, collector in enumerate(collectors):
        await collector.wait_events(1)
        assert collector.events == numbered(1, first=number)


async def test_an_event_over_the_limit_ends_the_connection_not_the_bus(
    redis: Redis, nursery: trio.Nursery, logs: list[structlog.typing.EventDict]
) -> None:
    reader = RedisBus(redis.url, limits=RedisLimits(event_bytes=100_000))
    got = await start(nursery, reader, "a")
    with redis.client() as client:
        client.publish("trio-chat:0:a", b"x" * 1_000_000)
        await got.wait_gaps()
        client.publish("trio-chat:0:a", b"end")
    assert await got.wait_events(1) == [("a", b"end")]
    assert "an event is over the size limit" in [entry.get("reason") for entry in logs]


async def test_wrong_passwords_and_missing_rights_are_told_without_the_password(
    redis: Redis, nursery: trio.Nursery, logs: list[structlog.typing.EventDict]
) -> None:
    address = redis.url.removeprefix("redis://")
    with redis.client() as client:
        client.acl_setuser("mute", enabled=True, passwords=["+hunter2"], commands=["+@all", "-publish"], channels=["*"])
        client.acl_setuser("deaf", enabled=True, passwords=["+hunter2"], commands=["+@all"], channels=["elsewhere*"])
        client.acl_setuser(
            "both",
            enabled=True,
            passwords=["+hunter2"],
            commands=["+@connection", "+@pubsub"],
            channels=["trio-chat:*"],
        )
        try:
            for user, password, works in [
                ("mute", "hunter2", False),
                ("deaf", "hunter2", False),
                ("both", "wrong-one", False),
                ("both", "hunter2", True),
            ]:
                bus = RedisBus(f"redis://{user}:{password}@{address}", limits=QUICK)
                await start(nursery, bus, "a")
                assert bus.up == works
                assert password not in repr(bus) + repr(vars(bus)) + repr(bus._address)
        finally:
            for user in ("mute", "deaf", "both"):
                client.acl_deluser(user)
    reasons = " ".join(entry["reason"] for entry in logs if entry["event"] == "bus_down")
    assert "permission" in reasons
    assert "WRONGPASS" in reasons or "invalid username" in reasons
    assert "hunter2" not in str(logs)
    assert "wrong-one" not in str(logs)


async def becomes(bus: RedisBus, *, alone: bool) -> None:
    with trio.fail_after(PATIENCE):
        while bus._publisher.alone != alone:
            await trio.sleep(0.01)


async def test_a_bus_that_is_alone_publishes_nothing_until_another_comes(redis: Redis, nursery: trio.Nursery) -> None:
    first = RedisBus(redis.url, limits=QUICK)
    await start(nursery, first, "a")
    await becomes(first, alone=True)
    events = iter([("a", b"for nobody")])
    first.publish(events)
    assert list(events) == [("a", b"for nobody")]
    second = RedisBus(redis.url, limits=QUICK)
    got = await start(nursery, second, "a")
    await becomes(first, alone=False)
    first.publish([("a", b"0"), ("a", b"1")])
    await got.wait_event(("a", b"1"))
    assert got.events == [("a", b"0"), ("a", b"1")]
    assert first.statistics().publish_dropped == 0
    assert not second._publisher.alone


async def test_a_bus_whose_own_subscriber_is_away_is_not_alone(redis: Redis, nursery: trio.Nursery) -> None:
    bus = RedisBus(redis.url, limits=QUICK)
    await start(nursery, bus)
    bus._subscriber.up = False
    with trio.move_on_after(1.0):
        while not bus._publisher.alone:
            await trio.sleep(0.01)
    assert not bus._publisher.alone
