"""A node that runs: its parts are started, clients are accepted, and a stop has a fixed order.

    parts: router, look, bus, receipts, writer, presence
    └── connections: a task each, and within it a nursery while there is something to do
        └── accept loops

From the outside in each waits for what is inside it to end: nobody new, everybody answered and told, connections closed,
presence cleared.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from functools import partial

import attrs
import structlog
import trio

from trio_chat.assembly import Foundation, assemble
from trio_chat.config import NO_LIMIT, Settings
from trio_chat.connection import Connection
from trio_chat.doorkeeper import turn_away
from trio_chat.errors import ShuttingDown, StartupError, Unavailable
from trio_chat.health import Health
from trio_chat.metrics import watch_loop
from trio_chat.node import Node
from trio_chat.pages import static_pages
from trio_chat.transport.contract import End, Transport
from trio_chat.transport.http import Page, Site
from trio_chat.wire.messages import Kind, encode

__all__ = ["Server", "open_node"]

log = structlog.get_logger(__name__)

#: How long the last words to the database may take after a stop that nobody waits for, in seconds.
_LAST_WORDS = 2.0

#: At so many connections it is looked for a sign of life before others have their turn.
_CHECKED_AT_ONCE = 50


class Server:
    """A running server. Made by `open_server`."""

    def __init__(self, node: Node, foundation: Foundation) -> None:
        self.node = node
        self.addresses = foundation.addresses
        #: Where the data is, for people: a path or a URL without a password.
        self.database = foundation.place
        #: The web client's addresses, as a browser takes them.
        self.pages = foundation.pages
        self._certificate = foundation.certificate
        self._accepting = trio.CancelScope()
        self._connections = trio.CancelScope()

    def reload(self) -> None:
        """Read the certificate and its key again: new connections get it, those that there are go on as they are.

        Where the files are of no use it is logged, and the former ones stay. Without TLS there is nothing to reload.
        """
        if self._certificate is None:
            log.info("there is nothing to reload: no certificate is set")
        else:
            self._certificate.reload()

    async def drain(self) -> None:
        """Stop gracefully, within the settings' `drain` seconds; the server is then closed.

        No new connections; every message received so far is stored and answered; what is queued is sent; everybody is
        told `shutting_down`. Cancelling it ends the server at once.
        """
        node = self.node
        node.draining = True
        self._accepting.cancel()
        log.info("draining", connections=len(node.connections), at_most_seconds=node.settings.drain)
        with trio.move_on_after(node.settings.drain):
            await node.writer.wait_idle()
            farewell = encode({"msgid": int(Kind.REPLY), **ShuttingDown().fields()})
            async with trio.open_nursery() as nursery:
                for connection in list(node.connections):
                    connection.send(farewell)
                    nursery.start_soon(self._say_goodbye, connection)
        self._connections.cancel()

    async def _say_goodbye(self, connection: Connection) -> None:
        await connection.wait_drained(0)
        connection.close(End.DRAINING)
        await connection.wait_ended()

    async def serve(self, foundation: Foundation, *, task_status: trio.TaskStatus[None]) -> None:
        """Accept and serve connections until drained or cancelled. `open_node` runs it."""
        with self._connections:
            async with trio.open_nursery() as nursery:
                for carrier in foundation.carriers:
                    nursery.start_soon(carrier)
                nursery.start_soon(self._check_alive)
                nursery.start_soon(self.node.doorkeeper.run)
                nursery.start_soon(self.node.departures.run)
                if foundation.webs:
                    nursery.start_soon(watch_loop, self.node)
                for web in foundation.webs:
                    nursery.start_soon(web, self._site(foundation.metrics), partial(self._accept, nursery))
                with self._accepting:
                    async with trio.open_nursery() as accepting:
                        for source in foundation.sources:
                            accepting.start_soon(source, partial(self._accept, nursery))
                        task_status.started()
                await trio.sleep_forever()

    def _site(self, metrics: Callable[[Node], Page]) -> Site:
        settings = self.node.settings
        health = Health(self.node)
        pages = static_pages() | {
            "/livez": health.live,
            "/readyz": health.ready,
            "/metrics": metrics(self.node),
        }
        return Site(
            pages=pages,
            websocket="/ws",
            origins=settings.origins,
            closed=lambda: self.node.draining,
            frame=settings.limits.frame,
            compression=settings.ws_compression,
        )

    def _accept(self, nursery: trio.Nursery, transport: Transport) -> None:
        node = self.node
        connection = Connection(node, transport)
        refusal = node.doorkeeper.make_room() or node.doorkeeper.locate(connection)
        if refusal is not None:
            node.counters.turned_away += 1
            nursery.start_soon(turn_away, transport, refusal)
            return
        node.doorkeeper.enter(connection)
        node.connections[connection] = None
        node.counters.opened[transport.kind] += 1
        node.counters.connections[transport.kind] += 1
        # The name, as the one that Trio would make is a string of each task's own.
        nursery.start_soon(connection.run, name="connection")

    async def _check_alive(self) -> None:
        while True:
            await trio.sleep(self.node.settings.heartbeat / 4)
            now = trio.current_time()
            for number, connection in enumerate(list(self.node.connections), 1):
                connection.check_alive(now)
                if number % _CHECKED_AT_ONCE == 0:
                    # Very many may be pinged, or closed: the others do not wait for all of them.
                    self.node.router.flush()
                    await trio.lowlevel.checkpoint()
            self.node.router.flush()


@asynccontextmanager
async def open_node(settings: Settings, foundation: Foundation) -> AsyncIterator[Server]:
    """Run a node inside the block, on a foundation that its caller has laid and takes away; else as `open_server`."""
    failure: BaseException | None = None
    if lifted := sorted(name for name, value in attrs.asdict(settings.limits).items() if value >= NO_LIMIT):
        log.warning("limits are off: only on a private machine", limits=lifted)
    bus = foundation.bus
    node = assemble(settings, foundation)
    server = Server(node, foundation)
    async with trio.open_nursery() as parts:
        try:
            await parts.start(node.router.run)
            await parts.start(node.look.run)
            await parts.start(bus.run, node.hints)
            await parts.start(node.relationships.run)
            await parts.start(node.receipts.run)
            await parts.start(node.endings.run)
            await parts.start(node.deletion.run)
            await parts.start(node.writer.run)
            await node.presence.start()
            await parts.start(node.presence.run)
            await parts.start(node.admission.run)
            async with trio.open_nursery() as serving:
                await serving.start(server.serve, foundation)
                listening = [str(address) for address in server.addresses]
                log.info("ready", node=node.name, listening=listening, pages=server.pages)
                try:
                    yield server
                except BaseException as error:  # noqa: BLE001
                    # Raised again below, so that it reaches the caller as it is and not in an exception group.
                    failure = error
                if failure is None and not node.draining:
                    await server.drain()
                serving.cancel_scope.cancel()
        except StartupError as error:
            failure = error
        except Unavailable:
            failure = StartupError(f"the database {server.database} does not answer")
        finally:
            with trio.move_on_after(_LAST_WORDS, shield=True):
                try:
                    await node.presence.stop()
                except Unavailable:
                    log.warning("the database is away; the other nodes will clear this one's presence")
            parts.cancel_scope.cancel()
    if failure is not None:
        raise failure
