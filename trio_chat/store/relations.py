"""What stands between people: blocks, and accounts that the operator has disabled."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_chat.errors import NoSuchUser
from trio_chat.store.contract import Database, Steps
from trio_chat.store.logins import end_logins
from trio_chat.store.steps import placeholders, query, transaction

__all__ = ["Relations"]


@attrs.frozen
class Relations:
    """All may raise `Unavailable`; cancelling is safe.

    Two users are *apart* where either has blocked the other.
    """

    database: Database

    @transaction
    def block(self, userid: int, other: int) -> Steps[None]:
        """Note that a user wants nothing of another; once more does no harm. Raises `NoSuchUser`."""
        there = yield "SELECT 1 FROM User WHERE id = ?", (other,)
        if not there.rows:
            raise NoSuchUser
        dialect = self.database.dialect
        upsert = dialect.upsert("userid, other", "blocked = 1, changed = GREATEST(changed, new.changed)")
        yield (
            f"INSERT INTO Block (userid, other, blocked, changed) VALUES (?, ?, 1, {dialect.now_ms}){upsert}",
            (userid, other),
        )

    @transaction
    def unblock(self, userid: int, other: int) -> Steps[None]:
        """Take a block back; where there is none that does no harm."""
        now = self.database.dialect.now_ms
        yield (
            f"UPDATE Block SET blocked = 0, changed = GREATEST(changed, {now}) WHERE userid = ? AND other = ?",
            (userid, other),
        )

    @query
    def blocked(self, userid: int) -> Steps[list[tuple[int, str]]]:
        """Whom a user has blocked: (id, name)."""
        found = yield (
            "SELECT u.id, u.name FROM Block b JOIN User u ON u.id = b.other"
            " WHERE b.userid = ? AND b.blocked = 1 ORDER BY u.id",
            (userid,),
        )
        return list(found.rows)

    @query
    def apart(self, userids: Sequence[int]) -> Steps[dict[int, set[int]]]:
        """From whom each of these users is apart."""
        others: dict[int, set[int]] = {userid: set() for userid in userids}
        users = placeholders(len(others))
        found = yield (
            f"SELECT userid, other FROM Block WHERE userid IN ({users}) AND blocked = 1"
            f" UNION SELECT other, userid FROM Block WHERE other IN ({users}) AND blocked = 1",
            [*others, *others],
        )
        for userid, other in found.rows:
            others[userid].add(other)
        return others

    @transaction
    def disable(self, name: str) -> Steps[int]:
        """Disable the account of this name and end its logins; returns its id. Raises `NoSuchUser`."""
        userid = yield from self._find(name)
        yield f"UPDATE User SET disabled = {self.database.dialect.now_ms} WHERE id = ?", (userid,)
        yield from end_logins(self.database, userid)
        return userid

    @transaction
    def enable(self, name: str) -> Steps[int]:
        """Take it back: the password is valid again, the former logins are not. Raises `NoSuchUser`."""
        userid = yield from self._find(name)
        yield "UPDATE User SET disabled = 0 WHERE id = ?", (userid,)
        return userid

    def _find(self, name: str) -> Steps[int]:
        found = yield "SELECT id FROM User WHERE name = ? AND deleted = 0", (name,)
        if not found.rows:
            raise NoSuchUser(f"there is no user of the name {name!r}")
        userid: int = found.rows[0][0]
        return userid
