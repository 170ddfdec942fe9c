"""Deleting accounts: who it was goes at once, the texts in batches; each message's place in its conversation stays."""

from __future__ import annotations

import attrs

from trio_chat.names import DELETED
from trio_chat.store.contract import Database, Steps
from trio_chat.store.groups import inherit
from trio_chat.store.logins import end_logins
from trio_chat.store.steps import query, transaction

__all__ = ["Deletions"]


@attrs.frozen
class Deletions:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    @transaction
    def delete(self, userid: int, epoch: int, grace: int) -> Steps[bool]:
        """Delete an account, unless all its logins were ended since `epoch`; returns whether it was deleted.

        Its name, password, logins, friends, memberships and cursors are gone when this returns; the claims on its name
        stay. Its texts are to be erased, and once more when `grace` milliseconds are over.
        """
        dialect = self.database.dialect
        found = yield f"SELECT epoch FROM User WHERE id = ? AND deleted = 0{dialect.for_update}", (userid,)
        if not found.rows or found.rows[0][0] != epoch:
            return False
        name = f"{DELETED} {userid}"
        while (yield "SELECT 1 FROM User WHERE name = ?", (name,)).rows:  # somebody from before the rules
            name += "'"
        yield (
            f"UPDATE User SET name = ?, password = '', deleted = {dialect.now_ms} WHERE id = ?",
            (name, userid),
        )
        yield from end_logins(self.database, userid)
        yield "DELETE FROM Friend WHERE userid = ?", (userid,)
        yield "DELETE FROM Friend WHERE friendid = ?", (userid,)
        yield "DELETE FROM Block WHERE userid = ?", (userid,)
        created = yield "SELECT groupid FROM GroupUser WHERE userid = ? AND grouprole = 'creator'", (userid,)
        yield "DELETE FROM GroupUser WHERE userid = ?", (userid,)
        for row in created.rows:
            yield from inherit(row[0])
        yield "DELETE FROM DeliveryCursor WHERE userid = ?", (userid,)
        yield f"INSERT INTO Erasure (userid, due) VALUES (?, {dialect.now_ms} + {grace:d})", (userid,)
        return True

    @query
    def unfinished(self) -> Steps[list[int]]:
        """Deleted accounts whose texts may not all be erased."""
        found = yield "SELECT userid FROM Erasure ORDER BY userid", ()
        return [row[0] for row in found.rows]

    @query
    def conversations(self, userid: int) -> Steps[list[tuple[str, int]]]:
        """Where an account wrote, and up to which seq."""
        found = yield "SELECT conv, MAX(seq) FROM Message WHERE sender = ? GROUP BY conv", (userid,)
        return [(row[0], row[1]) for row in found.rows]

    @transaction
    def erase(self, userid: int, conv: str, after: int, until: int) -> Steps[None]:
        """Empty an account's texts from behind one seq up to another; what made sending again harmless goes too."""
        yield (
            "UPDATE Message SET msg = '', sender_key = NULL WHERE conv = ? AND seq > ? AND seq <= ? AND sender = ?",
            (conv, after, until, userid),
        )

    @transaction
    def finish(self, userid: int) -> Steps[bool]:
        """An account's texts were erased; returns whether that was for good, because nothing more can come in."""
        # What a node still had of its receipts.
        yield "DELETE FROM DeliveryCursor WHERE userid = ?", (userid,)
        done = yield f"DELETE FROM Erasure WHERE userid = ? AND due <= {self.database.dialect.now_ms}", (userid,)
        return done.changed > 0
