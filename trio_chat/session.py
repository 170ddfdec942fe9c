"""The session state machine: pure, one table, no I/O.

A session is what the server knows of one connection: its state, its dialect, who it is.

- A request is allowed in a state where the table has a row for both; any other request is refused and changes nothing.
- State changes on outcomes: the row's new state is entered when the request has succeeded, not when it arrived.
- CLOSED is final: it has no rows.

`docs/architecture.md` holds a diagram that `diagram` makes of the table; a test keeps the two alike.
"""

from __future__ import annotations

from enum import Enum

import attrs

from trio_chat.errors import AlreadyLoggedIn, NotLoggedIn
from trio_chat.wire.messages import Kind

__all__ = ["TRANSITIONS", "Dialect", "Identity", "Session", "State", "diagram"]


class State(Enum):
    ANONYMOUS = "anonymous"
    LOGGED_IN = "logged-in"
    CLOSED = "closed"


class Dialect(Enum):
    CLASSIC = "classic"
    MODERN = "modern"


A, L = State.ANONYMOUS, State.LOGGED_IN

#: (state, request) -> the state after the request has succeeded.
TRANSITIONS: dict[tuple[State, Kind], State] = {
    (A, Kind.HELLO): A,
    (A, Kind.REGISTER): A,
    (A, Kind.LOGIN): L,
    (A, Kind.PING): A,
    (A, Kind.PONG): A,
    (L, Kind.LOGOUT): A,
    (L, Kind.DIRECT): L,
    (L, Kind.GROUP): L,
    (L, Kind.ADD_FRIEND): L,
    (L, Kind.CREATE_GROUP): L,
    (L, Kind.JOIN_GROUP): L,
    (L, Kind.PING): L,
    (L, Kind.PONG): L,
    (L, Kind.RECEIVED): L,
    (L, Kind.READ): L,
    (L, Kind.HISTORY): L,
    (L, Kind.CONVERSATIONS): L,
    (L, Kind.TYPING): L,
    (L, Kind.FIND_USER): L,
    (L, Kind.SEARCH): L,
    (L, Kind.GROUP_INFO): L,
    (L, Kind.CHANGE_PASSWORD): L,
    (L, Kind.LOGINS): L,
    (L, Kind.REVOKE_LOGIN): L,
    (L, Kind.LOGOUT_EVERYWHERE): A,
    (L, Kind.EXPORT): L,
    (L, Kind.DELETE_ACCOUNT): A,
    (L, Kind.LEAVE_GROUP): L,
    (L, Kind.REMOVE_MEMBER): L,
    (L, Kind.BLOCK): L,
    (L, Kind.UNBLOCK): L,
    (L, Kind.BLOCKED): L,
}


#: The same by state, for the check that every request passes.
_ALLOWED = {state: frozenset(kind for each, kind in TRANSITIONS if each is state) for state in State}


@attrs.frozen(weakref_slot=False)
class Identity:
    """Who a logged-in session is. What a client says of itself is never believed."""

    id: int
    name: str


@attrs.define(eq=False, weakref_slot=False)
class Session:
    """One connection's state. `identity` is set exactly while the state is LOGGED_IN."""

    state: State = State.ANONYMOUS
    dialect: Dialect = Dialect.CLASSIC
    identity: Identity | None = None
    _allowed: frozenset[Kind] = _ALLOWED[State.ANONYMOUS]

    def check(self, kind: Kind) -> None:
        """Raise `NotLoggedIn` or `AlreadyLoggedIn` where a request of this kind is not allowed now."""
        if kind not in self._allowed:
            raise AlreadyLoggedIn if self.state is State.LOGGED_IN else NotLoggedIn

    def greeted(self) -> None:
        """HELLO has succeeded: the session speaks the modern dialect."""
        self._enter(Kind.HELLO)
        self.dialect = Dialect.MODERN

    def logged_in(self, identity: Identity) -> None:
        """LOGIN has succeeded."""
        self._enter(Kind.LOGIN)
        self.identity = identity

    def logged_out(self, kind: Kind = Kind.LOGOUT) -> None:
        """LOGOUT, or another request that ends the login, has succeeded: the connection is anonymous again."""
        self._enter(kind)
        self.identity = None

    def close(self) -> None:
        """The connection has ended, for whatever reason. Final; may be called again."""
        self.state = State.CLOSED
        self._allowed = _ALLOWED[State.CLOSED]
        self.identity = None

    def _enter(self, kind: Kind) -> None:
        self.check(kind)
        self.state = TRANSITIONS[self.state, kind]
        self._allowed = _ALLOWED[self.state]


def diagram() -> str:
    """The table as a Mermaid state diagram."""
    lines = ["stateDiagram-v2", f"    [*] --> {_node(A)}"]
    for (state, kind), after in TRANSITIONS.items():
        lines.append(f"    {_node(state)} --> {_node(after)}: {kind.name}")
    lines += [f"    {_node(state)} --> {_node(State.CLOSED)}: end of the connection" for state in (A, L)]
    lines.append(f"    {_node(State.CLOSED)} --> [*]")
    return "\n".join(lines)


def _node(state: State) -> str:
    return state.value.replace("-", "_")
