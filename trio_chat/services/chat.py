"""Conversations: sending, receiving, reading, looking back. Whether one may was asked before (authorization.py)."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

from trio_chat.errors import BadRequest, NoSuchUser, TooLarge
from trio_chat.hints import Hints
from trio_chat.router import LocalAccount, Router
from trio_chat.services.accounts import AccountService
from trio_chat.services.authorization import Authorization
from trio_chat.services.receipts import Receipts
from trio_chat.store.append import Draft
from trio_chat.store.log import MessageLog
from trio_chat.wire.conversation import direct_conv, group_conv
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Direct, Group, History

if TYPE_CHECKING:
    from trio_chat.connection import Connection

__all__ = ["ChatService"]

#: How many ids of existing users are remembered, so that a message to one of them asks the database nothing.
_KNOWN_USERS = 100_000


class ChatService:
    """All that await may raise `Unavailable`; cancelling is safe."""

    def __init__(
        self,
        messages: MessageLog,
        accounts: AccountService,
        authorization: Authorization,
        router: Router,
        hints: Hints,
        receipts: Receipts,
        *,
        message_limit: int,
        history_limit: int,
        history_bytes: int,
    ) -> None:
        self._log = messages
        self._accounts = accounts
        self._authorization = authorization
        self._router = router
        self._hints = hints
        self._receipts = receipts
        self._message_limit = message_limit
        self._history_limit = history_limit
        self._history_bytes = history_bytes
        self._known_users: set[int] = set()

    # -- sending ------------------------------------------------------------------------------------------------------

    def draft(self, account: LocalAccount, request: Direct | Group) -> Draft | None:
        """The message to store, or None where the database has to be asked first.

        Raises `BadRequest`, `TooLarge`, `Forbidden`.
        """
        text = request.msg
        if not text:
            raise BadRequest("msg: is empty", field="msg")
        # A character is at most four bytes: most texts need no count.
        if len(text) * 4 > self._message_limit and len(text.encode()) > self._message_limit:
            raise TooLarge(f"a message is at most {self._message_limit} bytes", limit="message")
        if isinstance(request, Direct):
            target = request.toid
            self._authorization.may_write(account, request)
            if target not in self._known_users and target not in self._router.accounts:
                return None
            conv = direct_conv(account.id, target)
        else:
            target = request.groupid
            if not self._authorization.may_write(account, request):
                return None
            conv = group_conv(target)
        return Draft(conv, account.id, account.name, target, text, request.time or _clock(), request.key)

    async def find_target(self, request: Direct | Group) -> None:
        """Ask the database for a user that was not heard of before; afterwards `draft` makes the message. Raises `NoSuchUser`."""
        if isinstance(request, Group):
            return
        if not await self._accounts.exists(request.toid):
            raise NoSuchUser
        if len(self._known_users) >= _KNOWN_USERS:
            self._known_users.clear()
        self._known_users.add(request.toid)

    def forget_user(self, userid: int) -> None:
        """This account is no more. Never blocks."""
        self._known_users.discard(userid)

    # -- receiving, reading, looking back -----------------------------------------------------------------------------

    def received(self, connection: Connection, account: LocalAccount, conv: str, seq: int) -> None:
        """The account has received a conversation up to `seq`, which never counts beyond what was delivered to it."""
        pending = account.pending.get(conv)
        head = self._router.head(conv)
        if pending is None or head is None:
            return
        position = min(seq, connection.lag.get(conv, head), head)
        if position <= pending:
            return
        if position >= head and position >= connection.lag.get(conv, position):
            del account.pending[conv]
        else:
            account.pending[conv] = position
        self._receipts.move(account.id, conv, position)

    async def read(self, account: LocalAccount, conv: str, seq: int) -> None:
        """The account's user has read a conversation up to `seq`; tells the others."""
        cursor = await self._log.cursor(account.id, conv)
        if cursor is None:
            return
        position = min(seq, cursor.last_seq)
        if position > cursor.seen:
            await self._log.mark_seen(account.id, conv, position)
            self._hints.publish_read(account.id, conv, position)

    async def history(self, request: History) -> dict[str, Any]:
        """A page of a conversation's log, rising, with `more` where the log goes on in this direction.

        Raises `BadRequest`.
        """
        if request.after is not None and request.before is not None:
            raise BadRequest("before: cannot go with after", field="before")
        limit = min(request.limit, self._history_limit)
        if request.after is not None:
            page = await self._log.after(request.conv, request.after, limit + 1)
            kept = self.that_fit(page[:limit])
        else:
            before = request.before if request.before is not None else 2**63 - 1
            page = await self._log.before(request.conv, before, limit + 1)
            kept = self.that_fit(page[::-1][:limit])[::-1]
        return {"messages": [message.fields() for message in kept], "more": len(kept) < len(page)}

    def that_fit(self, page: list[Delivery]) -> list[Delivery]:
        """The first of the page that are within the bytes of one reply; at least one."""
        size = 0
        for index, message in enumerate(page):
            size += len(message.modern()) + 1
            if size > self._history_bytes and index:
                return page[:index]
        return page

    async def conversations(self, account: LocalAccount) -> list[dict[str, Any]]:
        """All conversations of an account, with its cursors."""
        await self._receipts.flush()
        result = []
        cursors = sorted((await self._log.cursors([account.id]))[account.id], key=lambda cursor: cursor.conv)
        peers = await self._log.peers(account.id, [cursor.conv for cursor in cursors if cursor.conv[0] == "d"])
        for cursor in cursors:
            received = cursor.received
            if received < cursor.last_seq:
                # One's own message counts as received where everything before it is.
                other = await self._log.first_from_others(account.id, cursor.conv, received)
                received = cursor.last_seq if other is None else other - 1
            row = {
                "conv": cursor.conv,
                "last_seq": cursor.last_seq,
                "received_seq": received,
                "read_seq": cursor.seen,
            }
            if cursor.conv[0] == "d":
                seen = (
                    peers.get(cursor.conv, (0, 0)) if self._authorization.may_see_peer(account, cursor.conv) else (0, 0)
                )
                row["peer_received_seq"], row["peer_read_seq"] = seen
            result.append(row)
        return result

    def typing(self, account: LocalAccount, conv: str) -> None:
        """Tell the others that the account's user is writing something."""
        self._hints.publish_typing(account.id, conv)


_formatted: tuple[int, str] = (0, "")


def _clock() -> str:
    """The server's local time as classic clients show it; formatted once a second."""
    global _formatted  # noqa: PLW0603
    now = int(time.time())
    if _formatted[0] != now:
        _formatted = (now, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)))
    return _formatted[1]
