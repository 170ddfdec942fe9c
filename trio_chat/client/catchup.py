"""Asking the server for what an inbox lacks: pure.

HISTORY fills the holes. CONVERSATIONS, after each reconnect, tells what another device of the account has received
meanwhile: the server does not deliver that any more, so it is a hole too.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from trio_chat.client.backoff import PUT_OFF, Backoff
from trio_chat.client.inbox import Fill, Inbox
from trio_chat.client.incoming import ConversationList, HistoryPage, convert
from trio_chat.client.outgoing import Request
from trio_chat.errors import RequestError
from trio_chat.wire.messages import Kind

__all__ = ["CatchUp"]


class CatchUp:
    """The requests that an inbox needs, and what their answers mean to it."""

    def __init__(self, inbox: Inbox, backoff: Backoff) -> None:
        self._inbox = inbox
        self._backoff = backoff
        self._not_before = 0.0
        self._compare = False
        self._comparison: Request | None = None
        self._fills: dict[Request, Fill] = {}

    @property
    def deadline(self) -> float | None:
        """When `requests` will have something, or `None`."""
        return self._not_before if self._compare or self._inbox.wants_fill else None

    def logged_in(self) -> None:
        """The session begins (again)."""
        self._not_before = 0.0
        self._compare = self._inbox.has_positions

    def requests(self, now: float) -> Iterator[Request]:
        """What to send now."""
        if now < self._not_before:
            return
        if self._compare:
            self._compare = False
            self._comparison = Request(Kind.CONVERSATIONS, {})
            yield self._comparison
        while (fill := self._inbox.next_fill()) is not None:
            request = Request(Kind.HISTORY, {"conv": fill.conv, "after": fill.after, "limit": fill.limit})
            self._fills[request] = fill
            yield request

    def answered(
        self, request: Request, error: RequestError | None, fields: dict[str, Any], me: int, now: float
    ) -> None:
        """The answer to a HISTORY or CONVERSATIONS; those that the application asked for are left alone."""
        fill = self._fills.pop(request, None)
        if fill is not None:
            if error is None:
                self._inbox.filled(fill, convert(fields, HistoryPage).page(me).messages)
            else:
                self._inbox.fill_failed(fill, for_good=not isinstance(error, PUT_OFF))
        elif request is self._comparison:
            self._comparison = None
            self._compare = isinstance(error, PUT_OFF)
            if error is None:
                for entry in convert(fields, ConversationList).conversations:
                    self._inbox.received_elsewhere(entry.conv, entry.received_seq)
        else:
            return
        if isinstance(error, PUT_OFF):
            self._not_before = now + self._backoff.after(error)

    def lost(self) -> None:
        """The connection broke: nothing that was asked for will be answered."""
        for fill in self._fills.values():
            self._inbox.fill_failed(fill, for_good=False)
        self._fills.clear()
        self._compare, self._comparison = False, None
