"""One running server's parts, as its connections use them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import attrs

from trio_chat.departures import Departures

if TYPE_CHECKING:
    from trio_chat.config import Settings
    from trio_chat.connection import Connection
    from trio_chat.counters import Counters
    from trio_chat.doorkeeper import Doorkeeper
    from trio_chat.hints import Hints
    from trio_chat.look import Look
    from trio_chat.meter import Rates
    from trio_chat.router import Router
    from trio_chat.services.accounts import AccountService
    from trio_chat.services.admission import Admission
    from trio_chat.services.authorization import Authorization
    from trio_chat.services.chat import ChatService
    from trio_chat.services.deletion import Deletion
    from trio_chat.services.endings import Endings
    from trio_chat.services.export import ExportService
    from trio_chat.services.groups import GroupService
    from trio_chat.services.login import Attempt
    from trio_chat.services.logins import LoginService
    from trio_chat.services.presence import Presence
    from trio_chat.services.receipts import Receipts
    from trio_chat.services.relationships import Relationships
    from trio_chat.services.search import SearchService
    from trio_chat.store.log import MessageLog
    from trio_chat.transport.certificate import Certificate
    from trio_chat.writer import Writer

__all__ = ["Node"]


@attrs.define(eq=False)
class Node:
    """Made by `assembly.py`. While `draining`, requests that ask something of the server are refused.

    `connections` has no values: unlike a set's, a dict's order is the same in every run.
    """

    settings: Settings
    name: str
    server_name: str
    messages: MessageLog
    accounts: AccountService
    logins: LoginService
    endings: Endings
    export: ExportService
    deletion: Deletion
    admission: Admission[Attempt]
    authorization: Authorization
    chat: ChatService
    group_service: GroupService
    relationships: Relationships
    search: SearchService
    router: Router
    look: Look
    hints: Hints
    receipts: Receipts
    presence: Presence
    writer: Writer
    counters: Counters
    doorkeeper: Doorkeeper
    rates: Rates | None
    connections: dict[Connection, None]
    departures: Departures = attrs.field(factory=Departures)
    certificate: Certificate | None = None
    draining: bool = False
