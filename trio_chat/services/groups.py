"""Groups: making, joining, leaving them, and what others may know of them."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import attrs

from trio_chat.errors import BadRequest, NoSuchGroup
from trio_chat.hints import Hints
from trio_chat.names import check_group_name
from trio_chat.router import LocalAccount, Router
from trio_chat.services.authorization import Authorization
from trio_chat.services.receipts import Receipts
from trio_chat.store.groups import GroupRecord, Groups
from trio_chat.wire.messages import GroupInfo, RemoveMember

if TYPE_CHECKING:
    from trio_chat.connection import Connection

__all__ = ["GroupService"]


class GroupService:
    """All may raise `Unavailable`; cancelling is safe. `members` is how many of a group's are told at most."""

    def __init__(
        self,
        groups: Groups,
        authorization: Authorization,
        router: Router,
        hints: Hints,
        receipts: Receipts,
        *,
        members: int,
    ) -> None:
        self._groups = groups
        self._authorization = authorization
        self._router = router
        self._hints = hints
        self._receipts = receipts
        self._members = members

    async def create(self, account: LocalAccount, name: str, description: str) -> int:
        """Raises `AlreadyExists`, `BadRequest`."""
        check_group_name("groupname", name)
        with self._router.loading(account.id):
            groupid = await self._groups.create(account.id, name, description)
            self._hints.publish_joined(account.id, groupid, 0)
        return groupid

    async def join(self, account: LocalAccount, groupid: int) -> GroupRecord:
        """Raises `NoSuchGroup`, `AlreadyExists`, `Forbidden`."""
        with self._router.loading(account.id):
            moves = self._router.moves(account.id)
            position = await self._groups.join(account.id, groupid)
            if self._router.moves(account.id) == moves:
                self._hints.publish_joined(account.id, groupid, position)
            else:
                await self._find_out(account.id, groupid)
        return self.as_seen(account, await self._groups.get(groupid, self._members))

    async def info(self, account: LocalAccount, request: GroupInfo) -> dict[str, Any]:
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
        member = await self._authorization.is_member(account, groupid)
        group = self.as_seen(account, await self._groups.get(groupid, self._members if member else 0))
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

    async def leave(self, connection: Connection, account: LocalAccount, groupid: int) -> None:
        """End one's membership. Raises `NoSuchGroup`, `NotAMember`."""
        with self._router.loading(account.id):
            moves = self._router.moves(account.id)
            await self._groups.leave(account.id, groupid)
            if self._router.moves(account.id) == moves:
                self._hints.publish_left(account.id, groupid, connection)
            else:
                await self._find_out(account.id, groupid)

    async def remove(self, account: LocalAccount, request: RemoveMember) -> None:
        """End another one's membership. Raises as `Groups.remove`."""
        with self._router.loading(request.userid):
            moves = self._router.moves(request.userid)
            if not await self._groups.remove(account.id, request.groupid, request.userid, request.barred):
                return
            if self._router.moves(request.userid) == moves:
                self._hints.publish_left(request.userid, request.groupid)
            else:
                await self._find_out(request.userid, request.groupid)

    async def _find_out(self, userid: int, groupid: int) -> None:
        """Something else was done to the membership at the same time: what came of both the database knows."""
        self._hints.publish_membership(userid, groupid)
        await self._router.find_membership(userid, groupid)

    def as_seen(self, account: LocalAccount, group: GroupRecord) -> GroupRecord:
        """A group with its members' presence as the account is to know it."""
        if not account.apart:
            return group
        state = self._authorization.state
        users = [attrs.evolve(user, state=state(account, user.id, user.state)) for user in group.users]
        return attrs.evolve(group, users=users)
