"""Finding messages by their words, in the log itself: docs/decisions/0008-search-reads-the-log.md says why."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import attrs

from trio_chat.store.contract import Database, Dialect, Steps, Value
from trio_chat.store.log import COLUMNS, FROM, delivery_of
from trio_chat.store.steps import query
from trio_chat.wire.conversation import parse_conv
from trio_chat.wire.delivery import Delivery

__all__ = ["MessageSearch", "Position", "Range", "position_of"]

#: Where a message is in the order of results: (ts, conv, seq).
Position = tuple[int, str, int]

#: How much one statement looks at: others want to read between two of them.
_MESSAGES, _RANGES = 10_000, 50


@attrs.frozen
class Range:
    """A part of a conversation's log, `after` < seq <= `until`; nothing in it is later than `changed`."""

    conv: str
    after: int
    until: int
    changed: int


@attrs.frozen
class MessageSearch:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    async def search(
        self, userid: int, words: Sequence[str], conv: str | None, before: Position | None, limit: int, window: int
    ) -> list[Delivery]:
        """At most `limit` messages that hold every word, the newest first, from those before a position.

        Only what the account may read now is looked at: its conversations of two, and the groups that it is in; of one
        conversation, or of all, the latest `window` messages, those of the latest conversations first.
        """
        results: list[Delivery] = []
        for ranges in _bundled(await self.ranges(userid, conv, window)):
            # What follows is older: there is nothing better to be found.
            if len(results) >= limit and results[limit - 1].ts > ranges[0].changed:
                break
            results += await self.find(ranges, words, before, limit)
            results.sort(key=position_of, reverse=True)
            del results[limit:]
        return results

    @query
    def ranges(self, userid: int, conv: str | None, window: int) -> Steps[list[Range]]:
        """What an account may read, as `search` looks at it."""
        found = yield (
            "SELECT c.conv, v.last_seq, GREATEST(v.last_ts, v.changed) AS latest"
            " FROM DeliveryCursor c JOIN Conversation v ON v.conv = c.conv"
            " WHERE c.userid = ? AND v.last_seq > 0 ORDER BY latest DESC, c.conv DESC",
            (userid,),
        )
        groups = yield "SELECT groupid FROM GroupUser WHERE userid = ?", (userid,)
        member = {row[0] for row in groups.rows}
        ranges: list[Range] = []
        for name, last_seq, changed in found.rows:
            parties = parse_conv(name)
            if conv not in {None, name} or (parties.users is None and parties.groupid not in member):
                continue
            until = last_seq
            while until > 0 and window > 0:
                size = min(until, window, _MESSAGES)
                ranges.append(Range(name, until - size, until, changed))
                until -= size
                window -= size
        return ranges

    @query
    def find(
        self, ranges: Sequence[Range], words: Sequence[str], before: Position | None, limit: int
    ) -> Steps[list[Delivery]]:
        """The newest messages in these ranges that hold every word, at most `limit`."""
        values: list[Value] = []
        for each in ranges:
            values += (each.conv, each.after, each.until)
        wheres = ["(" + " OR ".join(["(m.conv = ? AND m.seq > ? AND m.seq <= ?)"] * len(ranges)) + ")"]
        if before is not None:
            wheres.append("(m.ts < ? OR (m.ts = ? AND (m.conv < ? OR (m.conv = ? AND m.seq < ?))))")
            ts, conv, seq = before
            values += (ts, ts, conv, conv, seq)
        for word in words:
            condition, patterns = contains(self.database.dialect, "m.msg", word)
            wheres.append(condition)
            values += patterns
        result = yield (
            f"SELECT {COLUMNS} {FROM} WHERE {' AND '.join(wheres)} ORDER BY m.ts DESC, m.conv DESC, m.seq DESC LIMIT {limit:d}",
            values,
        )
        return [delivery_of(row) for row in result.rows]


def _bundled(ranges: Sequence[Range]) -> Iterator[list[Range]]:
    """The ranges in lists, each as much as one statement should look at."""
    bundle: list[Range] = []
    size = 0
    for each in ranges:
        if bundle and (len(bundle) == _RANGES or size + each.until - each.after > _MESSAGES):
            yield bundle
            bundle, size = [], 0
        bundle.append(each)
        size += each.until - each.after
    if bundle:
        yield bundle


def position_of(message: Delivery) -> Position:
    return message.ts, message.conv, message.seq


def contains(dialect: Dialect, column: str, word: str) -> tuple[str, list[Value]]:
    """The condition that a column holds a word, in capitals or not, and its parameters."""
    escaped = word.replace("!", "!!").replace("%", "!%").replace("_", "!_")
    if dialect.name != "sqlite":
        # The column's own collation tells capitals apart; this one neither these nor accents.
        return f"{column} COLLATE utf8mb4_unicode_520_ci LIKE ? ESCAPE '!'", [f"%{escaped}%"]
    # SQLite knows the capitals of ASCII only.
    forms = [escaped] if escaped.isascii() else [escaped.lower(), escaped.upper(), escaped.capitalize(), escaped]
    patterns: list[Value] = [f"%{form}%" for form in dict.fromkeys(forms)]
    return "(" + " OR ".join([f"{column} LIKE ? ESCAPE '!'"] * len(patterns)) + ")", patterns
