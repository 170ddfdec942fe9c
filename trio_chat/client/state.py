"""The states of a client's session, and what moves it from one to the other.

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

from trio_chat.wire.messages import Kind

__all__ = ["ALLOWED", "TRANSITIONS", "Cause", "State"]


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
    }
)
