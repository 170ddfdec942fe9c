"""Accounts, their friends, and the tokens that log them in again."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import attrs

from trio_chat.errors import AlreadyExists, BadInvitation, Forbidden, NameTaken, NoSuchUser
from trio_chat.names import user_forms
from trio_chat.store.contract import UNBOUNDED, Database, Steps, UniqueViolation, Value
from trio_chat.store.invitations import use_invitation
from trio_chat.store.names import claim, find_owner
from trio_chat.store.presence import StateChange
from trio_chat.store.steps import placeholders, query, transaction

__all__ = ["Account", "Accounts", "Friend", "TokenUse"]

_ACCOUNT = "id, name, password, epoch"


@attrs.frozen
class Account:
    """An account as it logs in; `password` is its argon2 hash, `epoch` counts how often all its logins were ended."""

    id: int
    name: str
    password: str
    epoch: int


@attrs.frozen
class TokenUse:
    """A login by a token, given by its digest; `client` and `address` are where it is used."""

    digest: bytes
    client: str = ""
    address: str = ""


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
    """All may raise `Unavailable`; cancelling is safe. A list has at most `most_friends`."""

    database: Database
    most_friends: int = UNBOUNDED

    @transaction
    def register(self, name: str, password: str, invitation: bytes | None = None, now: int = 0) -> Steps[int]:
        """Store a new account and return its id; an `invitation` (its digest) is used up by it.

        Raises `NameTaken` where one of that name, or like it, exists, and `BadInvitation` where it is none at `now`, in
        milliseconds since the epoch.
        """
        try:
            if invitation is not None and not (yield from use_invitation(self.database.dialect, invitation, now)):
                raise BadInvitation
            result = yield "INSERT INTO User (name, password, named) VALUES (?, ?, 1)", (name, password)
            yield from claim("user", result.inserted, user_forms(name))
        except UniqueViolation:
            raise NameTaken from None
        return result.inserted

    @query
    def by_id(self, userid: int) -> Steps[Account | None]:
        result = yield f"SELECT {_ACCOUNT} FROM User WHERE id = ? AND deleted = 0", (userid,)
        return Account(*result.rows[0]) if result.rows else None

    @query
    def by_name(self, name: str) -> Steps[Account | None]:
        """The account of this name; where there is none, the one whose name is the same but for capitals and the like."""
        result = yield f"SELECT {_ACCOUNT} FROM User WHERE name = ? AND deleted = 0", (name,)
        if not result.rows:
            owner = yield from find_owner("user", user_forms(name))
            result = yield f"SELECT {_ACCOUNT} FROM User WHERE id = ? AND deleted = 0", (owner or 0,)
        return Account(*result.rows[0]) if result.rows else None

    @query
    def find(self, name: str) -> Steps[Friend | None]:
        """What others may know of an account, found as `by_name` does."""
        result = yield "SELECT id, name, state, changed FROM User WHERE name = ? AND deleted = 0", (name,)
        if not result.rows:
            owner = yield from find_owner("user", user_forms(name))
            result = yield "SELECT id, name, state, changed FROM User WHERE id = ? AND deleted = 0", (owner or 0,)
        return Friend(*result.rows[0]) if result.rows else None

    @query
    def token_addresses(self, userid: int, now: int) -> Steps[list[str]]:
        """Where an account's valid tokens were used last."""
        found = yield "SELECT DISTINCT address FROM Token WHERE userid = ? AND expires > ?", (userid, now)
        return [row[0] for row in found.rows]

    @transaction
    def keep_token(
        self, digest: bytes, userid: int, epoch: int, expires: int, now: int, *, client: str = "", address: str = ""
    ) -> Steps[bool]:
        """Store a new token, unless all logins were ended since `epoch`; returns whether it was stored.

        Expired ones, whosever they are, are removed on the way.
        """
        lock = self.database.dialect.for_update
        found = yield f"SELECT epoch FROM User WHERE id = ? AND deleted = 0{lock}", (userid,)
        if not found.rows or found.rows[0][0] != epoch:
            return False
        yield "DELETE FROM Token WHERE expires <= ?", (now,)
        yield (
            "INSERT INTO Token (digest, userid, expires, created, used, client, address) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (digest, userid, expires, now, now, client, address),
        )
        return True

    @transaction
    def use_tokens(self, uses: Sequence[TokenUse], expires: int, now: int) -> Steps[list[Account | None]]:
        """Renew tokens and return the accounts that they log in; None for one that has expired or been revoked.

        One that is revoked at the same time stays revoked.
        """
        each = {use.digest: use for use in uses}
        digests = placeholders(len(each))
        case = f"CASE digest {'WHEN ? THEN ? ' * len(each)}END"
        values: list[Value] = [expires, now]
        for column in ("client", "address"):
            for digest, use in each.items():
                values += (digest, getattr(use, column))
        yield (
            f"UPDATE Token SET expires = ?, used = ?, client = {case}, address = {case}"
            f" WHERE digest IN ({digests}) AND expires > ?",
            [*values, *each, now],
        )
        found = yield (
            "SELECT t.digest, u.id, u.name, u.password, u.epoch FROM Token t JOIN User u ON u.id = t.userid"
            f" WHERE t.digest IN ({digests}) AND t.expires > ?",
            [*each, now],
        )
        accounts = {bytes(digest): Account(*account) for digest, *account in found.rows}
        return [accounts.get(use.digest) for use in uses]

    @transaction
    def revoke_token(self, digest: bytes) -> Steps[None]:
        yield "DELETE FROM Token WHERE digest = ?", (digest,)

    @query
    def friends(self, userids: Sequence[int]) -> Steps[dict[int, list[Friend]]]:
        """The friend lists of these users."""
        lists: dict[int, list[Friend]] = {userid: [] for userid in userids}
        result = yield (
            "SELECT f.userid, u.id, u.name, u.state, u.changed FROM Friend f JOIN User u ON u.id = f.friendid"
            f" WHERE f.userid IN ({placeholders(len(lists))}) ORDER BY f.userid, u.id",
            list(lists),
        )
        for userid, *friend in result.rows:
            lists[userid].append(Friend(*friend))
        return lists

    @transaction
    def add_friend(self, userid: int, friendid: int) -> Steps[Friend]:
        """Put `friendid` on the list of `userid`. Raises `NoSuchUser`, `AlreadyExists`, `Forbidden`."""
        found = yield "SELECT id, name, state, changed FROM User WHERE id = ? AND deleted = 0", (friendid,)
        if not found.rows:
            raise NoSuchUser
        count = yield "SELECT COUNT(*) FROM Friend WHERE userid = ?", (userid,)
        if count.rows[0][0] >= self.most_friends:
            raise Forbidden(f"you have {self.most_friends} friends, which is the most", limit="friends")
        try:
            yield "INSERT INTO Friend (userid, friendid) VALUES (?, ?)", (userid, friendid)
        except UniqueViolation:
            raise AlreadyExists("this user is on your list already") from None
        return Friend(*found.rows[0])
