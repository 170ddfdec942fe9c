"""What logins read of their accounts, for many at once."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_chat.store.accounts import Accounts, Friend
from trio_chat.store.groups import GroupRecord, Groups
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.store.relations import Relations

__all__ = ["AccountState", "LoginReads"]


@attrs.frozen
class AccountState:
    """An account's friends, whom it is apart from, and its place in each conversation."""

    friends: list[Friend]
    apart: set[int]
    cursors: list[Cursor]


@attrs.frozen
class LoginReads:
    """All may raise `Unavailable`; cancelling is safe."""

    _accounts: Accounts
    _groups: Groups
    _relations: Relations
    _log: MessageLog

    async def groups(self, userids: Sequence[int], members: int) -> dict[int, list[GroupRecord]]:
        """The groups of each of these users, with at most `members` members in all."""
        groups = await self._groups.of(userids)
        lists = {userid: [group.id for group in found] for userid, found in groups.items() if found}
        if lists:
            found = await self._groups.members(lists, members)
            for userid in lists:
                for group in groups[userid]:
                    group.users = found[userid][group.id]
        return groups

    async def states(self, userids: Sequence[int]) -> dict[int, AccountState]:
        friends = await self._accounts.friends(userids)
        apart = await self._relations.apart(userids)
        cursors = await self._log.cursors(userids)
        return {userid: AccountState(friends[userid], apart[userid], cursors[userid]) for userid in userids}
