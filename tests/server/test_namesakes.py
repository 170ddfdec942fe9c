"""Two nodes of one name that are alive at once: what a start prevents, and a node that was stopped can bring about."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from functools import partial
from pathlib import Path

import attrs
import structlog
import trio

from tests.wire import log_in, register
from trio_chat import Address, Settings
from trio_chat.assembly import Foundation
from trio_chat.bus.local import LocalBus, LocalHub
from trio_chat.services.passwords import Passwords
from trio_chat.serving import Server, open_node
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import accept_loop, listen
from trio_chat.wire.messages import Kind


@asynccontextmanager
async def open_namesake(settings: Settings, database: SQLite, hub: LocalHub) -> AsyncIterator[Server]:
    """A node that looks at nobody when it starts: it believes to be alone."""
    (listener,) = listen(Address("127.0.0.1", 0))
    poller = Poller()
    foundation = Foundation(
        name="namesake",
        database=database,
        place="here",
        alone=True,
        bus=LocalBus(hub),
        passwords=Passwords(10),
        sources=[partial(accept_loop, listener, poller)],
        addresses=[Address(*listener.getsockname())],
        carriers=[poller.run],
    )
    with listener:
        async with open_node(settings, foundation) as server:
            yield server


async def test_namesakes_hear_each_other_and_say_so(
    tmp_path: Path, settings: Settings, logs: list[structlog.typing.EventDict]
) -> None:
    hub = LocalHub()
    # Only the bus can bring what the test waits for: nobody looks into the database.
    settings = attrs.evolve(settings, lease=1, sweep=1000, bus="redis://a.bus.that.they.share")
    async with SQLite.open(tmp_path / "namesakes.db") as database:
        await migrate(database)
        async with open_namesake(settings, database, hub) as one, open_namesake(settings, database, hub) as two:
            alice, bob = await register(one.addresses[0], "alice"), await register(two.addresses[0], "bob")
            async with log_in(one.addresses[0], alice) as a, log_in(two.addresses[0], bob) as b:
                await b.ok(Kind.DIRECT, toid=alice, msg="from the other")
                assert [m["msg"] for m in await a.messages(1)] == ["from the other"]
                with trio.fail_after(10):
                    while sum(entry["event"] == "another node has this one's name" for entry in logs) < 2:
                        await trio.sleep(0.01)
                # The one that was cleared away by the other's start has noted its users again.
                assert await one.node.presence._table.users_of(one.node.presence._node) == {alice}
