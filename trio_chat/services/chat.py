"""Conversations: sending, receiving, reading, looking back; and the groups that some of them belong to."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import attrs

from trio_chat.errors import BadRequest, NoSuchGroup, NoSuchUser, NotAMember, TooLarge
from trio_chat.names import check_group_name
from trio_chat.router import LocalAccount, Router
from trio_chat.services.accounts import AccountService
from trio_chat.services.receipts import Receipts
from trio_chat.store.append import Draft
from trio_chat.store.groups import GroupRecord, Groups
from trio_chat.store.log import MessageLog
from trio_chat.wire.conversation import direct_conv, group_conv, parse_conv
from trio_chat.wire.delivery import Delivery
from trio_chat.wire.messages import Direct, Group, GroupInfo, History

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
        groups: Groups,
        accounts: AccountService,
        router: Router,
        receipts: Receipts,
        *,
        message_limit: int,
        history_limit: int,
        history_bytes: int,
        members: int,
    ) -> None:
        self._log = messages
        self._groups = groups
        self._accounts = accounts
        self._router = router
        self._receipts = receipts
        self._message_limit = message_limit
        self._history_limit = history_limit
        self._history_bytes = history_bytes
        self._members = members
        self._known_users: set[int] = set()

    # -- sending ------------------------------------------------------------------------------------------------------

    def draft(self, account: LocalAccount, request: Direct | Group) -> Draft | None:
        """The message to store, or None where it must be `allowed` first. Raises `BadRequest`, `TooLarge`."""
        text = request.msg
        if not text:
            raise BadRequest("msg: is empty", field="msg")
        # A character is at most four bytes: most texts need no count.
        if len(text) * 4 > self._message_limit and len(text.encode()) > self._message_limit:
            raise TooLarge(f"a message is at most {self._message_limit} bytes", limit="message")
        if isinstance(request, Direct):
            target = request.toid
            if target not in self._known_users and target not in self._router.accounts:
                return None
            conv = direct_conv(account.id, target)
        else:
            target = request.groupid
            if target not in account.groups:
                return None
            conv = group_conv(target)
        return Draft(conv, account.id, account.name, target, text, request.time or _clock(), request.key)

    async def allow(self, account: LocalAccount, request: Direct | Group) -> None:
        """Ask the database whether the message may be sent; afterwards `draft` makes it.

        Raises `NoSuchUser`, `NoSuchGroup`, `NotAMember`.
        """
        if isinstance(request, Group):
            await self.membership(account, request.groupid)
            return
        if not await self._accounts.exists(request.toid):
            raise NoSuchUser
        if len(self._known_users) >= _KNOWN_USERS:
            self._known_users.clear()
        self._known_users.add(request.toid)

    def forget_user(self, userid: int) -> None:
        """This account is no more. Never blocks."""
        self._known_users.discard(userid)

    async def membership(self, account: LocalAccount, groupid: int) -> None:
        """Raise `NotAMember` or `NoSuchGroup` where the account is not in the group, known here or not."""
        if groupid in account.groups:
            return
        with self._router.loading(account.id):
            if not await self._groups.membership(account.id, groupid):
                raise NotAMember("you are not in this group")
            cursor = await self._log.cursor(account.id, group_conv(groupid))
            if cursor is not None:
                self._router.joined(account.id, groupid, cursor)

    # -- groups -------------------------------------------------------------------------------------------------------

    async def create_group(self, account: LocalAccount, name: str, description: str) -> int:
        """Raises `AlreadyExists`, `BadRequest`."""
        check_group_name("groupname", name)
        with self._router.loading(account.id):
            groupid = await self._groups.create(account.id, name, description)
            self._router.publish_joined(account.id, groupid, 0)
        return groupid

    async def join_group(self, account: LocalAccount, groupid: int) -> GroupRecord:
        """Raises `NoSuchGroup`, `AlreadyExists`."""
        with self._router.loading(account.id):
            position = await self._groups.join(account.id, groupid)
            self._router.publish_joined(account.id, groupid, position)
        return await self._groups.get(groupid, self._members)

    async def group_info(self, account: LocalAccount, request: GroupInfo) -> dict[str, Any]:
        """What a group is; for its members also who they are, and how far each has received and read.

        Raises `NoSuchGroup`, `BadRequest`.
        """
        groupid = request.groupid
        if (groupid is None) == (request.groupname is None):
            raise BadRequest("groupid: give either it or groupname", field="groupid")
        if groupid is None:
            groupid = await self._groups.by_name(request.groupname or "")
            if groupid is None:
                raise NoSuchGroup("there is no group of this name")
        member = await self._groups.membership(account.id, groupid)
        group = await self._groups.get(groupid, self._members if member else 0)
        fields: dict[str, Any] = {"id": group.id, "groupname": group.groupname, "groupdesc": group.groupdesc}
        if member:
            await self._receipts.flush()
            positions = await self._groups.positions(groupid, [user.id for user in group.users])
            users = []
            for user in group.users:
                received, seen = positions.get(user.id, (0, 0))
                users.append({**attrs.asdict(user), "received_seq": received, "read_seq": seen})
            fields["users"] = users
        return fields

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
        """The account's user has read a conversation up to `seq`; tells the others. Raises as `check_party`."""
        await self.check_party(account, conv)
        cursor = await self._log.cursor(account.id, conv)
        if cursor is None:
            return
        position = min(seq, cursor.last_seq)
        if position > cursor.seen:
            await self._log.mark_seen(account.id, conv, position)
            self._router.publish_read(account.id, conv, position)

    async def history(self, account: LocalAccount, request: History) -> dict[str, Any]:
        """A page of a conversation's log, rising, with `more` where the log goes on in this direction.

        Raises as `check_party`, and `BadRequest`.
        """
        if request.after is not None and request.before is not None:
            raise BadRequest("before: cannot go with after", field="before")
        await self.check_party(account, request.conv)
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
        cursors = sorted(await self._log.cursors(account.id), key=lambda cursor: cursor.conv)
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
                row["peer_received_seq"], row["peer_read_seq"] = peers.get(cursor.conv, (0, 0))
            result.append(row)
        return result

    def is_party(self, account: LocalAccount, conv: str) -> bool:
        """Whether the account is known here to be in the conversation; `check_party` asks the database too."""
        parties = parse_conv(conv)
        return parties.groupid in account.groups or account.id in (parties.users or ())

    def typing(self, account: LocalAccount, conv: str) -> None:
        """Tell the others that the account's user is writing something."""
        self._router.publish_typing(account.id, conv)

    async def check_party(self, account: LocalAccount, conv: str) -> None:
        """Raise `NotAMember`, `NoSuchGroup` or `BadRequest` where the account is not in the conversation."""
        try:
            parties = parse_conv(conv)
        except ValueError:
            raise BadRequest("conv: is not d:LOW:HIGH or g:GROUPID", field="conv") from None
        if parties.groupid is not None:
            await self.membership(account, parties.groupid)
        elif account.id not in (parties.users or ()):
            raise NotAMember


_formatted: tuple[int, str] = (0, "")


def _clock() -> str:
    """The server's local time as classic clients show it; formatted once a second."""
    global _formatted  # noqa: PLW0603
    now = int(time.time())
    if _formatted[0] != now:
        _formatted = (now, time.strftime("%Y-%m-%d %H:%M:%S", time.localtime(now)))
    return _formatted[1]
