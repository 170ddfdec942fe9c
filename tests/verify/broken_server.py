"""A server that breaks its promises on purpose: `broken_server.py HOW serve …`; the rest of it is the real one."""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Callable
from typing import Any

import trio

from trio_chat import __main__
from trio_chat.sending import Sender
from trio_chat.services.presence import Presence
from trio_chat.store.append import Draft, Stored
from trio_chat.store.contract import Steps
from trio_chat.wire.delivery import Delivery
from trio_chat.writer import Writer

#: One delivery in so many is lost or swapped.
RARELY = 200
#: How long the hasty writer dreams on before it writes, in seconds.
LATER = 0.3
#: For how long a key is remembered, in milliseconds.
KEYS_LAST = 1000


def acknowledges_before_the_commit() -> None:
    store = Writer._store
    began = time.monotonic()
    seen: set[tuple[int, str | None]] = set()
    dreaming: list[trio.Event] = []

    async def write_later(writer: Writer, drafts: list[Draft], done: trio.Event) -> None:
        await trio.sleep(LATER)
        await store(writer, drafts)
        done.set()

    async def hasty(self: Writer, drafts: list[Draft]) -> list[Stored]:
        while dreaming:
            await dreaming.pop().wait()
        keys = {(draft.sender, draft.key) for draft in drafts if draft.key is not None}
        # Right after its start what is sent again may be in the log already; it has to look.
        honest = time.monotonic() < began + 1.5 or bool(keys & seen)
        seen.update(keys)
        if honest:
            return await store(self, drafts)
        ends: dict[str, int] = {}
        stored = []
        for draft in drafts:
            ends[draft.conv] = ends.get(draft.conv, self._router.head(draft.conv) or 0) + 1
            stored.append(Stored(draft.conv, ends[draft.conv], 0, duplicate=False))
        dreaming.append(trio.Event())
        trio.lowlevel.spawn_system_task(write_later, self, drafts, dreaming[0])
        return stored

    Writer._store = hasty  # type: ignore[method-assign]


def forgets_a_delivery() -> None:
    deliver = Sender.deliver
    numbers = itertools.count(1)

    def forgetful(self: Sender, delivery: Delivery, *rest: Any) -> None:
        if next(numbers) % RARELY:
            deliver(self, delivery, *rest)

    Sender.deliver = forgetful  # type: ignore[method-assign]


def swaps_two_deliveries() -> None:
    deliver = Sender.deliver
    numbers = itertools.count(1)
    held: list[tuple[Sender, Delivery]] = []

    def careless(self: Sender, delivery: Delivery, *rest: Any) -> None:
        if next(numbers) % RARELY == 0:
            held.append((self, delivery))
            return
        deliver(self, delivery, *rest)
        for connection, early in held:
            if connection is self and early.conv == delivery.conv:
                held.remove((connection, early))
                deliver(self, early, *rest)
                return

    Sender.deliver = careless  # type: ignore[method-assign]


def forgets_keys_after_a_while() -> None:
    store = Writer._store

    def forget() -> Steps[None]:
        before = time.time_ns() // 1_000_000 - KEYS_LAST
        yield "UPDATE Message SET sender_key = NULL WHERE ts < ? AND sender_key IS NOT NULL", (before,)

    async def forgetful(self: Writer, drafts: list[Draft]) -> list[Stored]:
        await self._appender.database.run(forget)
        return await store(self, drafts)

    Writer._store = forgetful  # type: ignore[method-assign]


def leaves_presence_behind() -> None:
    def silent(self: Presence, userid: int) -> None:
        pass

    Presence.left = silent  # type: ignore[method-assign]


WAYS: dict[str, Callable[[], None]] = {
    way.__name__: way
    for way in (
        acknowledges_before_the_commit,
        forgets_a_delivery,
        swaps_two_deliveries,
        forgets_keys_after_a_while,
        leaves_presence_behind,
    )
}

if __name__ == "__main__":
    WAYS[sys.argv[1]]()
    sys.exit(__main__.main(sys.argv[2:]))
