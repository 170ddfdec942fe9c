"""The contract of the bus, once for every bus."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import trio
import trio.testing

from tests.bus.collector import Collector
from tests.simulation.network import Exchange, SimulatedBus
from trio_chat.bus.contract import Bus, Event
from trio_chat.bus.local import LocalBus, LocalHub
from trio_chat.bus.redis import RedisBus

MakeBus = Callable[[], Bus]


def _local_buses() -> MakeBus:
    hub = LocalHub()
    return lambda: LocalBus(hub)


def _simulated_buses() -> MakeBus:
    exchange = Exchange(random.Random(1))
    return lambda: SimulatedBus(exchange)


@pytest.fixture(params=["local", "simulated", pytest.param("redis", marks=pytest.mark.slow)])
def make_bus(request: pytest.FixtureRequest) -> MakeBus:
    """Makes buses that are joined with each other."""
    if request.param == "local":
        return _local_buses()
    if request.param == "simulated":
        return _simulated_buses()
    url = request.getfixturevalue("redis").url
    return lambda: RedisBus(url)


def numbered(channel: str, count: int) -> list[Event]:
    return [(channel, b"%d" % number) for number in range(count)]


async def start(nursery: trio.Nursery, bus: Bus, *channels: str) -> Collector:
    collector = Collector()
    await nursery.start(bus.run, collector)
    assert bus.up
    bus.subscribe(channels)
    await bus.wait_subscribed()
    return collector


async def test_events_reach_every_other_subscriber_in_order(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, one, two = make_bus(), make_bus(), make_bus()
    await start(nursery, sender)
    got_one = await start(nursery, one, "a")
    got_two = await start(nursery, two, "a")
    events = numbered("a", 1000)
    sender.publish(events[:1])
    sender.publish(events[1:600])
    await trio.testing.wait_all_tasks_blocked()
    sender.publish(iter(events[600:]))
    assert await got_one.wait_events(1000) == events
    assert await got_two.wait_events(1000) == events
    assert got_one.gaps == got_two.gaps == 0


async def test_each_publisher_keeps_its_own_order(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    one, two, reader = make_bus(), make_bus(), make_bus()
    await start(nursery, one)
    await start(nursery, two)
    collector = await start(nursery, reader, "one", "two")
    for number in range(200):
        one.publish([("one", b"%d" % number)])
        two.publish([("two", b"%d" % number)])
        if number % 20 == 0:
            await trio.lowlevel.checkpoint()
    await collector.wait_events(400)
    for channel in ("one", "two"):
        assert [event for event in collector.events if event[0] == channel] == numbered(channel, 200)


async def test_only_what_is_subscribed_to_comes(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    collector = await start(nursery, reader, "a", "b")
    sender.publish([("a", b"1"), ("c", b"2"), ("aa", b"3"), ("b", b"4")])
    assert await collector.wait_events(2) == [("a", b"1"), ("b", b"4")]
    reader.unsubscribe(["a", "never asked for"])
    reader.subscribe(["c"])
    await reader.wait_subscribed()
    sender.publish([("a", b"5"), ("b", b"6"), ("c", b"7")])
    assert (await collector.wait_events(4))[2:] == [("b", b"6"), ("c", b"7")]


async def test_the_last_of_contradicting_wishes_wins(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    collector = await start(nursery, reader, "a")
    reader.unsubscribe(["a"])
    reader.subscribe(["a", "b"])
    reader.unsubscribe(["b"])
    await reader.wait_subscribed()
    sender.publish([("b", b"1"), ("a", b"2")])
    assert await collector.wait_events(1) == [("a", b"2")]


async def test_a_subscription_made_before_the_start_is_in_force_after_it(
    make_bus: MakeBus, nursery: trio.Nursery
) -> None:
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    reader.subscribe(["a"])
    await reader.wait_subscribed()
    collector = await start(nursery, reader)
    sender.publish([("a", b"1")])
    assert await collector.wait_events(1) == [("a", b"1")]


async def test_any_name_and_any_bytes_arrive_as_they_were(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, reader = make_bus(), make_bus()
    events = [
        ("user:1", b""),
        ("with space\r\nand lines", b"\r\n+OK\r\n"),
        ("grüße 👋", bytes(range(256))),
        ("*?[a]", b"large" * 200_000),
        ("", b"$-1\r\n"),
    ]
    await start(nursery, sender)
    collector = await start(nursery, reader, *(channel for channel, _ in events))
    sender.publish(events)
    assert await collector.wait_events(len(events)) == events


async def test_events_come_in_the_thread_of_trio(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    collector = await start(nursery, reader, "a")
    sender.publish([("a", b"1")])
    await collector.wait_events(1)
    assert collector.threads == {threading.get_ident()}


async def test_events_are_never_delivered_inside_publish(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    collector = await start(nursery, reader, "a")
    sender.publish([("a", b"1")])
    assert collector.events == []
    await collector.wait_events(1)


async def test_publish_never_blocks_and_its_memory_is_bounded(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, reader = make_bus(), make_bus()
    sender.publish(numbered("a", 10))  # not running: dropped
    await start(nursery, sender)
    collector = await start(nursery, reader, "a")
    batch = [("a", b"x" * 1000)] * 1000
    for _ in range(150):  # without a checkpoint nothing can be written meanwhile
        sender.publish(batch)
    await collector.wait_gaps()
    assert 0 < len(collector.events) < 150_000
    assert collector.events[0] == batch[0]


async def test_a_receiver_that_fails_is_told_of_a_gap_and_the_bus_goes_on(
    make_bus: MakeBus, nursery: trio.Nursery
) -> None:
    class Failing(Collector):
        def receive(self, events: list[Event]) -> None:
            super().receive(events)
            if events[0][1] == b"bad":
                raise RuntimeError("a defect")

    sender, reader, collector = make_bus(), make_bus(), Failing()
    await start(nursery, sender)
    await nursery.start(reader.run, collector)
    reader.subscribe(["a"])
    await reader.wait_subscribed()
    sender.publish([("a", b"bad")])
    await collector.wait_gaps()
    sender.publish([("a", b"good")])
    await collector.wait_event(("a", b"good"))


async def test_cancelling_leaves_nothing_behind_within_100_ms(make_bus: MakeBus) -> None:
    bus, other = make_bus(), make_bus()
    before = _descriptors()
    async with trio.open_nursery() as nursery:
        await start(nursery, bus, "a")
        await start(nursery, other, "a")
        bus.publish(numbered("a", 1000))
        started = time.perf_counter()
        nursery.cancel_scope.cancel()
    assert time.perf_counter() - started < 0.1
    assert not bus.up
    assert _descriptors() == before
    # Trio keeps idle threads for later; one that is still ours would have our name.
    assert not [thread for thread in threading.enumerate() if "redis" in thread.name]
    with trio.fail_after(1):
        await trio.testing.wait_all_threads_completed()


async def test_a_bus_runs_again_after_it_was_cancelled(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    async with trio.open_nursery() as first:
        await start(first, reader, "a")
        first.cancel_scope.cancel()
    collector = await start(nursery, reader)
    sender.publish([("a", b"1")])
    assert await collector.wait_events(1) == [("a", b"1")]


async def test_a_bus_runs_once_at_a_time(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    bus = make_bus()
    await start(nursery, bus)
    with pytest.raises(trio.BusyResourceError):
        await bus.run(Collector())
    assert bus.up


async def test_wait_subscribed_is_a_checkpoint_at_all_times(make_bus: MakeBus, nursery: trio.Nursery) -> None:
    bus = make_bus()
    with trio.testing.assert_checkpoints():
        await bus.wait_subscribed()
    await start(nursery, bus, "a")
    with trio.testing.assert_checkpoints():
        await bus.wait_subscribed()
    with trio.CancelScope() as scope:
        scope.cancel()
        bus.subscribe(["b"])
        await bus.wait_subscribed()
    assert scope.cancelled_caught


async def test_local_buses_need_no_real_time(autojump_clock: trio.testing.MockClock, nursery: trio.Nursery) -> None:
    make_bus = _local_buses()
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    collector = await start(nursery, reader, "a")
    began = time.perf_counter()
    for event in numbered("a", 100):
        sender.publish([event])
        await trio.sleep(10)
    assert collector.events == numbered("a", 100)
    assert collector.batches == 100
    assert time.perf_counter() - began < 5


async def test_a_local_bus_alone_is_up_and_swallows_everything(nursery: trio.Nursery) -> None:
    bus = LocalBus()
    collector = await start(nursery, bus, "a")
    bus.publish(numbered("a", 10))
    await trio.testing.wait_all_tasks_blocked()
    assert collector.events == []
    assert bus.statistics().dropped == 0


async def test_a_local_bus_that_left_the_hub_gets_nothing(nursery: trio.Nursery) -> None:
    make_bus = _local_buses()
    sender, reader = make_bus(), make_bus()
    await start(nursery, sender)
    async with trio.open_nursery() as inner:
        collector = await start(inner, reader, "a")
        inner.cancel_scope.cancel()
    sender.publish(numbered("a", 10))
    await trio.testing.wait_all_tasks_blocked()
    assert collector.events == []


def _descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())
