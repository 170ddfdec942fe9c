"""Writing into the log: each conversation's next seqs, given and stored in one transaction.

A conversation's row holds its last seq, and whoever advances it holds the row's lock until the commit: so seqs are
committed in their order, whichever node gives them. There are two ways to advance it. Where this node knows the last seq,
as it was the last to write there, it says so: the row is advanced only from just that seq, and a batch is one round trip.
Where it does not know, or another node has written meanwhile, it asks first. What it believes to know can thus cost time,
never a message or its place.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import islice

import attrs

from trio_chat.errors import Unavailable
from trio_chat.store.clock import DatabaseClock
from trio_chat.store.contract import Database, Dialect, Last, OutcomeUnknown, Statement, Steps, Value, Violation
from trio_chat.store.steps import chunks, placeholders, rows_of, transaction

__all__ = ["Appender", "Draft", "Stored"]

#: Conversations whose ends are remembered; a hundred bytes each.
_REMEMBERED = 100_000
#: How long, in seconds, a conversation in which another node has written is asked for before each batch.
_SHARED = 30.0
#: The index on `changed` is rewritten for a conversation once in so many milliseconds, however busy it is.
_COARSE = 1000
_INSERT = "INSERT INTO Message (conv, seq, sender, target, ts, time, sender_key, msg) VALUES "


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


@attrs.define
class Stored:
    """Where a draft went. `duplicate`: its key was stored before, as this message, and nothing was added."""

    conv: str
    seq: int
    ts: int
    duplicate: bool


#: A conversation's last seq and the time of that message.
_End = tuple[int, int]


@attrs.define(eq=False)
class Appender:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database
    clock: DatabaseClock
    # Where logs end, as far as this node knows; and until when (by `monotonic`) it does not rely on that.
    _ends: dict[str, _End] = attrs.field(factory=dict)
    _shared: dict[str, float] = attrs.field(factory=dict)

    async def append(self, drafts: Sequence[Draft], doubt: Sequence[Stored] | None = None) -> list[Stored]:
        """Store a batch of messages in one transaction and say where each went. Durable when this returns.

        Each conversation's seq goes on without a hole, in the order of the batch; a key that its sender has used
        before stores nothing. Raises `OutcomeUnknown` where COMMIT was not answered; its value is where the messages would
        be. Who then finds nothing there (`was_stored`) tries again with that as `doubt`: as the server may still execute
        what it was sent, the same places are taken, and only one of the two can get them.
        """
        now = self.clock.now()
        ends = self._known(drafts) if doubt is None else _ends_before(doubt)
        repeated = {} if doubt is None else _repeated(drafts, doubt)
        careful = now is None
        for _ in range(8):
            try:
                plan = _Plan({} if careful else ends, now or 0, careful, repeated)
                stored = await self._append(drafts, plan)
            except Violation:
                # A key that was used before, or a conversation that another node has advanced.
                if doubt is not None and await self._settled(drafts, doubt):
                    return list(doubt)
                doubt, careful = None, True
            except OutcomeUnknown:
                raise
            except Exception:
                # Who answers next may be another server, which had not yet got the last commits.
                self._ends.clear()
                raise
            else:
                self._learn(plan)
                return stored
        raise Violation("a message's key cannot be settled")

    def _known(self, drafts: Iterable[Draft]) -> dict[str, _End]:
        """The ends of all the drafts' conversations; nothing where one of them is not known.

        All or nothing: batches that take their locks in two goes would wait for each other.
        """
        known: dict[str, _End] = {}
        for draft in drafts:
            conv = draft.conv
            end = self._ends.get(conv)
            if end is None or (self._shared and self._is_shared(conv)):
                return {}
            known[conv] = end
        return known

    def _is_shared(self, conv: str) -> bool:
        """Whether another node has written in a conversation lately."""
        until = self._shared.get(conv)
        if until is not None and until <= self.clock.monotonic():
            del self._shared[conv]
            return False
        return until is not None

    def _learn(self, plan: _Plan) -> None:
        ends = self._ends
        for conv, head in plan.heads.items():
            if plan.heard and conv in ends and ends[conv][0] != head.before:
                self._shared[conv] = self.clock.monotonic() + _SHARED
            ends[conv] = (head.seq, head.ts)
        if len(ends) > _REMEMBERED:
            for conv in list(islice(ends, _REMEMBERED // 10)):
                del ends[conv]
                self._shared.pop(conv, None)
        if plan.heard:
            self.clock.heard(plan.heard)

    @transaction
    def _append(self, drafts: Sequence[Draft], plan: _Plan) -> Steps[list[Stored]]:
        """Store what is new. Keys are looked up only where the plan is careful: almost no message is a repetition, and the
        index refuses one that is (again, perhaps: another node may store the same key between the look and the insert).
        """
        dialect = self.database.dialect
        known = plan.repeated
        if plan.careful:
            known = yield from _stored_keys(drafts)
        firsts: dict[tuple[int, str], int] = {}
        counts: dict[str, int] = {}
        repeated: set[int] = set()
        for index, draft in enumerate(drafts):
            if draft.key is not None:
                identity = (draft.sender, draft.key)
                if identity in known or firsts.setdefault(identity, index) != index:
                    repeated.add(index)
                    continue
            counts[draft.conv] = counts.get(draft.conv, 0) + 1
        # In one order everywhere, so that batches of several nodes cannot deadlock on each other.
        convs = sorted(counts)
        last: list[Statement] = []
        if plan.ends and convs:
            plan.heads = {conv: _Advanced(plan.ends[conv], counts[conv], plan.now) for conv in convs}
            last.append(_guarded_advance(dialect, plan.heads))
        elif convs:
            plan.heads, plan.heard = yield from _advance(dialect, convs, counts)
        heads = plan.heads
        stored: list[Stored] = []
        values: list[Value] = []
        begun: set[tuple[int, str]] = set()
        nexts = {conv: head.before for conv, head in heads.items()}
        for index, draft in enumerate(drafts):
            conv, key = draft.conv, draft.key
            if index in repeated:
                assert key is not None
                identity = (draft.sender, key)
                stored.append(attrs.evolve(known.get(identity) or stored[firsts[identity]], duplicate=True))
                continue
            seq = nexts[conv] = nexts[conv] + 1
            ts = heads[conv].ts
            stored.append(Stored(conv, seq, ts, False))
            if seq == 1 and conv[0] == "d":
                begun |= {(draft.sender, conv), (draft.target, conv)}
            values += (
                conv, seq, draft.sender, draft.target, ts, draft.time, None if key is None else key.encode(), draft.msg,
            )  # fmt: skip
        if begun:
            cursors = f"{dialect.insert_ignore} DeliveryCursor (userid, conv) VALUES {rows_of(2, len(begun))}"
            last.append((cursors, [value for pair in sorted(begun) for value in pair]))
        if values:
            last.append((_INSERT + rows_of(8, len(drafts) - len(repeated)), values))
            yield Last(last)
        return stored

    async def _settled(self, drafts: Sequence[Draft], doubt: Sequence[Stored]) -> bool:
        """As `was_stored`. Where that cannot be found out, the doubt is what it was: raises `OutcomeUnknown`."""
        try:
            return await self.was_stored(drafts, doubt)
        except Unavailable as error:
            raise OutcomeUnknown(value=list(doubt)) from error

    @transaction
    def was_stored(self, drafts: Sequence[Draft], stored: Sequence[Stored]) -> Steps[bool]:
        """Whether the transaction that was to store the drafts so has been committed, as far as it was begun."""
        for draft, where in zip(drafts, stored, strict=True):
            if where.duplicate:
                continue
            # The transaction holds this lock from its beginning for as long as it may still commit.
            yield f"SELECT 1 FROM Conversation WHERE conv = ?{self.database.dialect.for_update}", (where.conv,)
            result = yield (
                "SELECT sender, ts, msg FROM Message WHERE conv = ? AND seq = ?",
                (where.conv, where.seq),
            )
            return bool(result.rows) and tuple(result.rows[0]) == (draft.sender, where.ts, draft.msg)
        return True


@attrs.define(eq=False)
class _Plan:
    """One attempt to store a batch: the `ends` that are relied on, if any, and the database's time `now` (ms).

    `repeated` has what is known to have been stored before, by sender and key; `careful` says to ask for all such.
    The transaction notes where it leaves the conversations (`heads`) and, where it has asked, the time that the database
    then said it was (`heard`).
    """

    ends: Mapping[str, _End]
    now: int
    careful: bool
    repeated: Mapping[tuple[int, str], Stored]
    heads: dict[str, _Advanced] = attrs.field(factory=dict)
    heard: int = 0


class _Advanced:
    """A conversation as a batch leaves it: `seq` is its last one, `before` what that was, `ts` the time of what is new."""

    __slots__ = ("before", "seq", "ts")

    def __init__(self, end: _End, count: int, now: int) -> None:
        self.before, ts = end
        self.seq = self.before + count
        self.ts = max(ts, now)


def _ends_before(doubt: Iterable[Stored]) -> dict[str, _End]:
    ends: dict[str, _End] = {}
    for where in doubt:
        if not where.duplicate:
            ends.setdefault(where.conv, (where.seq - 1, where.ts))
    return ends


def _repeated(drafts: Sequence[Draft], doubt: Sequence[Stored]) -> dict[tuple[int, str], Stored]:
    """Which of the drafts an earlier attempt has found in the log, by sender and key."""
    found: dict[tuple[int, str], Stored] = {}
    new: set[tuple[int, str]] = set()
    for draft, where in zip(drafts, doubt, strict=True):
        if draft.key is not None:
            identity = (draft.sender, draft.key)
            # What repeats another message of the same batch is in the log only if that one gets there.
            if where.duplicate and identity not in new:
                found[identity] = where
            else:
                new.add(identity)
    return found


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


#: `ts` never falls within a conversation, whatever the clocks do. (Before there was `last_ts`, `changed` was exact.)
_ASKED = (
    "last_seq = last_seq + new.last_seq,"
    " last_ts = GREATEST(GREATEST(last_ts, changed), new.last_ts), changed = GREATEST(changed, new.changed)"
)


def _advance(
    dialect: Dialect, convs: Sequence[str], counts: Mapping[str, int]
) -> Steps[tuple[dict[str, _Advanced], int]]:
    """Take each conversation's next `counts` seqs, whatever its last one is. Also returns the database's time."""
    upsert = dialect.upsert("conv", _ASKED)
    now = dialect.now_ms
    row = f"(?, ?, {now}, {now} - {now} % {_COARSE})"
    insert = (
        f"INSERT INTO Conversation (conv, last_seq, last_ts, changed) VALUES {','.join([row] * len(convs))}{upsert}"
    )
    values: list[Value] = []
    for conv in convs:
        values += (conv, counts[conv])
    columns = f"conv, last_seq, last_ts, {now}"
    if dialect.returning:
        result = yield f"{insert} RETURNING {columns}", values
    else:
        yield insert, values
        result = yield f"SELECT {columns} FROM Conversation WHERE conv IN ({placeholders(len(convs))})", convs
    heads = {conv: _Advanced((seq - counts[conv], ts), counts[conv], ts) for conv, seq, ts, _ in result.rows}
    return heads, int(result.rows[0][3])


#: Where a conversation does not end where it was said to, its last seq would become NULL, which the database refuses, and
#: with it everything. What `changed` gets stands in `last_ts` too: its place has how many seqs are taken.
_GUARDED = (
    "last_seq = CASE WHEN last_seq = new.last_seq - new.changed THEN new.last_seq END,"
    " last_ts = GREATEST(GREATEST(last_ts, changed), new.last_ts),"
    f" changed = GREATEST(changed, new.last_ts - new.last_ts % {_COARSE})"
)


def _guarded_advance(dialect: Dialect, heads: Mapping[str, _Advanced]) -> Statement:
    """Take each conversation's next seqs, from just where it is believed to end."""
    values: list[Value] = []
    for conv, head in heads.items():
        values += (conv, head.seq, head.ts, head.seq - head.before)
    rows = rows_of(4, len(heads))
    upsert = dialect.upsert("conv", _GUARDED)
    return f"INSERT INTO Conversation (conv, last_seq, last_ts, changed) VALUES {rows}{upsert}", values
