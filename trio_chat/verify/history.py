"""The history of a run: what clients asked, got and saw, in the order in which they did; and its file, JSON by lines.

It is told from the clients' side alone: a request is recorded just before it is sent, everything else when it has come.
All records of one history have one clock, whose zero does not matter; `at` is in seconds and never falls.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import attrs
import msgspec

__all__ = [
    "Answered",
    "BadHistory",
    "Closed",
    "Delivered",
    "FaultBegan",
    "FaultEnded",
    "Left",
    "LogRead",
    "Logged",
    "LoggedIn",
    "LoggedOut",
    "Message",
    "Noticed",
    "Opened",
    "Received",
    "Record",
    "Requested",
    "read_lines",
    "to_line",
]


class BadHistory(ValueError):
    """A file is not a history; the text names the line."""


@attrs.define
class Opened:
    """A client has a connection; `connection` is its number in the history, never used again, `client` its name."""

    at: float
    connection: int
    client: str = ""


@attrs.define
class LoggedIn:
    """LOGIN_ACK has come: from here on the connection belongs to `user`, who is in `groups` (their conversations)."""

    at: float
    connection: int
    user: int
    groups: list[str] = attrs.field(factory=list)


@attrs.define
class LoggedOut:
    """A LOGOUT has succeeded; the connection may log in anew."""

    at: float
    connection: int


@attrs.define
class Closed:
    """A connection has ended. One without this record was open when the history ended."""

    at: float
    connection: int
    why: str = ""


@attrs.define
class Requested:
    """A request that is to be answered; `kind` is the protocol's name, `conv`, `key` and `text` are a message's.

    `conv` is also of a group that is joined or left, `about` is who is removed from one, blocked or unblocked.
    """

    at: float
    connection: int
    ref: int | str
    kind: str
    conv: str = ""
    key: str | None = None
    text: str = ""
    about: int = 0


@attrs.define
class Answered:
    """The answer to a request: `error` is the protocol's name of the failure, empty for success.

    `conv`, `seq` and `ts` are a message's; a group that was created has its `conv` too.
    """

    at: float
    connection: int
    ref: int | str
    error: str = ""
    conv: str = ""
    seq: int = 0
    ts: int = 0


@attrs.define
class Delivered:
    """A message has come over a connection."""

    at: float
    connection: int
    conv: str
    seq: int
    sender: int
    key: str | None
    text: str
    ts: int = 0


@attrs.define
class Received:
    """A client has said that all of a conversation up to `seq` is safe with it."""

    at: float
    connection: int
    conv: str
    seq: int


@attrs.define
class Noticed:
    """A client was told the state of a friend: by PRESENCE, or in the answer to LOGIN or ADD_FRIEND."""

    at: float
    connection: int
    friend: int
    state: str


@attrs.define
class Left:
    """A client was told that its account is not in a group any more, by a LEAVE_GROUP that it had not asked for."""

    at: float
    connection: int
    conv: str


@attrs.define
class FaultBegan:
    """Something is broken from now on; `kind` is like `node-kill`, the part before the dash says what was hit."""

    at: float
    number: int
    kind: str
    target: str = ""


@attrs.define
class FaultEnded:
    """What was broken is whole again; what follows from it may take its time."""

    at: float
    number: int


@attrs.define
class Logged:
    """A message as HISTORY shows it at the end of the run."""

    at: float
    conv: str
    seq: int
    sender: int
    key: str | None
    text: str
    ts: int = 0


@attrs.define
class LogRead:
    """The whole log of a conversation was read, at the end of the run: the records `Logged` before this one."""

    at: float
    conv: str
    by: int


Message = Delivered | Logged

Record = (
    Opened
    | LoggedIn
    | LoggedOut
    | Closed
    | Requested
    | Answered
    | Delivered
    | Received
    | Noticed
    | Left
    | FaultBegan
    | FaultEnded
    | Logged
    | LogRead
)

_EVENTS: dict[str, type[Record]] = {
    "opened": Opened,
    "logged-in": LoggedIn,
    "logged-out": LoggedOut,
    "closed": Closed,
    "requested": Requested,
    "answered": Answered,
    "delivered": Delivered,
    "received": Received,
    "noticed": Noticed,
    "left": Left,
    "fault-began": FaultBegan,
    "fault-ended": FaultEnded,
    "logged": Logged,
    "log-read": LogRead,
}
_NAMES = {kind: name for name, kind in _EVENTS.items()}


def to_line(record: Record) -> bytes:
    """A record as one line of JSON, without its newline."""
    fields: dict[str, Any] = msgspec.to_builtins(record)
    return msgspec.json.encode({"event": _NAMES[type(record)], **fields})


def read_lines(lines: Iterable[bytes]) -> Iterator[Record]:
    """Read records back. Raises `BadHistory`."""
    for number, line in enumerate(lines, 1):
        try:
            fields = msgspec.json.decode(line, type=dict[str, Any])
            event = _EVENTS[fields.pop("event")]
            yield msgspec.convert(fields, event)
        except (msgspec.MsgspecError, KeyError, UnicodeDecodeError, RecursionError) as error:
            raise BadHistory(f"line {number} is not a record of a history: {error}") from None
