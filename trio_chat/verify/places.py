"""Rules about what one connection gets: each conversation in rising `seq`, from the first undelivered message on.

A connection's frames are compared with what docs/protocol.md says of them:

- The first frame of a conversation is no later than the message after the account's cursor. The cursor is known as an
  upper bound: the highest RECEIVED that any device of the account has sent, and one's own messages right behind it.
- Afterwards each frame is the next message. A REPLY stands in the place of the message that it acknowledges.
- But the REPLY to a `key` that was sent before may come at once: it *may* hold its message's place and need not.
- Of a group it gets what was sent while its account was in it. Nothing more comes once the connection was told that it
  is out; other nodes hear of that within seconds. Who comes back goes on where the group is then. A client that reads
  late may be told of one departure, and get what came after he was back, when he has left once more.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator

import attrs

from trio_chat.verify.courses import Courses
from trio_chat.verify.facts import Asked, Session, Violation
from trio_chat.verify.history import Answered, Closed, Delivered, Left, LoggedIn, LoggedOut, Received, Record

__all__ = ["check_places"]


@attrs.define(eq=False)
class _Place:
    """Where a session is in one conversation."""

    last: int = 0
    record: Record | None = None  # the one that brought it there; None before the first
    had: dict[int, Record] = attrs.field(factory=dict)
    missing: dict[int, Violation] = attrs.field(factory=dict)
    floating: set[int] = attrs.field(factory=set)
    sent: int = -1  # the highest index of a request of this session that was acknowledged here
    answer: Answered | None = None
    # What has told the session that it is not in the group any more, and that record's place in the history.
    out: tuple[int, Left | Answered] | None = None
    # How often it was told so: by each kind of record at most once for each time that its account has left.
    told: Counter[type[Record]] = attrs.field(factory=Counter)


@attrs.define
class _Cursor:
    """How far an account can have received at most; `reach` counts its own messages behind that too."""

    received: Received | None = None
    reach: int = 0


class _Reader:
    def __init__(self, courses: Courses) -> None:
        self.courses = courses
        self.facts = courses.facts
        self.sessions: dict[int, Session] = {}
        self.places: dict[int, dict[str, _Place]] = {}
        self.cursors: dict[tuple[int, str], _Cursor] = {}
        self._logins = iter(courses.facts.sessions)
        self._all: list[_Place] = []

    def read(self) -> Iterator[Violation]:
        for index, record in enumerate(self.facts.records):
            match record:
                case LoggedIn():
                    self.sessions[record.connection] = next(self._logins)
                    self.places[record.connection] = {}
                case LoggedOut() | Closed():
                    self.sessions.pop(record.connection, None)
                case Received() if record.connection in self.sessions:
                    self._receive(self.sessions[record.connection].user, record)
                case Delivered() if record.connection in self.sessions:
                    yield from self._deliver(index, self.sessions[record.connection], record)
                case Delivered():
                    says = f"connection {record.connection}, which is not logged in, got {record.conv}/{record.seq}"
                    yield Violation("delivered-to-a-stranger", says, [record])
                case Answered() if record.seq and not record.error:
                    yield from self._answer(index, record)
                case Left() | Answered() if record.connection in self.sessions:
                    self._leave(index, self.sessions[record.connection], record)
                case _:
                    pass

    def _receive(self, user: int, record: Received) -> None:
        cursor = self.cursors.setdefault((user, record.conv), _Cursor())
        if cursor.received is None or record.seq > cursor.received.seq:
            cursor.received = record

    def _leave(self, index: int, session: Session, record: Left | Answered) -> None:
        conv = record.conv
        if isinstance(record, Answered):
            asked = self.facts.requests.get((record.connection, record.ref))
            if asked is None or asked.record.kind != "LEAVE_GROUP" or record.error:
                return
            conv = asked.record.conv
        place = self._place(session, conv)
        place.out = (index, record)
        place.told[type(record)] += 1

    def _place(self, session: Session, conv: str) -> _Place:
        places = self.places[session.connection]
        if conv not in places:
            places[conv] = _Place()
            self._all.append(places[conv])
        return places[conv]

    def _deliver(self, index: int, session: Session, record: Delivered) -> Iterator[Violation]:
        conv, seq = record.conv, record.seq
        stranger = self._stranger(index, session, record)
        if stranger is not None:
            yield stranger
            return
        place = self._place(session, conv)
        if place.record is not None and seq <= place.last:
            yield self._late(session, place, record, conv, seq)
        else:
            self._advance(index, session, place, record, conv, seq)

    def _late(self, session: Session, place: _Place, record: Record, conv: str, seq: int) -> Violation:
        what = "the REPLY" if isinstance(record, Answered) else "the message"
        if seq in place.had:
            says = f"connection {session.connection} got {what} {conv}/{seq}, which it had got before"
            return Violation("delivered-twice", says, [place.had[seq], record])
        assert place.record is not None
        place.missing.pop(seq, None)  # it was not left out, it is late
        says = f"connection {session.connection} got {what} {conv}/{seq} after {conv}/{place.last}"
        return Violation("fall", says, [place.record, record])

    def _stranger(self, index: int, session: Session, record: Delivered) -> Violation | None:
        user, conv, seq = session.user, record.conv, record.seq
        if not self.courses.is_party(user, conv):
            says = f"user {user} got {conv}/{seq} and is not in {conv}"
            return Violation("delivered-to-a-stranger", says, [session.began, record])
        if conv.startswith("d:"):
            return None
        place = self._place(session, conv)
        step = self.courses.membership(user, conv).at(index)
        if step.holds is False:
            return self._former_member(index, session, record, place, step.since)
        floor = self.courses.floor(user, conv, index)
        if floor is None:
            return None
        since, before = floor
        if seq <= before.seq and self.courses.overdue(since, self._earliest(session, conv, seq)):
            says = f"user {user} got {conv}/{seq}, which is from before he was in {conv}"
            return Violation("delivered-to-a-stranger", says, [session.began, before, record])
        return None

    def _earliest(self, session: Session, conv: str, seq: int) -> int:
        """The record after which the server can have sent a message to a session, at the earliest.

        Who reads slowly gets it much later: perhaps when his account, over another connection, has left and come back.
        """
        sent = self.facts.first_sent(conv, seq)
        return session.asked if sent is None else max(session.asked, sent.index)

    def _former_member(
        self, index: int, session: Session, record: Delivered, place: _Place, since: int
    ) -> Violation | None:
        user, conv, seq = session.user, record.conv, record.seq
        sent = self.facts.first_sent(conv, seq)
        told = place.out[1] if place.out is not None and since <= place.out[0] else None
        if told is not None and self._told_of_all(index, session, place, conv):
            says = (
                f"connection {session.connection} got {conv}/{seq} after it was told that it is not in {conv} any more"
            )
        elif sent is not None and sent.index > since and self.courses.overdue(since, sent.index):
            says = f"user {user} got {conv}/{seq}, which was sent when he was not in {conv}"
        else:
            return None
        why: Record | None = told or (self.facts.records[since] if since >= 0 else None)
        shown = [session.began, *([why] if why else []), *([sent.record] if sent else []), record]
        return Violation("delivered-to-a-stranger", says, shown)

    def _told_of_all(self, index: int, session: Session, place: _Place, conv: str) -> bool:
        """Whether what a session was told last cannot be of an earlier departure than its account's last."""
        departures = self.courses.departures(session.user, conv, session.asked, index)
        return max(place.told.values()) >= departures

    def _answer(self, index: int, record: Answered) -> Iterator[Violation]:
        asked = self.facts.requests.get((record.connection, record.ref))
        session = self.sessions.get(record.connection)
        if asked is None or asked.message is None or session is None or asked.answers[0] is not record:
            return
        # Where the message is: an answer that says something else is told of by another rule, and one that is nowhere too.
        message = self.facts.where.get(asked.message)
        if message is None and record.conv in self.facts.read:
            return
        conv, seq = (record.conv, record.seq) if message is None else (message.conv, message.seq)
        place = self._place(session, conv)
        requests = self.facts.sent[asked.message]
        if len(requests) > 1 and (requests[0] is not asked or requests[1].index < index):
            place.floating.add(seq)
        elif place.record is not None and seq <= place.last:
            yield self._late(session, place, record, conv, seq)
        else:
            self._advance(index, session, place, record, conv, seq)
            yield from self._in_order(place, asked, record)

    def _in_order(self, place: _Place, asked: Asked, record: Answered) -> Iterator[Violation]:
        """Messages of one connection to one conversation have rising seqs in the order in which they were sent."""
        before = place.answer
        if before is not None and asked.index < place.sent:
            first = self.facts.requests[before.connection, before.ref].record
            says = f"connection {record.connection} sent {first.text!r} and {asked.record.text!r} in the other order"
            yield Violation("swapped", says, [first, asked.record, before, record])
        if asked.index > place.sent:
            place.sent, place.answer = asked.index, record

    def _advance(
        self, index: int, session: Session, place: _Place, record: Delivered | Answered, conv: str, seq: int
    ) -> None:
        last = self._goes_on_after(index, session, place, conv, seq)
        if last is not None and self._missing(place, last, seq):
            if place.record is None:
                received = self.cursors[session.user, conv].received
                says = f"user {session.user} has received {conv} up to {last} at most, and a login begins with {seq}"
                shown: list[Record] = [*([received] if received else []), session.began, record]
            else:
                says = f"connection {session.connection} got {conv}/{seq} next after {conv}/{last}"
                shown = [place.record, record]
            place.missing |= dict.fromkeys(range(last + 1, seq), Violation("hole", says, shown))
        place.last, place.record = seq, record
        place.had[seq] = record

    def _goes_on_after(self, index: int, session: Session, place: _Place, conv: str, until: int) -> int | None:
        """What a session's next message of a conversation has to follow, at most; None where nothing can be said."""
        if place.record is None:
            return self._reach(session.user, conv, until, index)
        course = self.courses.membership(session.user, conv)
        if not course.ends:
            return place.last
        step, earliest = course.at(index), self._earliest(session, conv, place.last)
        if step.holds and step.since <= earliest and self.courses.overdue(step.since, earliest):
            return place.last
        # He was out, perhaps, since then: it goes on like after a login.
        reach = self._reach(session.user, conv, until, index)
        return None if reach is None else max(reach, place.last)

    def holes(self) -> Iterator[Violation]:
        """What did not come later either."""
        for place in self._all:
            yield from {id(violation): violation for violation in place.missing.values()}.values()

    @staticmethod
    def _missing(place: _Place, last: int, seq: int) -> bool:
        """Whether a message between the two has not come in any form."""
        return seq > last + 1 and any(between not in place.floating for between in range(last + 1, seq))

    def _reach(self, user: int, conv: str, until: int, index: int) -> int | None:
        """The highest seq that counts as received by a user, as far as it matters for a frame `until`."""
        base = self.courses.base(user, conv, index)
        cursor = self.cursors.setdefault((user, conv), _Cursor())
        known = cursor.received.seq if cursor.received is not None else None
        if base is None and (known is None or self.courses.membership(user, conv).ends):
            return None
        cursor.reach = max(cursor.reach, base or 0, known or 0)
        while cursor.reach + 1 < until and self.facts.sender(conv, cursor.reach + 1) == user:
            cursor.reach += 1
        return cursor.reach

    def undelivered(self) -> Iterator[Violation]:
        """Who was there at the end has got everything that is his."""
        index = len(self.facts.records) - 1
        for connection, session in self.sessions.items():
            for conv, read in self.facts.read.items():
                if not self.courses.is_party(session.user, conv):
                    continue
                log = self.facts.logs[conv]
                top = max(log, default=0)
                place = self.places[connection].get(conv) or _Place()
                last = self._goes_on_after(index, session, place, conv, top + 1)
                if last is not None and self._missing(place, last, top + 1):
                    first = next(seq for seq in range(last + 1, top + 1) if seq not in place.floating)
                    says = f"user {session.user} was there at the end, and connection {connection} never got {conv}/{first}"
                    shown: list[Record] = [place.record or session.began]
                    if first in log:
                        shown.append(log[first])
                    yield Violation("undelivered", says, [*shown, read])


def check_places(courses: Courses) -> Iterator[Violation]:
    """What each connection got, in the order in which it came; and what it had not got at the end."""
    reader = _Reader(courses)
    yield from reader.read()
    yield from reader.holes()
    yield from reader.undelivered()
