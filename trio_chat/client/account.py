"""Who this client is logged in as, and what it needs to log in again: pure."""

from __future__ import annotations

from typing import Any

from trio_chat.client.incoming import Presence, SignedIn
from trio_chat.client.model import Friend, Group, User
from trio_chat.errors import BadCredentials, RequestError

__all__ = ["Account"]


class Account:
    """The account and its lists.

    `user` is set from a login that succeeded until a logout, or until logging in again is refused; losing the
    connection does not change it. `token` logs in again without the password and is renewed by each login. The
    password is kept in memory, for the case that the token is refused; a login by token never has one.
    """

    def __init__(self) -> None:
        self.user: User | None = None
        self.token: str | None = None
        self.friends: dict[int, Friend] = {}
        self.groups: dict[int, Group] = {}
        self._password: str | None = None

    def enter(self, answer: SignedIn, password: str | None) -> None:
        """A login succeeded; `password` is what it was done with, if it was."""
        self._password = password if password is not None else self._password
        self.user = User(answer.id, answer.name)
        self.token = answer.token
        self.friends = {entry.id: entry.friend() for entry in answer.friends}
        self.groups = {entry.id: entry.group() for entry in answer.groups}

    def leave(self) -> None:
        """Nobody is logged in any more."""
        self.user = self.token = self._password = None
        self.friends = {}
        self.groups = {}

    def credentials(self) -> dict[str, Any] | None:
        """The fields of a LOGIN that logs this account in again, or `None` where there is nothing to do it with."""
        if self.token is not None:
            return {"token": self.token}
        if self.user is not None and self._password is not None:
            return {"id": self.user.id, "password": self._password}
        return None

    def refused(self, error: RequestError) -> bool:
        """The server refused `credentials`. Says whether there is something else to try."""
        if not isinstance(error, BadCredentials) or self.token is None:
            return False
        self.token = None
        return self._password is not None

    def presence(self, presence: Presence) -> None:
        friend = self.friends.get(presence.id)
        if friend is not None:
            self.friends[friend.id] = Friend(friend.id, friend.name, presence.state == "online")
