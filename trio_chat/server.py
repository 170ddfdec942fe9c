"""The composition root: the only place that names concrete stores, buses and transports.

    listeners and database (its pool or threads)
    └── the node (`serving.py`): its parts, connections, accept loops

What a stop leaves last is closed here: bus and database.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager, nullcontext
from functools import partial
from pathlib import Path
from urllib.parse import unquote

import attrs
import structlog

from trio_chat.assembly import Foundation, describe
from trio_chat.bus.contract import Bus
from trio_chat.bus.local import LocalBus
from trio_chat.bus.redis import RedisBus
from trio_chat.config import Address, Settings, default_database
from trio_chat.counters import Counters
from trio_chat.doorkeeper import nowhere
from trio_chat.errors import StartupError, Unavailable
from trio_chat.metrics import metrics_page
from trio_chat.node import Node
from trio_chat.services.passwords import Passwords
from trio_chat.serving import Server, open_node
from trio_chat.store.contract import Database
from trio_chat.store.mysql import MySQL
from trio_chat.store.names import Names
from trio_chat.store.schema import migrate
from trio_chat.store.sqlite import SQLite
from trio_chat.transport.certificate import Certificate
from trio_chat.transport.entrance import Entrance, accept_clients
from trio_chat.transport.http import Page, serve_http
from trio_chat.transport.poller import Poller
from trio_chat.transport.proxy import TrustedProxies
from trio_chat.transport.tcp import Turn, listen

__all__ = ["Shared", "listening", "open_beside", "open_server"]

log = structlog.get_logger(__name__)


@attrs.frozen(kw_only=True)
class Shared:
    """What a server shares with other processes that serve the same addresses.

    Their listeners, its turn at them, how many connections the others have, what it tells at /metrics (one of them is
    asked, and all of them are meant), and how many `processes` they are.
    """

    tcp: Sequence[socket.socket]
    http: Sequence[socket.socket]
    turn: Turn
    elsewhere: Callable[[], int]
    metrics: Callable[[Node], Page]
    processes: int


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
