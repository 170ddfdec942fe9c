"""How often a password was wrong lately: for an account from a place, for a place, for an account."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_chat.store.contract import Database, Steps, Value
from trio_chat.store.steps import placeholders, query, transaction

__all__ = ["Failure", "Guesses", "Record"]


@attrs.frozen
class Failure:
    """A wrong password counts for `subject` (16 bytes) for `lasts` ms, behind those before it; no more than `most` ms in all."""

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
        """Note a wrong password for each of these subjects."""
        dialect = self.database.dialect
        clock = yield f"SELECT {dialect.now_ms}", ()
        now = int(clock.rows[0][0])
        # In one order, so that two of these never wait for each other.
        for failure in sorted(failures, key=lambda each: each.subject):
            most = now + failure.most
            later = dialect.upsert(
                "subject",
                "forgotten = CASE WHEN forgotten <= ? THEN new.forgotten WHEN forgotten + ? > ? THEN ? ELSE forgotten + ? END,"
                " latest = new.latest",
            )
            row: list[Value] = [failure.subject, now + failure.lasts, now]
            yield (
                f"INSERT INTO Guess (subject, forgotten, latest) VALUES (?, ?, ?){later}",
                [*row, now, failure.lasts, most, most, failure.lasts],
            )

    @transaction
    def forget(self) -> Steps[int]:
        """Remove what does not count any more; returns how much that was."""
        result = yield f"DELETE FROM Guess WHERE forgotten < {self.database.dialect.now_ms}", ()
        return result.changed
