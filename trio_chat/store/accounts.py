"""Accounts, their friends, and the tokens that log them in again."""

from __future__ import annotations

from typing import Any

import attrs

from trio_chat.errors import AlreadyExists, NameTaken, NoSuchUser
from trio_chat.store.contract import Database, Steps, UniqueViolation
from trio_chat.store.presence import StateChange
from trio_chat.store.steps import query, transaction

__all__ = ["Account", "Accounts", "Friend"]


@attrs.frozen
class Account:
    """An account as it logs in; `password` is its argon2 hash."""

    id: int
    name: str
    password: str


@attrs.frozen
class Friend:
    """Somebody on a friend list; `state` is `online` or `offline`, since `changed` (ms since the epoch)."""

    id: int
    name: str
    state: str
    changed: int

    def fields(self, state: str) -> dict[str, Any]:
        """As on the wire, with what is known of his state by now."""
        return {"id": self.id, "name": self.name, "state": state}

    def as_change(self) -> StateChange:
        return StateChange(self.id, self.state, self.changed)


@attrs.frozen
class Accounts:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    @transaction
    def register(self, name: str, password: str) -> Steps[int]:
        """Store a new account and return its id. Raises `NameTaken`."""
        try:
            result = yield "INSERT INTO User (name, password) VALUES (?, ?)", (name, password)
        except UniqueViolation:
            raise NameTaken from None
        return result.inserted

    @query
    def by_id(self, userid: int) -> Steps[Account | None]:
        result = yield "SELECT id, name, password FROM User WHERE id = ?", (userid,)
        return Account(*result.rows[0]) if result.rows else None

    @query
    def by_name(self, name: str) -> Steps[Account | None]:
        result = yield "SELECT id, name, password FROM User WHERE name = ?", (name,)
        return Account(*result.rows[0]) if result.rows else None

    @query
    def find(self, name: str) -> Steps[Friend | None]:
        """What others may know of an account."""
        result = yield "SELECT id, name, state, changed FROM User WHERE name = ?", (name,)
        return Friend(*result.rows[0]) if result.rows else None

    @transaction
    def keep_token(self, digest: bytes, userid: int, expires: int, now: int) -> Steps[None]:
        """Store a new token. Expired ones, whosever they are, are removed on the way."""
        yield "DELETE FROM Token WHERE expires <= ?", (now,)
        yield "INSERT INTO Token (digest, userid, expires) VALUES (?, ?, ?)", (digest, userid, expires)

    @transaction
    def use_token(self, digest: bytes, expires: int, now: int) -> Steps[Account | None]:
        """Renew a token and return the account that it logs in; None where it has expired or been revoked.

        One that is revoked at the same time stays revoked.
        """
        renewed = yield "UPDATE Token SET expires = ? WHERE digest = ? AND expires > ?", (expires, digest, now)
        if not renewed.changed:
            return None
        result = yield (
            "SELECT u.id, u.name, u.password FROM Token t JOIN User u ON u.id = t.userid WHERE t.digest = ?",
            (digest,),
        )
        return Account(*result.rows[0])

    @transaction
    def revoke_token(self, digest: bytes) -> Steps[None]:
        yield "DELETE FROM Token WHERE digest = ?", (digest,)

    @query
    def friends(self, userid: int) -> Steps[list[Friend]]:
        result = yield (
            "SELECT u.id, u.name, u.state, u.changed FROM Friend f JOIN User u ON u.id = f.friendid"
            " WHERE f.userid = ? ORDER BY u.id",
            (userid,),
        )
        return [Friend(*row) for row in result.rows]

    @transaction
    def add_friend(self, userid: int, friendid: int) -> Steps[Friend]:
        """Put `friendid` on the list of `userid`. Raises `NoSuchUser`, `AlreadyExists`."""
        found = yield "SELECT id, name, state, changed FROM User WHERE id = ?", (friendid,)
        if not found.rows:
            raise NoSuchUser
        try:
            yield "INSERT INTO Friend (userid, friendid) VALUES (?, ?)", (userid, friendid)
        except UniqueViolation:
            raise AlreadyExists("this user is on your list already") from None
        return Friend(*found.rows[0])
