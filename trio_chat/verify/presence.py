"""The rule about presence: what a client is told of a friend is right, but for the time that telling may take.

Right is what the clients themselves know: a user is there while one of his connections is logged in, but for those from
whom he is apart.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterator

from trio_chat.verify.courses import Courses
from trio_chat.verify.facts import Facts, Promises, Session, Violation
from trio_chat.verify.history import Closed, LoggedIn, LoggedOut, Noticed, Record
from trio_chat.verify.spans import Spans, merged, unexcused

__all__ = ["check_presence", "excuses"]

#: Faults after which the cluster first has to find out that a node is dead, or that it is not.
_NODE_FAULTS = ("node-", "database-", "partition-")

#: When somebody came or left, None where nobody can say which; and what shows it.
Change = tuple[float, bool | None, Record | None]


def check_presence(courses: Courses) -> Iterator[Violation]:
    """Each friend of each session: what the session believes is not wrong for longer than it may be."""
    facts, promises = courses.facts, courses.promises
    truth = _truth(facts)
    spans = excuses(facts, promises)
    notices: dict[tuple[int, int], list[Noticed]] = {}
    sessions: dict[int, int] = {}
    logins = 0
    for record in facts.records:
        if isinstance(record, LoggedIn):
            sessions[record.connection] = logins
            logins += 1
        elif isinstance(record, Noticed) and record.connection in sessions:
            notices.setdefault((sessions[record.connection], record.friend), []).append(record)
    for (number, friend), told in notices.items():
        session = facts.sessions[number]
        theirs = truth.get(friend, [])
        if parted := courses.parted(session.user, friend):
            theirs = _as_shown(courses, session.user, friend, theirs, parted)
        yield from _judge(facts, promises, session, friend, told, theirs, spans)


def _judge(
    facts: Facts,
    promises: Promises,
    session: Session,
    friend: int,
    told: list[Noticed],
    truth: list[Change],
    spans: Spans,
) -> Iterator[Violation]:
    end = facts.ended if session.end is None else session.end.at
    first = bisect_right(truth, told[0].at, key=_when)
    past = truth[first - 1] if first else None
    changes: list[Noticed | Change] = [*told, *truth[first : bisect_left(truth, end, key=_when)]]
    changes.sort(key=lambda change: change.at if isinstance(change, Noticed) else change[0])
    believed = told[0]
    is_there, why = (past[1], past[2]) if past is not None else (False, None)
    since = told[0].at  # when belief and truth began to be as they are
    for change in [*changes, None]:
        at = end if change is None else change.at if isinstance(change, Noticed) else change[0]
        if isinstance(change, Noticed) and change.state == believed.state:
            continue
        if is_there is not None and (believed.state == "online") != is_there:
            longest = max((stop - start for start, stop in unexcused(since, at, spans)), default=0.0)
            if longest > promises.presence:
                says = (
                    f"connection {session.connection} believed user {friend} to be {believed.state} "
                    f"for {longest:.1f} s while he was {'online' if is_there else 'offline'}"
                )
                yield Violation("presence-wrong", says, [believed, *([why] if why else [])])
        if isinstance(change, Noticed):
            believed = change
        elif change is not None:
            is_there, why = change[1], change[2]
        since = at


def _when(change: Change) -> float:
    return change[0]


def _truth(facts: Facts) -> dict[int, list[Change]]:
    """When each user came and left."""
    counts: dict[int, int] = {}
    owners: dict[int, int] = {}
    changes: dict[int, list[Change]] = {}
    for record in facts.records:
        if isinstance(record, LoggedIn):
            owners[record.connection] = user = record.user
            counts[user] = counts.get(user, 0) + 1
            if counts[user] == 1:
                changes.setdefault(user, []).append((record.at, True, record))
        elif isinstance(record, (Closed, LoggedOut)) and record.connection in owners:
            user = owners.pop(record.connection)
            counts[user] -= 1
            if not counts[user]:
                changes.setdefault(user, []).append((record.at, False, record))
    return changes


def _as_shown(courses: Courses, user: int, friend: int, truth: list[Change], parted: list[int]) -> list[Change]:
    """When a friend came and left as a user is to see it."""
    records = courses.facts.records
    changes = [(at, is_there, why) for at, is_there, why in truth]
    moments: list[tuple[float, int, Change | int]] = [(change[0], 1, change) for change in changes]
    moments += [(records[index].at, 0, index) for index in parted if index >= 0]
    is_there: bool | None = False
    apart: bool | None = False
    why: Record | None = None
    shown: list[Change] = []
    for at, _, moment in sorted(moments, key=lambda each: each[:2]):
        if isinstance(moment, int):
            apart, why = courses.apart(user, friend, moment).holds, records[moment]
        else:
            is_there, why = moment[1], moment[2]
        seen = False if apart or not is_there else is_there if apart is False else None
        if not shown or shown[-1][1] is not seen:
            shown.append((at, seen, why))
    return shown


def excuses(facts: Facts, promises: Promises) -> Spans:
    """When presence may be wrong because of faults: sorted, without overlap."""
    spans = []
    for fault, end in facts.faults:
        settling = promises.presence
        if fault.kind.startswith(_NODE_FAULTS):
            settling += promises.node_death
        spans.append((fault.at, end + settling))
    return merged(spans)
