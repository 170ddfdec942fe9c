"""The receiving half of the Redis bus, as the Trio thread sees it: what is wanted, and what came."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import attrs
import structlog
import trio

from trio_chat.bus.contract import Receiver
from trio_chat.bus.redis_mailbox import Mailbox
from trio_chat.bus.redis_settings import RedisAddress, RedisLimits
from trio_chat.bus.redis_thread import SubscriberThread
from trio_chat.bus.redis_wire import Scope

__all__ = ["Subscriber"]

log = structlog.get_logger(__name__)


@attrs.define(eq=False)
class Subscriber:
    """Keeps a thread that listens to Redis, and gives its receiver what the thread brings.

    `on_state` is called after every attempt to connect and at the loss of a connection: None if it works, or why not.
    """

    _address: RedisAddress
    _limits: RedisLimits
    _scope: Scope
    _on_state: Callable[[str | None], None]
    _on_company: Callable[[], None]
    _channels: set[str] = attrs.field(init=False, factory=set)
    _generation: int = attrs.field(init=False, default=0)
    _confirmed: int = attrs.field(init=False, default=0)
    _waiters: trio.lowlevel.ParkingLot = attrs.field(init=False, factory=trio.lowlevel.ParkingLot)
    _attempted: trio.Event = attrs.field(init=False, factory=trio.Event)
    _mailbox: Mailbox | None = attrs.field(init=False, default=None)
    _receiver: Receiver | None = attrs.field(init=False, default=None)
    _dropped: int = attrs.field(init=False, default=0)
    up: bool = attrs.field(init=False, default=False)
    received: int = attrs.field(init=False, default=0)
    #: Connections that worked, after the first.
    reconnects: int = attrs.field(init=False, default=-1)

    @property
    def channels(self) -> int:
        return len(self._channels)

    @property
    def dropped(self) -> int:
        return self._dropped + (self._mailbox.dropped if self._mailbox else 0)

    def subscribe(self, channels: Iterable[str]) -> None:
        if new := set(channels) - self._channels:
            self._channels |= new
            self._generation += 1
            if self._mailbox is not None:
                self._mailbox.change(new, wanted=True, generation=self._generation)

    def unsubscribe(self, channels: Iterable[str]) -> None:
        if old := self._channels.intersection(channels):
            self._channels -= old
            if self._mailbox is not None:
                self._mailbox.change(old, wanted=False, generation=self._generation)

    async def wait_subscribed(self) -> None:
        generation = self._generation
        await trio.lowlevel.checkpoint()
        if self._in_force(generation):
            return
        with trio.move_on_after(self._limits.subscribe_seconds):
            while True:
                await self._waiters.park()
                if self._in_force(generation):
                    return

    def _in_force(self, generation: int) -> bool:
        return not self.up or self._confirmed >= generation

    async def run(self, receiver: Receiver, attempted: trio.Event) -> None:
        """Listen until cancelled; the thread has left when this returns.

        Sets `attempted` when the first attempt to connect has ended.
        """
        mailbox = self._mailbox = Mailbox(self._deliver, self._limits)
        mailbox.change(self._channels, wanted=True, generation=self._generation)
        self._receiver, self._attempted = receiver, attempted
        thread = SubscriberThread(mailbox, self._address, self._limits, self._scope)
        try:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self._stop_when_cancelled, mailbox)
                await trio.to_thread.run_sync(
                    thread.main, thread_name="redis-subscriber", limiter=trio.CapacityLimiter(1)
                )
        finally:
            # Deliveries that are under way find no receiver.
            self._receiver = None
            self._mailbox = None
            self._dropped += mailbox.dropped
            self._now(up=False)
            mailbox.close()

    async def _stop_when_cancelled(self, mailbox: Mailbox) -> None:
        # Cancelling does not reach into a thread: this task stands beside it and wakes it.
        try:
            await trio.sleep_forever()
        finally:
            mailbox.stop()

    def _deliver(self) -> None:
        """Called in the Trio thread by its token: an exception here would end the whole run."""
        mailbox, receiver = self._mailbox, self._receiver
        if mailbox is None or receiver is None:
            return
        gap = False
        try:
            parcel = mailbox.collect()
            if parcel.more:
                mailbox.collect_again()
            gap = parcel.gap
            self._confirmed = parcel.confirmed
            for problem in parcel.states:
                self._now(up=problem is None)
                self.reconnects += problem is None
                self._on_state(problem)
                self._attempted.set()
            self._waiters.unpark_all()
            if parcel.company:
                self._on_company()
            if parcel.events:
                self.received += len(parcel.events)
                receiver.receive(parcel.events)
        except Exception:
            log.exception("bus_receiver_failed")
            gap = True
        if gap:
            try:
                receiver.missed()
            except Exception:
                log.exception("bus_receiver_failed")

    def _now(self, *, up: bool) -> None:
        self.up = up
        if not up:
            self._waiters.unpark_all()
