"""Two nodes that hear nothing of each other: on one database, without a bus between them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from functools import partial
from pathlib import Path

from trio_chat import Address, Server, Settings
from trio_chat.assembly import Foundation
from trio_chat.bus.local import LocalBus
from trio_chat.services.passwords import Passwords
from trio_chat.serving import open_node
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite
from trio_chat.transport.poller import Poller
from trio_chat.transport.tcp import accept_loop, listen

__all__ = ["deaf_nodes"]


@asynccontextmanager
async def deaf_nodes(directory: Path, *, sweep: float) -> AsyncIterator[list[Server]]:
    """They look at the database every `sweep` seconds."""
    settings = Settings(bus="redis://nowhere", sweep=sweep)
    async with SQLite.open(directory / "chat.db") as database, AsyncExitStack() as stack:
        await migrate(database)
        servers = []
        for name in ("one", "two"):
            (listener,) = listen(Address("127.0.0.1", 0))
            poller = Poller()
            foundation = Foundation(
                name=name,
                database=database,
                place="here",
                alone=False,
                bus=LocalBus(),
                passwords=Passwords(10),
                sources=[partial(accept_loop, listener, poller)],
                addresses=[Address(*listener.getsockname())],
                carriers=[poller.run],
            )
            servers.append(await stack.enter_async_context(open_node(settings, foundation)))
        yield servers
