"""A node put together: what it stands on, and which of its parts knows which."""

from __future__ import annotations

import secrets
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path
from urllib.parse import unquote, urlsplit

import attrs
import trio

from trio_chat import __version__
from trio_chat.bus.contract import Bus
from trio_chat.channels import Channels
from trio_chat.config import NO_LIMIT, Address, Limits, Settings
from trio_chat.connection import Connection
from trio_chat.counters import Counters
from trio_chat.doorkeeper import Doorkeeper, nowhere
from trio_chat.doubts import Doubts
from trio_chat.hints import Hints
from trio_chat.look import Look
from trio_chat.meter import Rates
from trio_chat.metrics import metrics_page
from trio_chat.node import Node
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
from trio_chat.services.login import LoginSteps
from trio_chat.services.login_reads import LoginReads
from trio_chat.services.logins import LoginService
from trio_chat.services.passwords import PasswordHasher
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
from trio_chat.store.presence import PresenceTable
from trio_chat.store.relations import Relations
from trio_chat.store.search import MessageSearch
from trio_chat.transport.certificate import Certificate
from trio_chat.transport.contract import Transport
from trio_chat.transport.http import Page, Site
from trio_chat.writer import Writer

__all__ = ["Foundation", "Source", "assemble", "describe"]

#: Gives each client that connects to its argument, which never blocks, until cancelled.
Source = Callable[[Callable[[Transport], None]], Awaitable[None]]


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


def assemble(settings: Settings, foundation: Foundation) -> Node:
    """All parts of a node; none of them runs yet."""
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
    authorization = Authorization(groups, router)
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
    group_service = GroupService(groups, authorization, router, hints, receipts, members=limits.members)
    presence = Presence(
        PresenceTable(database),
        router,
        hints,
        receipts,
        name=name,
        bus=describe(settings.bus),
        alone=foundation.alone,
        lease=settings.lease,
    )
    steps = LoginSteps(
        accounts,
        presence,
        LoginReads(account_table, groups, relations, messages),
        messages,
        router,
        receipts,
        group_service,
        endings,
        limits.members,
        limits.frame,
    )
    return Node(
        settings=settings,
        name=name,
        server_name=f"trio-chat/{__version__}",
        messages=messages,
        accounts=accounts,
        logins=logins,
        endings=endings,
        export=ExportService(Exports(database), logins, chat),
        deletion=Deletion(Deletions(database), accounts),
        admission=Admission(limits.logins, steps.announce, steps.admit),
        authorization=authorization,
        chat=chat,
        group_service=group_service,
        relationships=Relationships(relations, router, hints, doubts),
        search=SearchService(MessageSearch(database), chat, window=limits.search),
        router=router,
        look=look,
        hints=hints,
        receipts=receipts,
        presence=presence,
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


def describe(url: str) -> str:
    """A URL as it may be shown: without user and password."""
    if url.startswith("sqlite:///"):
        return str(Path(unquote(url.removeprefix("sqlite:///"))).resolve())
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}" if parts.netloc else url
