"""The message log, the truth about every message, and the cursors that say how far each account has received it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from trio_chat.store.clock import DatabaseClock
from trio_chat.store.contract import Database, Steps, Value
from trio_chat.store.steps import chunks, placeholders, query, rows_of, transaction
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.delivery import Delivery

__all__ = ["CLOSED", "COLUMNS", "FROM", "Changes", "Cursor", "MessageLog", "delivery_of"]


@attrs.frozen
class Cursor:
    """How far an account is in a conversation whose log ends at `last_seq`."""

    conv: str
    received: int
    seen: int
    last_seq: int


@attrs.frozen
class Changes:
    """What a look at the database found.

    Conversations with their last seq, (group, user) joins, (user, state) changes, (user, conversation, seq) read marks,
    (user, conversation) departures, (user, other) blocks made or taken back.
    """

    now: int
    heads: list[tuple[str, int]]
    joins: list[tuple[int, int]]
    states: list[tuple[int, str, int]]
    marks: list[tuple[int, str, int]]
    departures: list[tuple[int, str]]
    blocks: list[tuple[int, int]]


#: Where the cursor of a former member stands: behind everything, so that nothing is his to receive, and nothing moves it.
CLOSED = 2**63 - 1

COLUMNS = "m.conv, m.seq, m.ts, m.sender, u.name, m.target, m.msg, m.time, m.sender_key"
#: LEFT, so that no database begins with the users and sorts what it finds: the sender is always there.
FROM = "FROM Message m LEFT JOIN User u ON u.id = m.sender"


def delivery_of(row: Sequence[Any]) -> Delivery:
    conv, seq, ts, sender, name, target, msg, time, key = row
    return Delivery(conv, seq, ts, sender, name, target, msg, time, bytes(key).decode() if key is not None else None)


@attrs.frozen
class MessageLog:
    """All may raise `Unavailable`; cancelling is safe. `Appender` is what writes messages."""

    database: Database
    clock: DatabaseClock

    @query
    def after(self, conv: str, seq: int, limit: int) -> Steps[list[Delivery]]:
        """At most `limit` messages with a greater seq, rising."""
        result = yield (
            f"SELECT {COLUMNS} {FROM} WHERE m.conv = ? AND m.seq > ? ORDER BY m.seq LIMIT {limit:d}",
            (conv, seq),
        )
        return [delivery_of(row) for row in result.rows]

    @query
    def before(self, conv: str, seq: int, limit: int) -> Steps[list[Delivery]]:
        """At most `limit` messages, the last before `seq`, rising."""
        result = yield (
            f"SELECT {COLUMNS} {FROM} WHERE m.conv = ? AND m.seq < ? ORDER BY m.seq DESC LIMIT {limit:d}",
            (conv, seq),
        )
        return [delivery_of(row) for row in reversed(result.rows)]

    @query
    def undelivered(self, userid: int, limit: int) -> Steps[list[Delivery]]:
        """At most `limit` messages that an account has not received, the oldest first over all its conversations."""
        result = yield (
            f"SELECT {COLUMNS} FROM DeliveryCursor c JOIN Message m ON m.conv = c.conv AND m.seq > c.received"
            f" LEFT JOIN User u ON u.id = m.sender WHERE c.userid = ? ORDER BY m.ts, m.conv, m.seq LIMIT {limit:d}",
            (userid,),
        )
        return [delivery_of(row) for row in result.rows]

    @query
    def cursors(self, userids: Sequence[int]) -> Steps[dict[int, list[Cursor]]]:
        """All conversations of each of these accounts."""
        cursors: dict[int, list[Cursor]] = {userid: [] for userid in userids}
        result = yield (
            "SELECT c.userid, c.conv, c.received, c.seen, v.last_seq FROM DeliveryCursor c"
            f" JOIN Conversation v ON v.conv = c.conv WHERE c.userid IN ({placeholders(len(cursors))}) AND c.received < ?",
            [*cursors, CLOSED],
        )
        for userid, *cursor in result.rows:
            cursors[userid].append(Cursor(*cursor))
        return cursors

    @query
    def cursor(self, userid: int, conv: str) -> Steps[Cursor | None]:
        """One conversation of an account; None where it is not in it."""
        result = yield (
            "SELECT c.conv, c.received, c.seen, v.last_seq FROM DeliveryCursor c"
            " JOIN Conversation v ON v.conv = c.conv WHERE c.userid = ? AND c.conv = ? AND c.received < ?",
            (userid, conv, CLOSED),
        )
        return Cursor(*result.rows[0]) if result.rows else None

    @query
    def peers(self, userid: int, convs: Iterable[str]) -> Steps[dict[str, tuple[int, int]]]:
        """For each of an account's conversations of two: how far the other has received and read it."""
        others = {}
        for conv in convs:
            low, high = parse_conv(conv).users or (0, 0)
            others[conv] = high if low == userid else low
        positions = {}
        for some in chunks(others, 200):
            result = yield (
                "SELECT conv, received, seen FROM DeliveryCursor WHERE "
                + " OR ".join(["(userid = ? AND conv = ?)"] * len(some)),
                [value for conv in some for value in (others[conv], conv)],
            )
            positions.update({conv: (received, seen) for conv, received, seen in result.rows})
        return positions

    @query
    def first_from_others(self, userid: int, conv: str, after: int) -> Steps[int | None]:
        """The first seq after `after` that somebody else sent, if any."""
        result = yield (
            "SELECT seq FROM Message WHERE conv = ? AND seq > ? AND sender <> ? ORDER BY seq LIMIT 1",
            (conv, after, userid),
        )
        return result.rows[0][0] if result.rows else None

    @transaction
    def move_cursors(self, moves: Iterable[tuple[int, str, int]]) -> Steps[None]:
        """Move (userid, conv, received) cursors, forward only."""
        upsert = self.database.dialect.upsert("userid, conv", "received = GREATEST(received, new.received)")
        for some in chunks(sorted(moves), 500):
            values: list[Value] = []
            for move in some:
                values += move
            yield f"INSERT INTO DeliveryCursor (userid, conv, received) VALUES {rows_of(3, len(some))}{upsert}", values

    @transaction
    def mark_seen(self, userid: int, conv: str, seq: int) -> Steps[None]:
        """Move the cursor of what an account has read, forward only."""
        dialect = self.database.dialect
        upsert = dialect.upsert(
            "userid, conv", "seen = GREATEST(seen, new.seen), marked = GREATEST(marked, new.marked)"
        )
        row = f"(?, ?, ?, {dialect.now_ms})"
        yield f"INSERT INTO DeliveryCursor (userid, conv, seen, marked) VALUES {row}{upsert}", (userid, conv, seq)

    async def now(self) -> int:
        """The database's clock, in milliseconds since the epoch."""
        now = await self._now()
        self.clock.heard(now)
        return now

    async def changes(self, since: int) -> Changes:
        """What changed at or after `since`, in milliseconds since the epoch by the database's clock."""
        changes = await self._changes(since)
        self.clock.heard(changes.now)
        return changes

    @query
    def _now(self) -> Steps[int]:
        result = yield f"SELECT {self.database.dialect.now_ms}", ()
        return int(result.rows[0][0])

    @query
    def _changes(self, since: int) -> Steps[Changes]:
        now = yield f"SELECT {self.database.dialect.now_ms}", ()
        # A conversation's `changed` is rounded down, to a second at most.
        heads = yield "SELECT conv, last_seq FROM Conversation WHERE changed > ? - 1000", (since,)
        joins = yield "SELECT groupid, userid FROM GroupUser WHERE joined >= ?", (since,)
        states = yield "SELECT id, state, changed FROM User WHERE changed >= ?", (since,)
        moved = yield "SELECT userid, conv, seen, received FROM DeliveryCursor WHERE marked >= ?", (since,)
        blocks = yield "SELECT userid, other FROM Block WHERE changed >= ?", (since,)
        return Changes(
            now=int(now.rows[0][0]),
            heads=list(heads.rows),
            joins=list(joins.rows),
            states=list(states.rows),
            marks=[(userid, conv, seen) for userid, conv, seen, received in moved.rows if received < CLOSED],
            departures=[(userid, conv) for userid, conv, _, received in moved.rows if received == CLOSED],
            blocks=list(blocks.rows),
        )
