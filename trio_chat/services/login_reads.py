"""What a login reads of its account: for all the logins that are at the same point, at once."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_chat.services.batched import Batched
from trio_chat.store.accounts import Accounts, Friend
from trio_chat.store.groups import GroupRecord, Groups
from trio_chat.store.log import Cursor, MessageLog
from trio_chat.store.relations import Relations

__all__ = ["AccountState", "LoginReads"]

#: Of so many at a time: some have hundreds of conversations, and all of an answer is in memory at once.
_MOST = 32
#: One who has very many does not hold the others up.
_PARALLEL = 2


@attrs.frozen
class AccountState:
    """An account's friends, whom it is apart from, and its place in each conversation."""

    friends: list[Friend]
    apart: set[int]
    cursors: list[Cursor]


class LoginReads:
    """All may raise `Unavailable`; cancelling is safe."""

    def __init__(self, accounts: Accounts, groups: Groups, relations: Relations, log: MessageLog) -> None:
        self._accounts = accounts
        self._groups = groups
        self._relations = relations
        self._log = log
        self._read_groups: Batched[int, list[GroupRecord]] = Batched(self._groups_of, most=_MOST, parallel=_PARALLEL)
        self._read_state: Batched[int, AccountState] = Batched(self._states_of, most=_MOST, parallel=_PARALLEL)

    async def groups(self, userid: int, members: int) -> list[GroupRecord]:
        """A user's groups, with at most `members` members in all."""
        groups = await self._read_groups(userid)
        if not groups:
            return []
        found = await self._groups.members([group.id for group in groups], members)
        # Two logins of one account share what was read for both: each gets records of its own.
        return [attrs.evolve(group, users=found[group.id]) for group in groups]

    async def state(self, userid: int) -> AccountState:
        return await self._read_state(userid)

    async def _groups_of(self, userids: Sequence[int]) -> list[list[GroupRecord]]:
        groups = await self._groups.of(userids)
        return [groups[userid] for userid in userids]

    async def _states_of(self, userids: Sequence[int]) -> list[AccountState]:
        friends = await self._accounts.friends(userids)
        apart = await self._relations.apart(userids)
        cursors = await self._log.cursors(userids)
        return [AccountState(friends[userid], apart[userid], cursors[userid]) for userid in userids]
