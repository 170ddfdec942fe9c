"""Who was in which group when, and who was apart from whom, as far as a history can tell.

A client knows when it asked and when the answer came; the change itself was somewhere between the two. So at each
record of the history something holds for certain, or does not hold for certain, or nobody can say. A request that was
not answered, or whose outcome the server did not know, may be carried out for a while yet (`Promises.settled`).
"""

from __future__ import annotations

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterable

import attrs

from trio_chat.verify.facts import Asked, Facts, Promises
from trio_chat.verify.history import Answered
from trio_chat.verify.spans import Spans, merged, unexcused

__all__ = ["UNDECIDED", "Course", "Courses", "Step", "chart"]

#: Failures after which a request may have been carried out all the same.
UNDECIDED = frozenset({"unavailable", "internal", "shutting_down"})
#: Faults during which a node may not hear of what others did to memberships and blocks.
_DEAF = ("database-", "partition-", "node-freeze", "node-pause")


@attrs.frozen
class Change:
    """Between two records of the history something began to hold, or was seen to hold; or ceased to, was seen not to.

    What is not `sure` may not have happened.
    """

    holds: bool
    begin: int
    end: float
    sure: bool


@attrs.frozen
class Step:
    """From the record `index` on: whether it holds, None where nobody can say; known `since` a record, -1 for ever."""

    index: int
    holds: bool | None
    since: int


class Course:
    """Whether something held, all through a history; at its beginning it did not."""

    def __init__(self, changes: Iterable[Change]) -> None:
        changes = list(changes)
        self.steps = [Step(-1, holds=False, since=-1)]
        #: Where it has ceased to hold, perhaps.
        self.endings = [change for change in changes if not change.holds]
        #: Whether it has ever ceased to hold, perhaps.
        self.ends = bool(self.endings)
        moments = [(float(change.begin), 0, change) for change in changes]
        moments += [(change.end, 1, change) for _, _, change in moments if change.sure]
        moments.sort(key=lambda moment: moment[:2])
        # Something holds for certain where a change to it began when no change to the opposite can still have followed.
        begun = {True: -1, False: -1}
        ended = {True: -2.0, False: -2.0}
        for index, is_end, change in moments:
            holds = change.holds
            last = self.steps[-1]
            if not is_end:
                ended[holds] = max(ended[holds], change.end)
                if last.holds is not None and last.holds is not holds:
                    self.steps.append(Step(int(index), None, int(index)))
                continue
            begun[holds] = max(begun[holds], change.begin)
            if begun[holds] > ended[not holds] and last.holds is not holds:
                self.steps.append(Step(int(index), holds, int(index)))

    def place(self, index: int) -> int:
        """The place in `steps` of the one that counts at a record."""
        return bisect_right(self.steps, index, key=lambda step: step.index) - 1

    def at(self, index: int) -> Step:
        return self.steps[self.place(index)]


_NEVER = Course(())


@attrs.define(eq=False)
class Courses:
    """`groups` by user and conversation; `blocks` by who blocks and whom."""

    facts: Facts
    promises: Promises
    groups: dict[tuple[int, str], Course] = attrs.field(factory=dict)
    blocks: dict[tuple[int, int], Course] = attrs.field(factory=dict)
    _deaf: Spans = attrs.field(factory=list)
    _bases: dict[str, tuple[list[int], list[int]]] = attrs.field(factory=dict)

    def membership(self, user: int, conv: str) -> Course:
        return self.groups.get((user, conv), _NEVER)

    def is_party(self, user: int, conv: str) -> bool:
        """Whether a user is in a conversation of two, or has ever asked to be in a group."""
        if conv.startswith("d:"):
            return str(user) in conv.split(":")[1:]
        return (user, conv) in self.groups

    def is_member(self, user: int, conv: str, index: int) -> bool:
        """Whether a user is in a conversation for certain."""
        return conv.startswith("d:") or self.membership(user, conv).at(index).holds is True

    def apart(self, user: int, other: int, index: int) -> Step:
        """Whether either of two has blocked the other."""
        steps = [self.blocks.get(pair, _NEVER).at(index) for pair in ((user, other), (other, user))]
        if blocks := [step for step in steps if step.holds]:
            return min(blocks, key=lambda step: step.since)
        return next((step for step in steps if step.holds is None), max(steps, key=lambda step: step.since))

    def parted(self, user: int, other: int) -> list[int]:
        """The records at which what `apart` says of two may change."""
        pairs = ((user, other), (other, user))
        return sorted({step.index for pair in pairs if pair in self.blocks for step in self.blocks[pair].steps})

    def overdue(self, since: int, index: int) -> bool:
        """Whether at a record every node had to know what was so since another."""
        if since < 0:
            return True
        records = self.facts.records
        waits = unexcused(records[since].at, records[index].at, self._deaf)
        return max((end - begin for begin, end in waits), default=0.0) > self.promises.parting

    def departures(self, user: int, conv: str, since: int, until: int) -> int:
        """How many departures of a user from a group may have become known somewhere between two records, at most."""
        return sum(
            change.begin < until and not (change.end < since and self.overdue(int(change.end), since))
            for change in self.membership(user, conv).endings
        )

    def floor(self, user: int, conv: str, index: int) -> tuple[int, Answered] | None:
        """The highest acknowledged message of a group from before a user can have been in it, and since which record he
        was out then; where that was only for a moment not every node needs to have heard of it.
        """
        steps = self.membership(user, conv).steps
        for place in range(self.membership(user, conv).place(index), -1, -1):
            if steps[place].holds is False:
                asked = steps[place + 1].index if place + 1 < len(steps) else index
                if self.overdue(steps[place].since, asked):
                    rising = self.facts.highest.get(conv, [])
                    found = bisect_left(rising, asked, key=lambda top: top[0])
                    return (steps[place].since, rising[found - 1][1]) if found else None
        return None

    def base(self, user: int, conv: str, index: int) -> int | None:
        """The highest seq that a member's cursor can have begun at; None where nothing can be said.

        A direct conversation is there from its first message on. Who has joined a group gets what was sent once he
        knew that he is in it, so his cursor began below the lowest of those.
        """
        if conv.startswith("d:"):
            return 0
        step = self.membership(user, conv).at(index)
        if not step.holds:
            return None
        if conv not in self._bases:
            self._bases[conv] = self._lowest_after(conv)
        times, lowest = self._bases[conv]
        found = bisect_right(times, step.since)
        return lowest[found] - 1 if found < len(lowest) else None

    def _lowest_after(self, conv: str) -> tuple[list[int], list[int]]:
        """For each message of a conversation when it was first sent, rising; and the lowest seq from there on."""
        found = sorted(
            (asked.index, seq) for seq in self.facts.places.get(conv, {}) if (asked := self.facts.first_sent(conv, seq))
        )
        lowest = [seq for _, seq in found]
        for index in range(len(lowest) - 2, -1, -1):
            lowest[index] = min(lowest[index], lowest[index + 1])
        return [at for at, _ in found], lowest


def chart(facts: Facts, promises: Promises) -> Courses:
    """All courses of a history."""
    settled = merged([(fault.at, end + promises.settled) for fault, end in facts.faults])
    groups: dict[tuple[int, str], list[Change]] = {}
    blocks: dict[tuple[int, int], list[Change]] = {}
    for asked in facts.requests.values():
        record = asked.record
        user = record.about if record.kind == "REMOVE_MEMBER" else asked.user
        if record.kind not in _CHANGES or not user:
            continue
        change = _change(facts, asked, promises, settled)
        conv = record.conv or (asked.answers[0].conv if asked.answers else "")
        if change is not None and conv:
            groups.setdefault((user, conv), []).append(change)
        elif change is not None and record.about:
            blocks.setdefault((user, record.about), []).append(change)
    for session in facts.sessions:
        for conv in session.began.groups:
            seen = Change(holds=True, begin=session.asked, end=session.index, sure=True)
            groups.setdefault((session.user, conv), []).append(seen)
    deaf = [(fault.at, end + promises.parting) for fault, end in facts.faults if fault.kind.startswith(_DEAF)]
    return Courses(
        facts,
        promises,
        {member: Course(changes) for member, changes in groups.items()},
        {pair: Course(changes) for pair, changes in blocks.items()},
        merged(deaf) if promises.parting else [],
    )


#: What a request makes hold, and the failure that says that it does, or does not, already.
_CHANGES: dict[str, tuple[bool, str]] = {
    "CREATE_GROUP": (True, ""),
    "JOIN_GROUP": (True, "already_exists"),
    "LEAVE_GROUP": (False, "not_a_member"),
    "REMOVE_MEMBER": (False, ""),
    "BLOCK": (True, ""),
    "UNBLOCK": (False, ""),
}


def _change(facts: Facts, asked: Asked, promises: Promises, settled: Spans) -> Change | None:
    """What a request has changed; None where it was refused."""
    holds, already = _CHANGES[asked.record.kind]
    if asked.answers:
        error = asked.answers[0].error
        if error in {"", already}:
            return Change(holds, asked.index, asked.answered, sure=True)
        if error not in UNDECIDED:
            return None
    end = asked.record.at + promises.settled
    for fault, over in settled:
        if fault <= end and over > asked.record.at:
            end = max(end, over)
    last = math.inf
    if end < facts.ended:
        last = bisect_right(facts.records, end, key=lambda record: record.at)
    return Change(holds, asked.index, last, sure=False)
