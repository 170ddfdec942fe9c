"""What a history says when it is read once: who was where, what was asked, and which message is at which place."""

from __future__ import annotations

from bisect import bisect_right
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
    Member,
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


@attrs.frozen
class Violation:
    """A promise that was not kept: the `rule`'s name, a sentence for people, and the records that show it."""

    rule: str
    says: str
    excerpt: list[Record]


@attrs.define(eq=False)
class Session:
    """A connection from a LOGIN_ACK on, until it ends or logs out; `end` is None where it lived on to the end."""

    connection: int
    user: int
    began: LoggedIn
    end: Closed | LoggedOut | None = None


@attrs.define(eq=False)
class Asked:
    """A request with what became of it; `index` is its place in the history, `message` says which one it sends."""

    record: Requested
    index: int
    message: Identity | None
    user: int = 0
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
    #: When a user asked to be in a group, with the highest seq acknowledged before; and since when he knows.
    asked: dict[tuple[int, str], tuple[Member, int, Answered | None]] = attrs.field(factory=dict)
    sure: dict[tuple[int, str], int] = attrs.field(factory=dict)
    faults: list[tuple[FaultBegan, float]] = attrs.field(factory=list)
    _bases: dict[str, tuple[list[int], list[int]]] = attrs.field(factory=dict)

    def is_party(self, user: int, conv: str) -> bool:
        """Whether a user is, or asked to be, in a conversation at all."""
        if conv.startswith("d:"):
            return str(user) in conv.split(":")[1:]
        return (user, conv) in self.asked

    def sender(self, conv: str, seq: int) -> int | None:
        message = self.places.get(conv, {}).get(seq)
        return None if message is None else message.sender

    def base(self, user: int, conv: str) -> int | None:
        """The highest seq that a member's cursor can have begun at; None where nothing can be said.

        A direct conversation is there from its first message on. Who has joined a group gets what was sent once he
        knew that he is in it, so his cursor began below the lowest of those.
        """
        if conv.startswith("d:"):
            return 0
        since = self.sure.get((user, conv))
        if since is None:
            return None
        if conv not in self._bases:
            self._bases[conv] = self._lowest_after(conv)
        times, lowest = self._bases[conv]
        index = bisect_right(times, since)
        return lowest[index] - 1 if index < len(lowest) else None

    def _lowest_after(self, conv: str) -> tuple[list[int], list[int]]:
        """For each message of a conversation when it was first sent, rising; and the lowest seq from there on."""
        found = []
        for seq, message in self.places.get(conv, {}).items():
            requests = self.sent.get(identity(message))
            if requests:
                found.append((requests[0].index, seq))
        found.sort()
        lowest = [seq for _, seq in found]
        for index in range(len(lowest) - 2, -1, -1):
            lowest[index] = min(lowest[index], lowest[index + 1])
        return [at for at, _ in found], lowest


def identity(record: Requested | Message, sender: int = 0) -> Identity:
    """Which message a record is about; `sender` is a request's."""
    who = sender if isinstance(record, Requested) else record.sender
    return (who, record.key, "", "") if record.key is not None else (who, None, record.conv, record.text)


def gather(history: Iterable[Record]) -> Facts:
    """Read a history through. Nothing is judged here."""
    facts = Facts(list(history))
    current: dict[int, Session] = {}
    began: dict[int, FaultBegan] = {}
    highest: dict[str, Answered] = {}
    for index, record in enumerate(facts.records):
        facts.ended = record.at
        match record:
            case Opened():
                facts.heard[record.connection] = record.at
            case LoggedIn():
                facts.heard[record.connection] = record.at
                current[record.connection] = Session(record.connection, record.user, record)
                facts.sessions.append(current[record.connection])
            case Closed() | LoggedOut():
                session = current.pop(record.connection, None)
                if session is not None:
                    session.end = record
            case Requested():
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
                    facts.requests[record.connection, record.ref].answers.append(record)
                if record.seq and (record.conv not in highest or highest[record.conv].seq < record.seq):
                    highest[record.conv] = record
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
            case Member():
                top = highest.get(record.conv)
                facts.asked.setdefault((record.user, record.conv), (record, top.seq if top else 0, top))
                if record.sure:
                    facts.sure.setdefault((record.user, record.conv), index)
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
