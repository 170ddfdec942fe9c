"""The composition root: the only place that names concrete stores, buses and transports, and that nests the nurseries.

    database (its pool or threads)
    └── parts: bus, router, receipts, writer, presence
        └── connections: one nursery each
            └── accept loops

From the outside in each waits for what is inside it to end, so a stop has a fixed order: nobody new, everybody
answered and told, connections closed, presence cleared, bus and database closed.
"""

from __future__ import annotations

import ipaddress
import secrets
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
import structlog
import trio

from trio_chat import __version__
from trio_chat.bus.contract import Bus
from trio_chat.bus.local import LocalBus
from trio_chat.bus.redis import RedisBus
from trio_chat.channels import Channels
from trio_chat.config import NO_LIMIT, Address, Limits, Settings, default_database
from trio_chat.connection import Connection
from trio_chat.counters import Counters
from trio_chat.doorkeeper import Doorkeeper, nowhere, turn_away
from trio_chat.doubts import Doubts
from trio_chat.errors import ShuttingDown, StartupError, Unavailable
from trio_chat.health import Health
from trio_chat.hints import Hints
from trio_chat.look import Look
from trio_chat.meter import Rates
from trio_chat.metrics import metrics_page, watch_loop
from trio_chat.node import Node
from trio_chat.pages import static_pages
from trio_chat.router import Router
from trio_chat.services.accounts import AccountService
from trio_chat.services.admission import Admission
from trio_chat.services.authorization import Authorization
from trio_chat.services.chat import ChatService
from trio_chat.services.deletion import Deletion
from trio_chat.services.endings import Endings
from trio_chat.services.export import ExportService
from trio_chat.services.groups import GroupService
from trio_chat.services.guessing import LoginGuard
from trio_chat.services.login_reads import LoginReads
from trio_chat.services.logins import LoginService
from trio_chat.services.passwords import PasswordHasher, Passwords
from trio_chat.services.presence import Presence
from trio_chat.services.receipts import Receipts
from trio_chat.services.relationships import Relationships
from trio_chat.services.search import SearchService
from trio_chat.store.accounts import Accounts
from trio_chat.store.append import Appender
from trio_chat.store.clock import DatabaseClock
from trio_chat.store.contract import Database
from trio_chat.store.deletion import Deletions
from trio_chat.store.export import Exports
from trio_chat.store.groups import Groups
from trio_chat.store.guesses import Guesses
from trio_chat.store.log import MessageLog
from trio_chat.store.logins import Logins
from trio_chat.store.mysql import MySQL
from trio_chat.store.names import Names
from trio_chat.store.presence import PresenceTable
from trio_chat.store.relations import Relations
from trio_chat.store.schema import migrate
from trio_chat.store.search import MessageSearch
from trio_chat.store.sqlite import SQLite
from trio_chat.transport.certificate import Certificate
from trio_chat.transport.contract import End, Transport
from trio_chat.transport.entrance import Entrance, accept_clients
from trio_chat.transport.http import Page, Site, serve_http
from trio_chat.transport.poller import Poller
from trio_chat.transport.proxy import TrustedProxies
from trio_chat.transport.tcp import Turn, listen
from trio_chat.wire.messages import Kind, encode
from trio_chat.writer import Writer

__all__ = [
    "Foundation",
    "Server",
    "Shared",
    "Source",
    "describe",
    "listening",
    "open_beside",
    "open_node",
    "open_server",
]

log = structlog.get_logger(__name__)

#: How long the last words to the database may take after a stop that nobody waits for, in seconds.
_LAST_WORDS = 2.0

#: At so many connections it is looked for a sign of life before others have their turn.
_CHECKED_AT_ONCE = 50

#: Gives each client that connects to its argument, which never blocks, until cancelled.
Source = Callable[[Callable[[Transport], None]], Awaitable[None]]


@attrs.frozen(kw_only=True)
class Shared:
    """What a server shares with other processes that serve the same addresses.

    Their listeners, its turn at them, how many connections the others have, what it tells at /metrics (one of them is asked, and all of them are meant), and how
    many `processes` they are.
    """

    tcp: Sequence[socket.socket]
    http: Sequence[socket.socket]
    turn: Turn
    elsewhere: Callable[[], int]
    metrics: Callable[[Node], Page]
    processes: int


@attrs.frozen(kw_only=True)
class Foundation:
    """What a node stands on.

    `name` is the node's; `place` says, for people, where the `database` is. `alone` says that the database serves no
    other node; `addresses` are those that the `sources` listen on; `carriers` are what the connections' transports need
    to have running as long as there are connections; `elsewhere` is how many connections there are that count together
    with the node's own.
    """

    name: str
    database: Database
    place: str
    alone: bool
    bus: Bus
    passwords: PasswordHasher
    sources: Sequence[Source]
    addresses: list[Address] = attrs.field(factory=list)
    carriers: Sequence[Callable[[], Awaitable[None]]] = ()
    webs: Sequence[Callable[[Site, Callable[[Transport], None]], Awaitable[None]]] = ()
    pages: list[str] = attrs.field(factory=list)
    metrics: Callable[[Node], Page] = metrics_page
    counters: Counters = attrs.field(factory=Counters)
    elsewhere: Callable[[], int] = nowhere
    certificate: Certificate | None = None


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
        nursery.start_soon(connection.run)

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
async def open_server(settings: Settings | None = None, shared: Shared | None = None) -> AsyncIterator[Server]:
    """Run a chat server inside the block, in the caller's Trio program; nothing of it is left behind afterwards.

    Ready when the block begins. Leaving the block drains the server, unless that was done; leaving it by an exception
    or by cancellation ends it at once. Raises `StartupError` where the server cannot start. With `shared` it is one
    of several processes that serve the same addresses; `trio_chat.workers` starts those.
    """
    settings = settings or Settings()
    if settings.workers > 1:
        raise StartupError("workers are processes: the program trio-chat starts them, a server inside a program is one")
    certificate = _certificate(settings)
    with listening(settings) if shared is None else nullcontext((shared.tcp, shared.http)) as (listeners, http):
        addresses = [Address(*sock.getsockname()[:2]) for sock in listeners]
        url = settings.database or default_database()
        async with _open_database(url, settings) as database:
            try:
                await migrate(database)
                if claimed := await Names(database).claim_all():
                    log.info("claimed names", count=claimed)
            except Unavailable as error:
                raise StartupError(
                    f"the database {describe(url)} cannot be used: {error.__cause__ or error}"
                ) from error
            poller = Poller()
            turn = shared.turn if shared else None
            counters = Counters()
            entrance = Entrance(
                trusted=TrustedProxies(settings.trusted_proxies),
                certificate=certificate,
                patience=settings.limits.handshake_seconds,
                room=settings.limits.handshakes,
                failed=counters.not_entered,
            )
            foundation = Foundation(
                name=settings.node or f"{socket.gethostname()}:{addresses[0].port}",
                database=database,
                place=describe(url),
                alone=isinstance(database, SQLite),
                bus=_make_bus(settings.bus),
                passwords=Passwords(settings.limits.password_checks, shared.processes if shared else 1),
                sources=[partial(accept_clients, listener, poller, entrance, turn=turn) for listener in listeners],
                addresses=addresses,
                carriers=[poller.run],
                webs=[partial(serve_http, http, poller, entrance, turn=turn)] if http else [],
                pages=[_url(sock, "https" if certificate else "http") for sock in http],
                metrics=shared.metrics if shared else metrics_page,
                elsewhere=shared.elsewhere if shared else nowhere,
                counters=counters,
                certificate=certificate,
            )
            async with open_node(settings, foundation) as server:
                yield server


@contextmanager
def listening(settings: Settings) -> Iterator[tuple[Sequence[socket.socket], Sequence[socket.socket]]]:
    """Listen inside the block as the settings say: for chat, and for the page. Raises `StartupError`."""
    chat: list[socket.socket] = []
    pages: list[socket.socket] = []
    try:
        for address in settings.tcp:
            chat += listen(address)
        if settings.http is not None:
            pages += listen(settings.http, "--http")
        yield chat, pages
    finally:
        for sock in (*chat, *pages):
            sock.close()


@asynccontextmanager
async def open_node(settings: Settings, foundation: Foundation) -> AsyncIterator[Server]:
    """Run a node inside the block, on a foundation that its caller has laid and takes away; else as `open_server`."""
    failure: BaseException | None = None
    if lifted := sorted(name for name, value in attrs.asdict(settings.limits).items() if value >= NO_LIMIT):
        log.warning("limits are off: only on a private machine", limits=lifted)
    bus = foundation.bus
    node = _build(settings, foundation)
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


def _build(settings: Settings, foundation: Foundation) -> Node:
    limits, name, database = settings.limits, foundation.name, foundation.database
    clock = DatabaseClock(trio.current_time)
    messages = MessageLog(database, clock)
    groups = Groups(database, most_groups=limits.groups, most_members=limits.group_members)
    receipts = Receipts(messages)
    counters = foundation.counters
    connections: dict[Connection, None] = {}
    # Not the node's name alone: what another one of that name says is not one's own.
    life = f"{name} {secrets.token_hex(4)}"
    channels, doubts = Channels(foundation.bus), Doubts()
    router = Router(messages, foundation.bus, channels, receipts)
    look = Look(router, doubts, messages, settings.sweep)
    hints = Hints(router, look, doubts, foundation.bus, channels, life, counters)
    receipts.tell = hints.publish_delivered
    guard = LoginGuard(
        Guesses(database),
        guesses=limits.guesses,
        place_guesses=limits.address_guesses,
        account_guesses=limits.account_guesses,
        longest=limits.guess_delay,
        waiting=limits.password_checks,
    )
    account_table = Accounts(database, most_friends=limits.friends)
    relations = Relations(database)
    accounts = AccountService(
        account_table,
        foundation.passwords,
        token_days=settings.token_days,
        guard=guard,
        registration=settings.registration,
        shortest=settings.password_length,
    )
    logins = LoginService(Logins(database), accounts)
    endings = Endings(Logins(database), router, hints, settings.sweep)
    authorization = Authorization(groups, messages, router)
    chat = ChatService(
        messages,
        accounts,
        authorization,
        router,
        hints,
        receipts,
        message_limit=limits.message,
        history_limit=limits.history,
        history_bytes=limits.frame,
    )
    endings.gone = chat.forget_user
    return Node(
        settings=settings,
        name=name,
        server_name=f"trio-chat/{__version__}",
        messages=messages,
        accounts=accounts,
        logins=logins,
        login_reads=LoginReads(account_table, groups, relations, messages),
        endings=endings,
        export=ExportService(Exports(database), logins, chat),
        deletion=Deletion(Deletions(database), accounts),
        admission=Admission(limits.logins),
        authorization=authorization,
        chat=chat,
        group_service=GroupService(groups, authorization, router, hints, receipts, members=limits.members),
        relationships=Relationships(relations, messages, router, hints, doubts),
        search=SearchService(MessageSearch(database), chat, window=limits.search),
        router=router,
        look=look,
        hints=hints,
        receipts=receipts,
        presence=Presence(
            PresenceTable(database),
            router,
            hints,
            receipts,
            name=name,
            bus=describe(settings.bus),
            alone=foundation.alone,
            lease=settings.lease,
        ),
        writer=Writer(
            Appender(database, clock),
            router,
            hints,
            counters,
            batch=limits.batch,
            limit=limits.queue,
            patience=settings.store_timeout,
        ),
        counters=counters,
        certificate=foundation.certificate,
        doorkeeper=Doorkeeper(limits, counters, connections, foundation.elsewhere),
        rates=_rates(limits),
        connections=connections,
    )


def _rates(limits: Limits) -> Rates | None:
    """None where nothing is limited."""
    frames, size, deliveries = limits.frames_per_second, limits.bytes_per_second, limits.deliveries_per_second
    if min(frames, size, deliveries) >= NO_LIMIT:
        return None
    return Rates.per_second(frames=frames, size=size, deliveries=deliveries, burst=limits.burst)


@asynccontextmanager
async def open_beside(settings: Settings) -> AsyncIterator[Database]:
    """The database, for a command of the operator; servers may be running on it. Raises `StartupError`."""
    url = settings.database or default_database()
    try:
        async with _open_database(url, settings, beside=True) as database:
            await migrate(database)
            yield database
    except Unavailable as error:
        raise StartupError(f"the database {describe(url)} cannot be used: {error.__cause__ or error}") from error


@asynccontextmanager
async def _open_database(url: str, settings: Settings, *, beside: bool = False) -> AsyncIterator[SQLite | MySQL]:
    if url.startswith("sqlite:///"):
        path = Path(unquote(url.removeprefix("sqlite:///")))
        async with SQLite.open(path, patience=settings.store_timeout, beside=beside) as sqlite:
            yield sqlite
    else:
        opening = MySQL.from_url(url, timeout=settings.store_timeout, pool=settings.store_connections)
        async with opening.open() as mysql:
            yield mysql


def _certificate(settings: Settings) -> Certificate | None:
    if settings.tls_cert is None:
        if settings.tls_key is not None:
            raise StartupError("--tls-key needs --tls-cert")
        return None
    return Certificate(settings.tls_cert, settings.tls_key or settings.tls_cert)


def _make_bus(url: str) -> Bus:
    return LocalBus() if url.startswith("local:") else RedisBus(url)


def _url(listener: socket.socket, scheme: str) -> str:
    """Where a browser on this machine finds the web client."""
    host, port = listener.getsockname()[:2]
    return f"{scheme}://{Address('localhost' if ipaddress.ip_address(host).is_unspecified else host, port)}/"


def describe(url: str) -> str:
    """A URL as it may be shown: without user and password."""
    if url.startswith("sqlite:///"):
        return str(Path(unquote(url.removeprefix("sqlite:///"))).resolve())
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else url
