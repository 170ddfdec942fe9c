"""Rules about who may write where: who is in a group, and everybody to whom he is not apart from; and nobody else.

What a node has not heard of yet it cannot know, for some seconds (`Promises.parting`); but the connection over which
somebody left, or blocked somebody, is on a node that knows.
"""

from __future__ import annotations

from collections.abc import Iterator

from trio_chat.verify.courses import Courses, Step
from trio_chat.verify.facts import Asked, Facts, Violation
from trio_chat.verify.history import Answered, Record

__all__ = ["check_writers"]

_NOT_IN = frozenset({"not_a_member", "no_such_group"})


def check_writers(courses: Courses) -> Iterator[Violation]:
    """Who may write is not refused; who may not is."""
    for asked in courses.facts.requests.values():
        if asked.message is not None and asked.answers:
            yield from _wrongly_refused(courses, asked)
    for requests in courses.facts.sent.values():
        yield from _wrongly_taken(courses, requests)


def _wrongly_refused(courses: Courses, asked: Asked) -> Iterator[Violation]:
    user, conv, answer = asked.user, asked.record.conv, asked.answers[0]
    if answer.error in _NOT_IN and conv.startswith("g:"):
        # Who is not known to be in a group is looked up before he is refused.
        step = courses.membership(user, conv).at(asked.answered)
        if step.holds and step.since < asked.index:
            says = f"user {user} is in {conv}, and was answered {answer.error}"
            yield Violation("refused", says, [courses.facts.records[step.since], asked.record, answer])
    elif answer.error == "forbidden" and conv.startswith("d:"):
        step = courses.apart(user, _peer(user, conv), asked.answered)
        if step.holds is False and step.since < asked.index and courses.overdue(step.since, asked.index):
            says = f"nobody has blocked anybody in {conv}, and user {user} was answered {answer.error}"
            yield Violation("refused", says, [*_record(courses.facts, step), asked.record, answer])


def _wrongly_taken(courses: Courses, requests: list[Asked]) -> Iterator[Violation]:
    """A message that nobody had a right to send, whenever he tried, is neither acknowledged nor anywhere."""
    first, facts = requests[0], courses.facts
    conv = first.record.conv
    assert first.message is not None
    answered = [asked for asked in requests if asked.answers and not asked.answers[0].error]
    found = facts.where.get(first.message)
    if not answered and found is None:
        return
    steps = [_kept_out(courses, asked) for asked in requests]
    if not all(steps):
        return
    step = steps[0]
    assert step is not None
    why = "one of the two had blocked the other" if conv.startswith("d:") else f"he was not in {conv}"
    says = f"user {first.user} wrote {first.record.text!r} to {conv}, though {why}"
    shown: list[Record] = [*_record(facts, step), first.record]
    shown += [answered[0].answers[0]] if answered else []
    yield Violation("accepted", says, [*shown, *([found] if found is not None else [])])


def _kept_out(courses: Courses, asked: Asked) -> Step | None:
    """Why a message had to be refused, if it had to: all the time that it can have been on its way."""
    user, conv, facts = asked.user, asked.record.conv, courses.facts
    until = asked.answered if asked.answers else len(facts.records) - 1
    if conv.startswith("d:"):
        step, reason = courses.apart(user, _peer(user, conv), until), True
    else:
        step, reason = courses.membership(user, conv).at(until), False
    if step.holds is not reason or step.since > asked.index:
        return None
    why = facts.records[step.since] if step.since >= 0 else None
    # Where that was answered it holds at once.
    here = isinstance(why, Answered) and why.connection == asked.record.connection
    return step if here or courses.overdue(step.since, asked.index) else None


def _peer(user: int, conv: str) -> int:
    low, high = (int(each) for each in conv.split(":")[1:])
    return high if low == user else low


def _record(facts: Facts, step: Step) -> list[Record]:
    return [facts.records[step.since]] if step.since >= 0 else []
