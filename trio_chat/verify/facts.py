"""What a history says when it is read once: who was where, what was asked, and which message is at which place."""

from __future__ import annotations

from collections.abc import Iterable

import attrs

from trio_chat.verify.history import (
    Answered,
    Closed,
    Delivered,
    FaultBegan,
    FaultEnded,
    Logged,
    LoggedIn,
    LoggedOut,
    LogRead,
    Message,
    Noticed,
    Opened,
    Record,
    Requested,
)

__all__ = ["Asked", "Facts", "Identity", "Promises", "Session", "Violation", "gather", "identity"]

#: Which message it is: its sender with the key, or where it has none with the conversation and the text.
Identity = tuple[int, str | None, str, str]


@attrs.frozen
class Promises:
    """How long the server may take, in seconds."""

    #: To tell a friend who came or left.
    presence: float = 4.0
    #: To notice that a node is dead, or to find its place again after it was taken for dead.
    node_death: float = 15.0
    #: To answer a request, not counting times of faults.
    answer: float = 15.0
    #: To know on every node who has left a group, or was blocked; 0 where there is but one.
    parting: float = 4.0
    #: To have done what was asked and not answered, or never to do it, counted from the end of faults.
    settled: float = 15.0


@attrs.frozen
class Violation:
    """A promise that was not kept: the `rule`'s name, a sentence for people, and the records that show it."""

    rule: str
    says: str
    excerpt: list[Record]


@attrs.define(eq=False)
class Session:
    """A connection from a LOGIN_ACK on, until it ends or logs out; `end` is None where it lived on to the end.

    The login was asked for at the record `asked` at the earliest, and had been answered at the record `index`.
    """

    connection: int
    user: int
    began: LoggedIn
    asked: int
    index: int
    end: Closed | LoggedOut | None = None


@attrs.define(eq=False)
class Asked:
    """A request with what became of it; `index` and `answered` are its place in the history and its first answer's.

    `message` says which one it sends.
    """

    record: Requested
    index: int
    message: Identity | None
    user: int = 0
    answered: int = -1
    answers: list[Answered] = attrs.field(factory=list)


@attrs.define
class Facts:
    """Indices in it are positions in the history."""

    records: list[Record]
    ended: float = 0.0
    sessions: list[Session] = attrs.field(factory=list)
    #: By connection and ref.
    requests: dict[tuple[int, int | str], Asked] = attrs.field(factory=dict)
    #: When a connection last heard from the server.
    heard: dict[int, float] = attrs.field(factory=dict)
    #: The requests for each message, in order.
    sent: dict[Identity, list[Asked]] = attrs.field(factory=dict)
    #: What is at each place: as the log has it, else as the first has seen it. And where each message is.
    places: dict[str, dict[int, Message]] = attrs.field(factory=dict)
    where: dict[Identity, Message] = attrs.field(factory=dict)
    logs: dict[str, dict[int, Logged]] = attrs.field(factory=dict)
    read: dict[str, LogRead] = attrs.field(factory=dict)
    #: For each conversation the highest acknowledgement so far, where it rose.
    highest: dict[str, list[tuple[int, Answered]]] = attrs.field(factory=dict)
    faults: list[tuple[FaultBegan, float]] = attrs.field(factory=list)

    def sender(self, conv: str, seq: int) -> int | None:
        message = self.places.get(conv, {}).get(seq)
        return None if message is None else message.sender

    def first_sent(self, conv: str, seq: int) -> Asked | None:
        """The first request for the message at a place."""
        message = self.places.get(conv, {}).get(seq)
        requests = self.sent.get(identity(message)) if message is not None else None
        return requests[0] if requests else None


def identity(record: Requested | Message, sender: int = 0) -> Identity:
    """Which message a record is about; `sender` is a request's."""
    who = sender if isinstance(record, Requested) else record.sender
    return (who, record.key, "", "") if record.key is not None else (who, None, record.conv, record.text)


def gather(history: Iterable[Record]) -> Facts:
    """Read a history through. Nothing is judged here."""
    facts = Facts(list(history))
    current: dict[int, Session] = {}
    began: dict[int, FaultBegan] = {}
    logins: dict[int, int] = {}
    for index, record in enumerate(facts.records):
        facts.ended = record.at
        match record:
            case Opened():
                facts.heard[record.connection] = record.at
                logins[record.connection] = index
            case LoggedIn():
                facts.heard[record.connection] = record.at
                asked_at = logins.get(record.connection, index)
                current[record.connection] = Session(record.connection, record.user, record, asked_at, index)
                facts.sessions.append(current[record.connection])
            case Closed() | LoggedOut():
                session = current.pop(record.connection, None)
                if session is not None:
                    session.end = record
            case Requested():
                if record.kind == "LOGIN":
                    logins[record.connection] = index
                session = current.get(record.connection)
                message = identity(record, session.user) if record.text and session is not None else None
                asked = facts.requests[record.connection, record.ref] = Asked(
                    record, index, message, session.user if session is not None else 0
                )
                if message is not None:
                    facts.sent.setdefault(message, []).append(asked)
            case Answered():
                facts.heard[record.connection] = record.at
                if (record.connection, record.ref) in facts.requests:
                    asked = facts.requests[record.connection, record.ref]
                    asked.answered = asked.answered if asked.answers else index
                    asked.answers.append(record)
                if record.seq and not record.error:
                    rising = facts.highest.setdefault(record.conv, [])
                    if not rising or rising[-1][1].seq < record.seq:
                        rising.append((index, record))
            case Delivered():
                facts.heard[record.connection] = record.at
                facts.places.setdefault(record.conv, {}).setdefault(record.seq, record)
                facts.where.setdefault(identity(record), record)
            case Logged():
                facts.logs.setdefault(record.conv, {}).setdefault(record.seq, record)
                facts.places.setdefault(record.conv, {})[record.seq] = record
                facts.where[identity(record)] = record
            case Noticed():
                facts.heard[record.connection] = record.at
            case LogRead():
                facts.logs.setdefault(record.conv, {})
                facts.read[record.conv] = record
            case FaultBegan():
                began[record.number] = record
            case FaultEnded() if record.number in began:
                facts.faults.append((began.pop(record.number), record.at))
            case _:
                pass
    facts.faults += [(fault, float("inf")) for fault in began.values()]
    return facts
