"""The checker: a history, held against what the server promises.

Pure, and linear in the length of the history but for a sort. A request that was not acknowledged may have been stored,
once, or not; so may one that was answered with `unavailable`, `internal` or `shutting_down`, whose outcome nobody knew.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from itertools import islice

from trio_chat.verify.courses import chart
from trio_chat.verify.facts import Facts, Promises, Violation, gather
from trio_chat.verify.history import Answered, Record
from trio_chat.verify.places import check_places
from trio_chat.verify.presence import check_presence
from trio_chat.verify.spans import merged, unexcused
from trio_chat.verify.storing import check_acknowledged, check_logs, check_messages
from trio_chat.verify.writers import check_writers

__all__ = ["RULES", "Promises", "Violation", "check"]

#: The rules, by the names that violations have.
RULES = {
    "accepted": "who is not in a group, or is blocked, may not write",
    "acknowledged-and-lost": "a message whose REPLY came is in the log",
    "acknowledged-for-another-text": "a REPLY's seq is that of the message which it answers",
    "answered-twice": "a request is answered once",
    "delivered-though-never-sent": "what is delivered was sent, by that user, with that text, to that conversation",
    "delivered-to-a-stranger": "a message reaches only who is in its conversation, while he is in it",
    "delivered-twice": "a connection gets a message once",
    "fall": "on a connection a conversation's seqs rise, and so do a log's times",
    "hole": "on a connection, and in a log, no seq is left out",
    "presence-wrong": "what a client is told about a friend is true, within seconds",
    "refused": "who is in a group may write to it, and people who are not apart to each other",
    "stored-twice": "a key is stored once",
    "swapped": "messages of one connection keep their order",
    "two-orders": "everybody sees the same message at a place",
    "unanswered": "a request is answered while its connection lives",
    "undelivered": "who is there at the end has got everything",
}

#: How many violations of one rule are told; a broken server breaks it by the thousand.
_ENOUGH = 20


def check(history: Iterable[Record], promises: Promises | None = None) -> list[Violation]:
    """The violations in a history, at most 20 for each rule; an empty list where every promise was kept."""
    promises = promises or Promises()
    facts = gather(history)
    by_rule: dict[str, list[Violation]] = {}
    for violation in _violations(facts, promises):
        found = by_rule.setdefault(violation.rule, [])
        if len(found) < _ENOUGH:
            found.append(violation)
    return [violation for rule in RULES for violation in by_rule.get(rule, ())]


def _violations(facts: Facts, promises: Promises) -> Iterator[Violation]:
    courses = chart(facts, promises)
    for rule in (check_acknowledged, check_messages, check_logs, _check_answers):
        yield from islice(rule(facts), 1000)
    for belonging in (check_places, check_writers):
        yield from islice(belonging(courses), 1000)
    yield from check_presence(courses)
    yield from _check_unanswered(facts, promises)


def _check_answers(facts: Facts) -> Iterator[Violation]:
    for asked in facts.requests.values():
        if len(asked.answers) > 1:
            says = f"connection {asked.record.connection} got {len(asked.answers)} answers to its request {asked.record.ref}"
            yield Violation("answered-twice", says, [asked.record, *asked.answers[:2]])
    for record in facts.records:
        if isinstance(record, Answered) and (record.connection, record.ref) not in facts.requests:
            says = f"connection {record.connection} got an answer to {record.ref}, which it had not asked"
            yield Violation("answered-twice", says, [record])


def _check_unanswered(facts: Facts, promises: Promises) -> Iterator[Violation]:
    faults = merged([(fault.at, end) for fault, end in facts.faults])
    for asked in facts.requests.values():
        if asked.answers:
            continue
        record = asked.record
        heard = facts.heard.get(record.connection, 0.0)
        waited = sum(end - begin for begin, end in unexcused(record.at, heard, faults))
        if waited > promises.answer:
            says = (
                f"connection {record.connection} never got an answer to its request {record.ref} ({record.kind}), "
                f"and heard from the server {heard - record.at:.0f} s later"
            )
            yield Violation("unanswered", says, [record])
