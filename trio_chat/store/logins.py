"""Logins as they can be listed and ended: the tokens of an account, and its password."""

from __future__ import annotations

import attrs

from trio_chat.store.contract import Database, Steps
from trio_chat.store.steps import query, transaction

__all__ = ["LoginRecord", "Logins", "Standing", "end_logins"]

#: Logins of one account that are listed: the latest used ones.
_LISTED = 500


@attrs.frozen
class LoginRecord:
    """A token; `client` and `address` are those of its latest use. Times in ms since the epoch, 0 where unknown."""

    digest: bytes
    created: int
    used: int
    expires: int
    client: str
    address: str


@attrs.frozen
class Standing:
    """Which of an account's logins are still good: those of these tokens, and those without one of this epoch.

    `gone`: the account is deleted.
    """

    epoch: int
    digests: frozenset[bytes]
    gone: bool


@attrs.frozen
class Logins:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    @query
    def of(self, userid: int, now: int) -> Steps[list[LoginRecord]]:
        """The tokens of an account that have not expired, the latest used first."""
        found = yield (
            "SELECT digest, created, used, expires, client, address FROM Token WHERE userid = ? AND expires > ?"
            f" ORDER BY used DESC, digest LIMIT {_LISTED:d}",
            (userid, now),
        )
        return [LoginRecord(bytes(row[0]), *row[1:]) for row in found.rows]

    @transaction
    def change_password(self, userid: int, epoch: int, password: str, keep: bytes | None) -> Steps[int | None]:
        """Set the hash of a new password, and end all logins but that of the token `keep`. Returns the new epoch.

        None where something has ended all logins since `epoch`: the old password was perhaps no longer it.
        """
        if (yield from self._epoch(userid)) != epoch:
            return None
        yield "UPDATE User SET password = ? WHERE id = ?", (password, userid)
        return (yield from end_logins(self.database, userid, keep))

    @transaction
    def end_all(self, userid: int) -> Steps[None]:
        """End all logins of an account, those under way too."""
        yield from self._epoch(userid)
        yield from end_logins(self.database, userid)

    @transaction
    def revoke(self, userid: int, login: bytes) -> Steps[bool]:
        """End the login whose token's digest begins so; returns whether the account has one."""
        yield from self._epoch(userid)
        found = yield "SELECT digest FROM Token WHERE userid = ?", (userid,)
        digests = [bytes(row[0]) for row in found.rows if bytes(row[0]).startswith(login)]
        if not digests:
            return False
        for digest in digests:
            yield "DELETE FROM Token WHERE digest = ?", (digest,)
        yield f"UPDATE User SET revoked = {_later(self.database)} WHERE id = ?", (userid,)
        return True

    @query
    def standing(self, userid: int) -> Steps[Standing]:
        found = yield "SELECT epoch, deleted FROM User WHERE id = ?", (userid,)
        epoch, deleted = found.rows[0] if found.rows else (-1, 1)
        tokens = yield "SELECT digest FROM Token WHERE userid = ?", (userid,)
        return Standing(epoch, frozenset(bytes(row[0]) for row in tokens.rows), bool(deleted))

    @query
    def revoked_since(self, since: int) -> Steps[tuple[int, list[int]]]:
        """The database's clock (ms since the epoch), and the accounts of which a login was ended at or after `since`."""
        now = yield f"SELECT {self.database.dialect.now_ms}", ()
        found = yield "SELECT id FROM User WHERE revoked >= ?", (since,)
        return int(now.rows[0][0]), [row[0] for row in found.rows]

    def _epoch(self, userid: int) -> Steps[int | None]:
        """Lock an account: its logins come and end one after the other, over all nodes."""
        lock = self.database.dialect.for_update
        found = yield f"SELECT epoch FROM User WHERE id = ? AND deleted = 0{lock}", (userid,)
        return found.rows[0][0] if found.rows else None


def end_logins(database: Database, userid: int, keep: bytes | None = None) -> Steps[int]:
    """In a transaction that has locked the account: end its logins, but that of the token `keep`. Returns the new epoch."""
    yield f"UPDATE User SET epoch = epoch + 1, revoked = {_later(database)} WHERE id = ?", (userid,)
    if keep is None:
        yield "DELETE FROM Token WHERE userid = ?", (userid,)
    else:
        yield "DELETE FROM Token WHERE userid = ? AND digest <> ?", (userid, keep)
    found = yield "SELECT epoch FROM User WHERE id = ?", (userid,)
    epoch: int = found.rows[0][0]
    return epoch


def _later(database: Database) -> str:
    """When something was revoked: now, and after what was before, whatever the clock does."""
    return f"GREATEST(revoked + 1, {database.dialect.now_ms})"
