"""Searching one's own messages."""

from __future__ import annotations

from typing import Any

import trio

from trio_chat.errors import BadRequest
from trio_chat.router import LocalAccount
from trio_chat.services.chat import ChatService
from trio_chat.store.search import MessageSearch
from trio_chat.wire.messages import Search

__all__ = ["SearchService"]

_LIMIT = 50
#: Searches of this node at a time: they read much, and whoever sends a message must not wait for them.
_AT_ONCE = 2


class SearchService:
    """All may raise `Unavailable`; cancelling is safe. A search looks at the latest `window` messages of its user."""

    def __init__(self, messages: MessageSearch, chat: ChatService, *, window: int) -> None:
        self._messages = messages
        self._chat = chat
        self._window = window
        self._turns = trio.CapacityLimiter(_AT_ONCE)

    async def search(self, account: LocalAccount, request: Search) -> dict[str, Any]:
        """A page of results, the newest first, with `more` where there are others behind it.

        Raises `BadRequest`.
        """
        words = request.query.split()
        if not words:
            raise BadRequest("query: has no word", field="query")
        before = None
        if request.before is not None:
            before = (request.before.ts, request.before.conv, request.before.seq)
        limit = min(request.limit, _LIMIT)
        async with self._turns:
            found = await self._messages.search(
                account.id, list(dict.fromkeys(words)), request.conv, before, limit + 1, self._window
            )
        kept = self._chat.that_fit(found[:limit])
        return {"messages": [message.fields() for message in kept], "more": len(kept) < len(found)}
