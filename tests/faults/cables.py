"""Ways that can be cut without a word: networks of their own where the machine permits them, else relays."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack, asynccontextmanager
from pathlib import Path

import attrs
import pytest
import trio

from trio_chat import Address, Settings
from trio_chat.verify.programs.mariadb import MariaDB
from trio_chat.verify.programs.network import Network, why_not
from trio_chat.verify.programs.node import ChatNode
from trio_chat.verify.programs.redis import Redis
from trio_chat.verify.programs.relay import open_relay

__all__ = ["CutOff", "both_ways", "cut_off_node"]

#: For tests that hold either way; the relay works on every machine.
both_ways = pytest.mark.parametrize(
    "way", [pytest.param("cable", marks=pytest.mark.skipif(bool(why_not()), reason=why_not())), "relay"]
)


@attrs.frozen
class CutOff:
    """A node that clients reach at all times, and that can be cut off from the database and Redis."""

    node: ChatNode
    cut: Callable[[], None]
    heal: Callable[[], None]


@asynccontextmanager
async def cut_off_node(
    way: str, directory: Path, name: str, settings: Settings, mariadb: MariaDB, redis: Redis
) -> AsyncIterator[CutOff]:
    async with AsyncExitStack() as stack:
        network = stack.enter_context(Network()) if way == "cable" else None
        host = "127.0.0.1" if network is None else network.cable.outside
        # In a network of its own it cannot reach this machine's loopback address: there too by relays.
        database = await stack.enter_async_context(open_relay(Address("127.0.0.1", mariadb.port), host))
        bus = await stack.enter_async_context(open_relay(Address("127.0.0.1", redis.port), host))
        through = attrs.evolve(
            settings,
            database=settings.database.replace(f"127.0.0.1:{mariadb.port}", str(database.address)),
            bus=settings.bus.replace(f"127.0.0.1:{redis.port}", str(bus.address)),
        )
        entrance = None if network is None else network.add_cable()
        node = ChatNode(directory, name, through, network=network, entrance=entrance)
        stack.push_async_callback(trio.to_thread.run_sync, node.stop)  # it says good-bye through the relays
        node.launch()
        await trio.to_thread.run_sync(node.wait_ready)

        def cut() -> None:
            if network is not None:
                network.cable.cut()
            else:
                database.cut()
                bus.cut()

        def heal() -> None:
            if network is not None:
                network.cable.heal()
            else:
                database.heal()
                bus.heal()

        yield CutOff(node, cut, heal)
