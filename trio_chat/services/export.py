"""Handing out all that there is of an account, in pages that begin where the one before ended."""

from __future__ import annotations

from typing import Any

import trio

from trio_chat.services.chat import ChatService
from trio_chat.services.logins import LoginService
from trio_chat.store.export import Exports
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import ExportAfter

__all__ = ["ExportService"]

#: Pages that this node makes at a time: they read much, and whoever sends a message must not wait for them.
_AT_ONCE = 2
_PAGE = 500


class ExportService:
    """All may raise `Unavailable`; cancelling is safe. A page has as many messages as fit into one reply."""

    def __init__(self, exports: Exports, logins: LoginService, chat: ChatService) -> None:
        self._exports = exports
        self._logins = logins
        self._chat = chat
        self._turns = trio.CapacityLimiter(_AT_ONCE)

    async def page(self, userid: int, after: ExportAfter | None, current: str | None) -> dict[str, Any]:
        """The messages behind `after`, with `more` where there are others behind them; the first page has the rest too.

        `current` is the token that one asks with.
        """
        async with self._turns:
            fields: dict[str, Any] = {}
            if after is None:
                fields = await self._exports.profile(userid)
                fields["logins"] = await self._logins.of(userid, current)
            found = await self._messages(userid, after)
        kept = self._chat.that_fit(found[:_PAGE])
        return {**fields, "messages": [message.fields() for message in kept], "more": len(kept) < len(found)}

    async def _messages(self, userid: int, after: ExportAfter | None) -> list[Delivery]:
        """The next messages, one more than a page has if there are so many."""
        found: list[Delivery] = []
        for conv, whole in await self._exports.conversations(userid):
            if after is not None and conv < after.conv:
                continue
            seq = after.seq if after is not None and conv == after.conv else 0
            wanted = _PAGE + 1 - len(found)
            found += await self._exports.messages(conv, seq, wanted, None if whole else userid)
            if len(found) > _PAGE:
                break
        return found
