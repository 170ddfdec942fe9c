"""All that there is of an account, in pages."""

from __future__ import annotations

from typing import Any

import attrs

from trio_chat.store.contract import Database, Steps
from trio_chat.store.log import CLOSED, COLUMNS, FROM, delivery_of
from trio_chat.store.steps import query
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.delivery import Delivery

__all__ = ["Exports"]


@attrs.frozen
class Exports:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    @query
    def profile(self, userid: int) -> Steps[dict[str, Any]]:
        """Everything but the messages and the logins, as on the wire."""
        name = yield "SELECT name FROM User WHERE id = ?", (userid,)
        friends = yield (
            "SELECT u.id, u.name FROM Friend f JOIN User u ON u.id = f.friendid WHERE f.userid = ? ORDER BY u.id",
            (userid,),
        )
        groups = yield (
            "SELECT g.id, g.groupname, g.groupdesc, m.grouprole, m.joined FROM GroupUser m"
            " JOIN AllGroup g ON g.id = m.groupid WHERE m.userid = ? ORDER BY g.id",
            (userid,),
        )
        cursors = yield (
            "SELECT conv, received, seen FROM DeliveryCursor WHERE userid = ? AND received < ? ORDER BY conv",
            (userid, CLOSED),
        )
        return {
            "id": userid,
            "name": name.rows[0][0],
            "friends": [{"id": row[0], "name": row[1]} for row in friends.rows],
            "groups": [
                {"id": row[0], "groupname": row[1], "groupdesc": row[2], "role": row[3], "joined": row[4]}
                for row in groups.rows
            ],
            "conversations": [{"conv": row[0], "received_seq": row[1], "read_seq": row[2]} for row in cursors.rows],
        }

    @query
    def conversations(self, userid: int) -> Steps[list[tuple[str, bool]]]:
        """Where there are messages for an account, in order: the conversation, and whether all of it is to be read.

        Of a group that it has left it gets what it wrote itself.
        """
        cursors = yield "SELECT conv FROM DeliveryCursor WHERE userid = ?", (userid,)
        groups = yield "SELECT groupid FROM GroupUser WHERE userid = ?", (userid,)
        written = yield "SELECT DISTINCT conv FROM Message WHERE sender = ? AND conv LIKE 'g:%'", (userid,)
        member = {row[0] for row in groups.rows}
        found = {row[0]: False for row in written.rows}
        for (conv,) in cursors.rows:
            parties = parse_conv(conv)
            if parties.users is not None or parties.groupid in member:
                found[conv] = True
        return sorted(found.items())

    @query
    def messages(self, conv: str, after: int, limit: int, sender: int | None) -> Steps[list[Delivery]]:
        """At most `limit` messages with a greater seq, rising; of one `sender`, or of all."""
        values: list[str | int] = [conv, after]
        if sender is not None:
            values.append(sender)
        result = yield (
            f"SELECT {COLUMNS} {FROM} WHERE m.conv = ? AND m.seq > ?{'' if sender is None else ' AND m.sender = ?'}"
            f" ORDER BY m.seq LIMIT {limit:d}",
            values,
        )
        return [delivery_of(row) for row in result.rows]
