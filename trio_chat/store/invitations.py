"""Invitations: digests of codes that let somebody register, each a number of times."""

from __future__ import annotations

import attrs

from trio_chat.store.contract import Database, Dialect, Steps
from trio_chat.store.steps import query, transaction

__all__ = ["InvitationRecord", "InvitationTable", "use_invitation"]


@attrs.frozen
class InvitationRecord:
    """`uses` is how often it still lets somebody register. Times in milliseconds since the epoch."""

    digest: bytes
    uses: int
    expires: int
    created: int


@attrs.frozen
class InvitationTable:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    @transaction
    def add(self, digest: bytes, uses: int, expires: int, now: int) -> Steps[None]:
        """Store a new invitation. Those that nobody can use any more are removed on the way."""
        yield "DELETE FROM Invitation WHERE expires <= ? OR uses <= 0", (now,)
        yield (
            "INSERT INTO Invitation (digest, uses, expires, created) VALUES (?, ?, ?, ?)",
            (digest, uses, expires, now),
        )

    @query
    def open(self, now: int) -> Steps[list[InvitationRecord]]:
        """Those that can be used, the oldest first."""
        found = yield (
            "SELECT digest, uses, expires, created FROM Invitation WHERE expires > ? AND uses > 0"
            " ORDER BY created, digest",
            (now,),
        )
        return [InvitationRecord(bytes(row[0]), *row[1:]) for row in found.rows]

    @transaction
    def revoke(self, start: bytes) -> Steps[int]:
        """Remove the invitations whose digest begins so; returns how many there were."""
        found = yield "SELECT digest FROM Invitation", ()
        digests = [bytes(row[0]) for row in found.rows if bytes(row[0]).startswith(start)]
        for digest in digests:
            yield "DELETE FROM Invitation WHERE digest = ?", (digest,)
        return len(digests)


def use_invitation(dialect: Dialect, digest: bytes, now: int) -> Steps[bool]:
    """In a registration's transaction: use an invitation up; returns whether it was good.

    Where the registration fails it is not used: of any number at once, on whatever nodes, no more succeed than it has uses.
    """
    found = yield (
        f"SELECT uses FROM Invitation WHERE digest = ? AND expires > ?{dialect.for_update}",
        (digest, now),
    )
    if not found.rows or found.rows[0][0] < 1:
        return False
    yield "UPDATE Invitation SET uses = uses - 1 WHERE digest = ?", (digest,)
    return True
