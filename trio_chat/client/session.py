"""Where a client's session stands, who is logged in, and whether the server still shows signs of life: pure.

              CONNECTED            GREETED               LOGIN_SENT              ACCEPTED
    OFFLINE ------------> GREETING ---------> ANONYMOUS ------------> SIGNING_IN ----------> ONLINE
       ^                                        ^  ^                      |                     |
       |                                        |  +------ REFUSED -------+                     |
       |                                        +---------------------- SIGNED_OUT -------------+
       +---- LOST, from any of them

A pair that is not in the table cannot happen; asking for it is a defect of the library.
"""

from __future__ import annotations

from enum import Enum, auto
from types import MappingProxyType
from typing import Any

from trio_chat.client.errors import ConnectionLost
from trio_chat.client.incoming import Presence, SignedIn
from trio_chat.client.model import Friend, Group, User
from trio_chat.errors import BadCredentials, RequestError
from trio_chat.wire.messages import Kind

__all__ = ["ALLOWED", "TRANSITIONS", "Account", "Cause", "Liveness", "State"]


class State(Enum):
    """Where the session stands."""

    OFFLINE = auto()
    GREETING = auto()
    ANONYMOUS = auto()
    SIGNING_IN = auto()
    ONLINE = auto()


class Cause(Enum):
    """What moves the session."""

    CONNECTED = auto()
    GREETED = auto()
    LOGIN_SENT = auto()
    ACCEPTED = auto()
    REFUSED = auto()
    SIGNED_OUT = auto()
    LOST = auto()


TRANSITIONS: MappingProxyType[tuple[State, Cause], State] = MappingProxyType(
    {
        (State.OFFLINE, Cause.CONNECTED): State.GREETING,
        (State.GREETING, Cause.GREETED): State.ANONYMOUS,
        (State.ANONYMOUS, Cause.LOGIN_SENT): State.SIGNING_IN,
        (State.SIGNING_IN, Cause.ACCEPTED): State.ONLINE,
        (State.SIGNING_IN, Cause.REFUSED): State.ANONYMOUS,
        (State.ONLINE, Cause.SIGNED_OUT): State.ANONYMOUS,
        (State.GREETING, Cause.LOST): State.OFFLINE,
        (State.ANONYMOUS, Cause.LOST): State.OFFLINE,
        (State.SIGNING_IN, Cause.LOST): State.OFFLINE,
        (State.ONLINE, Cause.LOST): State.OFFLINE,
    }
)

_ONLINE = frozenset({State.ONLINE})

#: The states in which a request can be sent; before, it waits.
ALLOWED: MappingProxyType[Kind, frozenset[State]] = MappingProxyType(
    {
        Kind.HELLO: frozenset({State.GREETING}),
        Kind.LOGIN: frozenset({State.ANONYMOUS}),
        Kind.REGISTER: frozenset({State.ANONYMOUS, State.ONLINE}),
        Kind.PING: frozenset({State.ANONYMOUS, State.SIGNING_IN, State.ONLINE}),
        Kind.LOGOUT: _ONLINE,
        Kind.DIRECT: _ONLINE,
        Kind.GROUP: _ONLINE,
        Kind.ADD_FRIEND: _ONLINE,
        Kind.CREATE_GROUP: _ONLINE,
        Kind.JOIN_GROUP: _ONLINE,
        Kind.READ: _ONLINE,
        Kind.HISTORY: _ONLINE,
        Kind.CONVERSATIONS: _ONLINE,
        Kind.TYPING: _ONLINE,
        Kind.FIND_USER: _ONLINE,
        Kind.SEARCH: _ONLINE,
        Kind.GROUP_INFO: _ONLINE,
        Kind.CHANGE_PASSWORD: _ONLINE,
        Kind.LOGINS: _ONLINE,
        Kind.REVOKE_LOGIN: _ONLINE,
        Kind.LOGOUT_EVERYWHERE: _ONLINE,
        Kind.EXPORT: _ONLINE,
        Kind.DELETE_ACCOUNT: _ONLINE,
        Kind.LEAVE_GROUP: _ONLINE,
        Kind.REMOVE_MEMBER: _ONLINE,
        Kind.BLOCK: _ONLINE,
        Kind.UNBLOCK: _ONLINE,
        Kind.BLOCKED: _ONLINE,
    }
)


class Liveness:
    """The silence of the server, measured in heartbeats.

    A server must greet within the time given. After that, two heartbeats without a frame make the client ask (PING);
    one more without an answer, and the connection is given up. `deadline` says when `check` is due.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._greeted = False
        self._asked = False

    def connected(self, now: float, patience: float) -> None:
        """A connection is open; the greeting must come within `patience` seconds."""
        self._greeted = self._asked = False
        self.deadline = now + patience

    def lost(self) -> None:
        self.deadline = None

    def heard(self, now: float, heartbeat: float) -> None:
        """A frame came."""
        self._greeted, self._asked = True, False
        self.deadline = now + 2 * heartbeat

    def check(self, now: float, heartbeat: float) -> bool:
        """Says whether to ask for a sign of life now. Raises `ConnectionLost` where there was none for too long."""
        if self.deadline is None or now < self.deadline:
            return False
        if not self._greeted:
            raise ConnectionLost("the server does not answer the greeting; is it a trio-chat server?")
        if self._asked:
            raise ConnectionLost("the server shows no sign of life")
        self._asked = True
        self.deadline = now + heartbeat
        return True


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

    def password_changed(self, password: str) -> None:
        """The account has a new password: it is what logs in again where the token is refused."""
        self._password = password

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
