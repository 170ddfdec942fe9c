"""How often a password was wrong lately: for an account from a place, for a place, for an account."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import attrs

from trio_chat.store.contract import Database, Steps, Value
from trio_chat.store.steps import chunks, placeholders, query, rows_of, transaction

__all__ = ["Failure", "Guesses", "Record"]

#: Subjects in one statement.
_AT_ONCE = 200


@attrs.frozen
class Failure:
    """Wrong passwords count for `subject` (16 bytes) for `lasts` ms, behind those before them; no more than `most` ms in all."""

    subject: bytes
    lasts: int
    most: int


@attrs.frozen
class Record:
    """What is known of a subject, in milliseconds since the epoch by the database's clock.

    `latest` is when the latest wrong password came, `until` when all of them will be forgotten; `now` is when this was read.
    """

    until: int
    latest: int
    now: int


@attrs.frozen
class Guesses:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    @query
    def read(self, subjects: Sequence[bytes]) -> Steps[dict[bytes, Record]]:
        """Those of the subjects for which something is known."""
        now = self.database.dialect.now_ms
        found = yield (
            f"SELECT subject, forgotten, latest, {now} FROM Guess WHERE subject IN ({placeholders(len(subjects))})",
            tuple(subjects),
        )
        return {bytes(subject): Record(until, latest, now) for subject, until, latest, now in found.rows}

    @transaction
    def add(self, failures: Sequence[Failure]) -> Steps[None]:
        """Note wrong passwords for these subjects, each of which is there once."""
        dialect = self.database.dialect
        clock = yield f"SELECT {dialect.now_ms}", ()
        now = int(clock.rows[0][0])
        later = dialect.upsert(
            "subject",
            "forgotten = CASE WHEN forgotten <= ? THEN new.forgotten WHEN forgotten + new.forgotten - ? > ? THEN ?"
            " ELSE forgotten + new.forgotten - ? END, latest = new.latest",
        )
        # In one order, so that two of these seldom wait for each other.
        ordered = sorted(failures, key=lambda each: (each.most, each.subject))
        for most, same in groupby(ordered, key=lambda each: now + each.most):
            for some in chunks(same, _AT_ONCE):
                row: list[Value] = []
                for failure in some:
                    row += [failure.subject, min(now + failure.lasts, most), now]
                yield (
                    f"INSERT INTO Guess (subject, forgotten, latest) VALUES {rows_of(3, len(some))}{later}",
                    [*row, now, now, most, most, now],
                )

    @transaction
    def forget(self) -> Steps[int]:
        """Remove what does not count any more; returns how much that was."""
        result = yield f"DELETE FROM Guess WHERE forgotten < {self.database.dialect.now_ms}", ()
        return result.changed
