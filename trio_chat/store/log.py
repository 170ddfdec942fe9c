"""The message log, the truth about every message, and the cursors that say how far each account has received it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import attrs

from trio_chat.store.contract import Database, Dialect, Last, Steps, UniqueViolation, Value
from trio_chat.store.steps import chunks, placeholders, query, rows_of, transaction
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.delivery import Delivery

__all__ = ["COLUMNS", "FROM", "Changes", "Cursor", "Draft", "MessageLog", "Stored", "delivery_of"]


@attrs.define(eq=False)
class Draft:
    """A message on its way into the log. `target` is the receiving user's or the group's id."""

    conv: str
    sender: int
    name: str
    target: int
    msg: str
    time: str
    key: str | None


@attrs.frozen
class Stored:
    """Where a draft went. `duplicate`: its key was stored before, as this message, and nothing was added."""

    conv: str
    seq: int
    ts: int
    duplicate: bool


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

    Conversations with their last seq, (group, user) joins, (user, state) changes, (user, conversation, seq) read marks.
    """

    now: int
    heads: list[tuple[str, int]]
    joins: list[tuple[int, int]]
    states: list[tuple[int, str, int]]
    marks: list[tuple[int, str, int]]


COLUMNS = "m.conv, m.seq, m.ts, m.sender, u.name, m.target, m.msg, m.time, m.sender_key"
_INSERT = "INSERT INTO Message (conv, seq, sender, target, ts, time, sender_key, msg) VALUES "
FROM = "FROM Message m JOIN User u ON u.id = m.sender"


def delivery_of(row: Sequence[Any]) -> Delivery:
    conv, seq, ts, sender, name, target, msg, time, key = row
    return Delivery(conv, seq, ts, sender, name, target, msg, time, bytes(key).decode() if key is not None else None)


@attrs.frozen
class MessageLog:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    async def append(self, drafts: Sequence[Draft]) -> list[Stored]:
        """Store a batch of messages in one transaction and say where each went. Durable when this returns.

        Each conversation's seq goes on without a hole, in the order of the batch; a key that its sender has used
        before stores nothing. Raises `OutcomeUnknown` where COMMIT was not answered.
        """
        check_keys = False
        for _ in range(8):
            try:
                return await self._append(drafts, check_keys)
            except UniqueViolation:
                # Almost no message is a repetition, so keys are looked up only once the index has refused one. It can
                # refuse again: another node may store the same key between our look and our insert.
                check_keys = True
        raise UniqueViolation("a message's key cannot be settled")

    @transaction
    def _append(self, drafts: Sequence[Draft], check_keys: bool) -> Steps[list[Stored]]:
        dialect = self.database.dialect
        known: dict[tuple[int, str], Stored] = {}
        if check_keys:
            known = yield from _stored_keys(drafts)
        firsts: dict[tuple[int, str], int] = {}
        new: list[int] = []
        counts: dict[str, int] = {}
        for index, draft in enumerate(drafts):
            if draft.key is not None:
                identity = (draft.sender, draft.key)
                if identity in known or firsts.setdefault(identity, index) != index:
                    continue
            new.append(index)
            counts[draft.conv] = counts.get(draft.conv, 0) + 1
        stored: dict[int, Stored] = {}
        if new:
            # In one order everywhere, so that batches of several nodes cannot deadlock on each other.
            convs = sorted(counts)
            heads = yield from _advance(dialect, convs, counts)
            values: list[Value] = []
            for index in new:
                draft = drafts[index]
                last_seq, ts = heads[draft.conv]
                seq = last_seq - counts[draft.conv] + 1
                counts[draft.conv] -= 1
                stored[index] = Stored(draft.conv, seq, ts, duplicate=False)
                key = draft.key.encode() if draft.key is not None else None
                values += (draft.conv, seq, draft.sender, draft.target, ts, draft.time, key, draft.msg)
            begun = [drafts[index] for index in new if stored[index].seq == 1 and stored[index].conv[0] == "d"]
            if begun:
                pairs = [(userid, draft.conv) for draft in begun for userid in {draft.sender, draft.target}]
                yield (
                    f"{dialect.insert_ignore} DeliveryCursor (userid, conv) VALUES {rows_of(2, len(pairs))}",
                    [value for pair in pairs for value in pair],
                )
            yield Last(_INSERT + rows_of(8, len(new)), values)
        results = []
        for index, draft in enumerate(drafts):
            if index in stored:
                results.append(stored[index])
                continue
            identity = (draft.sender, draft.key or "")
            first = known.get(identity) or stored[firsts[identity]]
            results.append(attrs.evolve(first, duplicate=True))
        return results

    @transaction
    def was_stored(self, drafts: Sequence[Draft], stored: Sequence[Stored]) -> Steps[bool]:
        """Whether the transaction that was to store the drafts so has been committed."""
        for draft, where in zip(drafts, stored, strict=True):
            if where.duplicate:
                continue
            # The transaction holds this lock as long as it may still commit, so the answer is final.
            yield f"SELECT 1 FROM Conversation WHERE conv = ?{self.database.dialect.for_update}", (where.conv,)
            result = yield (
                "SELECT sender, ts, msg FROM Message WHERE conv = ? AND seq = ?",
                (where.conv, where.seq),
            )
            return bool(result.rows) and tuple(result.rows[0]) == (draft.sender, where.ts, draft.msg)
        return True

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
            f" JOIN User u ON u.id = m.sender WHERE c.userid = ? ORDER BY m.ts, m.conv, m.seq LIMIT {limit:d}",
            (userid,),
        )
        return [delivery_of(row) for row in result.rows]

    @query
    def cursors(self, userid: int) -> Steps[list[Cursor]]:
        """All conversations of an account."""
        result = yield (
            "SELECT c.conv, c.received, c.seen, v.last_seq FROM DeliveryCursor c"
            " JOIN Conversation v ON v.conv = c.conv WHERE c.userid = ?",
            (userid,),
        )
        return [Cursor(*row) for row in result.rows]

    @query
    def cursor(self, userid: int, conv: str) -> Steps[Cursor | None]:
        """One conversation of an account; None where it is not in it."""
        result = yield (
            "SELECT c.conv, c.received, c.seen, v.last_seq FROM DeliveryCursor c"
            " JOIN Conversation v ON v.conv = c.conv WHERE c.userid = ? AND c.conv = ?",
            (userid, conv),
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

    @query
    def now(self) -> Steps[int]:
        """The database's clock, in milliseconds since the epoch."""
        result = yield f"SELECT {self.database.dialect.now_ms}", ()
        return int(result.rows[0][0])

    @query
    def changes(self, since: int) -> Steps[Changes]:
        """What changed at or after `since`, in milliseconds since the epoch by the database's clock."""
        now = yield f"SELECT {self.database.dialect.now_ms}", ()
        heads = yield "SELECT conv, last_seq FROM Conversation WHERE changed >= ?", (since,)
        joins = yield "SELECT groupid, userid FROM GroupUser WHERE joined >= ?", (since,)
        states = yield "SELECT id, state, changed FROM User WHERE changed >= ?", (since,)
        marks = yield "SELECT userid, conv, seen FROM DeliveryCursor WHERE marked >= ?", (since,)
        return Changes(int(now.rows[0][0]), *(list(found.rows) for found in (heads, joins, states, marks)))


def _stored_keys(drafts: Sequence[Draft]) -> Steps[dict[tuple[int, str], Stored]]:
    """Which of the drafts' keys are in the log, and as what."""
    keys: dict[int, set[bytes]] = {}
    for draft in drafts:
        if draft.key is not None:
            keys.setdefault(draft.sender, set()).add(draft.key.encode())
    known = {}
    for senders in chunks(keys, 100):
        wheres = " OR ".join(f"(sender = ? AND sender_key IN ({placeholders(len(keys[s]))}))" for s in senders)
        values: list[Value] = []
        for sender in senders:
            values += (sender, *keys[sender])
        result = yield f"SELECT sender, sender_key, conv, seq, ts FROM Message WHERE {wheres}", values
        for sender, key, conv, seq, ts in result.rows:
            known[sender, bytes(key).decode()] = Stored(conv, seq, ts, duplicate=True)
    return known


def _advance(dialect: Dialect, convs: Sequence[str], counts: dict[str, int]) -> Steps[dict[str, tuple[int, int]]]:
    """Take each conversation's next `counts` seqs; its row stays locked until the commit. Returns (last_seq, ts) of each.

    `ts` never falls within a conversation, whatever the clocks do.
    """
    upsert = dialect.upsert("conv", "last_seq = last_seq + new.last_seq, changed = GREATEST(changed, new.changed)")
    row = f"(?, ?, {dialect.now_ms})"
    insert = f"INSERT INTO Conversation (conv, last_seq, changed) VALUES {','.join([row] * len(convs))}{upsert}"
    values: list[Value] = []
    for conv in convs:
        values += (conv, counts[conv])
    columns = "conv, last_seq, changed"
    if dialect.returning:
        result = yield f"{insert} RETURNING {columns}", values
    else:
        yield insert, values
        result = yield f"SELECT {columns} FROM Conversation WHERE conv IN ({placeholders(len(convs))})", convs
    return {conv: (last_seq, ts) for conv, last_seq, ts in result.rows}
