"""The bus of a cluster: Redis publish/subscribe.

Two connections, because a subscribed one cannot publish: `redis_subscriber` listens in a thread of its own
(`redis_thread`, `redis_mailbox` between them), `redis_publisher` writes on Trio. Either reconnects by itself.
"""

from __future__ import annotations

import secrets
from collections.abc import Iterable

import attrs
import structlog
import trio

from trio_chat.bus.contract import Event, Receiver
from trio_chat.bus.redis_publisher import Publisher
from trio_chat.bus.redis_settings import RedisAddress, RedisLimits
from trio_chat.bus.redis_subscriber import Subscriber
from trio_chat.bus.redis_wire import Scope
from trio_chat.errors import StartupError

__all__ = ["RedisBus", "RedisLimits", "RedisStatistics"]

log = structlog.get_logger(__name__)


@attrs.frozen
class RedisStatistics:
    """Counters since the bus was made."""

    published: int  #: events that were written to Redis
    publish_dropped: int  #: events that were not: the bus was down, or its buffer full
    received: int  #: events that were given to the receiver
    receive_dropped: int  #: events that came faster than the receiver took them
    reconnects: int  #: connections that worked, after the first of each direction
    channels: int  #: channels subscribed to at present

    @property
    def dropped(self) -> int:
        return self.publish_dropped + self.receive_dropped


class RedisBus:
    """Publish/subscribe through the Redis at `url`: `redis://[user:password@]host[:port][/db]`, `rediss://` for TLS.

    `prefix` and the URL's database keep deployments apart that share one Redis; all nodes of one deployment have the
    same. A Redis user for it alone needs `+@connection +@pubsub` and the channels `trio-chat:*`. One's own events come
    back when one subscribes to their channel, unless nobody else listens: then nothing is published. An event that is under
    way at the moment of an `unsubscribe` may still come.

    Raises `StartupError` for a wrong URL. A Redis that cannot be reached is no error, now or later: the bus is down,
    says so in the log once per cause, and comes back by itself.
    """

    def __init__(self, url: str, *, prefix: str = "trio-chat", limits: RedisLimits | None = None) -> None:
        if not prefix:
            raise StartupError("the prefix of the Redis bus must not be empty")
        self._address = RedisAddress.parse(url)
        limits = limits or RedisLimits()
        # SELECT does not separate publish/subscribe: the database's number is part of the names.
        scope = Scope(f"{prefix}:{self._address.db}", secrets.token_hex(8).encode())
        self._subscriber = Subscriber(self._address, limits, scope, self._state_changed, self._company_came)
        self._publisher = Publisher(self._address, limits, scope, self._state_changed, lambda: self._subscriber.up)
        self._running = False
        self._told_up = False
        self._told_reasons: set[str] = set()
        self._changed = trio.Event()

    def __repr__(self) -> str:
        return f"<RedisBus {self._address} {'up' if self.up else 'down'}, {self._subscriber.channels} channels>"

    @property
    def up(self) -> bool:
        """Whether events flow at present, in both directions."""
        return self._publisher.up and self._subscriber.up

    async def wait_up(self) -> None:
        """Wait until events flow in both directions. Cancelling is safe."""
        await self._wait(up=True)

    async def wait_down(self) -> None:
        """Wait until events do not flow in both directions. Cancelling is safe."""
        await self._wait(up=False)

    def subscribe(self, channels: Iterable[str]) -> None:
        """All calls until the end of this turn of the scheduler become one command."""
        self._subscriber.subscribe(channels)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        self._subscriber.unsubscribe(channels)

    async def wait_subscribed(self) -> None:
        """Wait until Redis has confirmed every `subscribe` so far; at most `limits.subscribe_seconds`.

        Returns at once while nothing can be received: `missed` will be called when that is over. Cancelling is safe.
        """
        await self._subscriber.wait_subscribed()

    def publish(self, events: Iterable[Event]) -> None:
        """Send events, in order; all that is published in one turn of the scheduler goes out in one write.

        Where no other bus of the deployment listens they are for nobody, and `events` is not even looked at. While the bus is down or `limits.publish_bytes` wait they are dropped, and later the other nodes' `missed` is
        called.
        """
        self._publisher.publish(events)

    def statistics(self) -> RedisStatistics:
        publisher, subscriber = self._publisher, self._subscriber
        return RedisStatistics(
            published=publisher.published,
            publish_dropped=publisher.dropped,
            received=subscriber.received,
            receive_dropped=subscriber.dropped,
            reconnects=max(0, publisher.reconnects) + max(0, subscriber.reconnects),
            channels=subscriber.channels,
        )

    async def run(self, receiver: Receiver, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Connect and stay connected until cancelled; its thread and sockets are gone when it returns.

        Started when a first attempt to connect has ended in both directions, well or not: after `connect_seconds` and
        `handshake_seconds` at most. One at a time: raises `trio.BusyResourceError` if it is running already.
        """
        if self._running:
            raise trio.BusyResourceError("this bus is running already")
        self._running = True
        attempts = trio.Event(), trio.Event()
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._publisher.run, attempts[0])
                nursery.start_soon(self._subscriber.run, receiver, attempts[1])
                for attempt in attempts:
                    await attempt.wait()
                task_status.started()
        finally:
            self._running = False
            self._told_up = False
            self._told_reasons.clear()
            self._announce()

    async def _wait(self, *, up: bool) -> None:
        await trio.lowlevel.checkpoint()
        while self.up != up:
            await self._changed.wait()

    def _announce(self) -> None:
        self._changed.set()
        self._changed = trio.Event()

    def _company_came(self) -> None:
        """Another bus has said something: it listens, or will in a moment."""
        self._publisher.alone = False

    def _state_changed(self, problem: str | None) -> None:
        """One direction has connected (None), has failed to, or has lost its connection."""
        if self.up != self._told_up:
            self._told_up = self.up
            self._told_reasons.clear()
            if self.up:
                log.info("bus_up", address=str(self._address))
                self._publisher.say_hello()
        if problem is not None and problem not in self._told_reasons:
            # Attempts go on every second: each cause is told once until the bus has been up again.
            self._told_reasons.add(problem)
            log.warning("bus_down", address=str(self._address), reason=problem)
        self._announce()
