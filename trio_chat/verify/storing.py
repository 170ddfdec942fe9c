"""Rules about what is stored: acknowledged is kept, once, where it was said to be, and nothing that nobody sent."""

from __future__ import annotations

from collections.abc import Iterator

from trio_chat.verify.courses import UNDECIDED
from trio_chat.verify.facts import Asked, Facts, Identity, Violation, identity
from trio_chat.verify.history import Answered, Delivered, Logged, Message, Record

__all__ = ["check_acknowledged", "check_logs", "check_messages"]


def check_messages(facts: Facts) -> Iterator[Violation]:
    """Each message that anybody saw was sent, is in one place, and is there for all."""
    seen: dict[Identity, dict[tuple[str, int], Message]] = {}
    blamed: set[tuple[str, int]] = set()
    for index, record in enumerate(facts.records):
        if not isinstance(record, (Delivered, Logged)):
            continue
        place = (record.conv, record.seq)
        if place in blamed:
            continue
        which = identity(record)
        places = seen.setdefault(which, {})
        witness = facts.places[record.conv][record.seq]
        differs = (witness.sender, witness.key, witness.text) != (record.sender, record.key, record.text)
        if place in places and not differs:
            continue
        requests = [asked for asked in facts.sent.get(which, ()) if asked.index < index]
        violation = _never_sent(record, requests)
        if violation is None and differs:
            says = f"{_at(record)} is {_quote(record)} for one observer, and {_quote(witness)} for another"
            violation = Violation("two-orders", says, [record, witness])
        if violation is None and places and (record.key is not None or len(places) >= len(requests)):
            first = next(iter(places.values()))
            says = f"{_quote(record)} of user {record.sender} is at {_at(first)} and at {_at(record)}"
            violation = Violation("stored-twice", says, [*(asked.record for asked in requests), first, record])
        places[place] = record
        if violation is not None:
            blamed.add(place)
            yield violation


def _never_sent(message: Message, requests: list[Asked]) -> Violation | None:
    fitting = [asked for asked in requests if (asked.record.text, asked.record.conv) == (message.text, message.conv)]
    if not fitting:
        says = f"user {message.sender} never sent {_quote(message)} to {message.conv}, where it is at {message.seq}"
        return Violation("delivered-though-never-sent", says, [*(asked.record for asked in requests), message])
    if all(asked.answers and asked.answers[0].error not in {"", *UNDECIDED} for asked in requests):
        answer = fitting[0].answers[0]
        says = f"{_quote(message)} was refused with {answer.error}, and is at {_at(message)}"
        return Violation("delivered-though-never-sent", says, [fitting[0].record, answer, message])
    return None


def check_acknowledged(facts: Facts) -> Iterator[Violation]:
    """Each message that was acknowledged: it is in the log, where the answer says."""
    acknowledged: dict[Identity, Answered] = {}
    holders: dict[tuple[str, int], tuple[Asked, Answered]] = {}
    logged = {conv: {identity(message): message for message in facts.logs[conv].values()} for conv in facts.read}
    blamed: set[Identity] = set()
    for asked in facts.requests.values():
        which, answer = asked.message, asked.answers[0] if asked.answers else None
        if which is None or answer is None or answer.error or which in blamed:
            continue
        violation = None
        before = acknowledged.setdefault(which, answer)
        holder = holders.setdefault((answer.conv, answer.seq), (asked, answer))
        if (before.conv, before.seq) != (answer.conv, answer.seq):
            says = f"one message was acknowledged as {_at(before)} and as {_at(answer)}"
            violation = Violation("stored-twice", says, [facts.sent[which][0].record, before, asked.record, answer])
        else:
            violation = _misplaced(facts, asked, answer, holder, logged.get(asked.record.conv))
        if violation is not None:
            blamed.add(which)
            yield violation


def _misplaced(
    facts: Facts,
    asked: Asked,
    answer: Answered,
    holder: tuple[Asked, Answered],
    log: dict[Identity, Logged] | None,
) -> Violation | None:
    which = asked.message
    assert which is not None
    there = facts.logs.get(answer.conv, {}).get(answer.seq) or facts.places.get(answer.conv, {}).get(answer.seq)
    shown: list[Record] = [asked.record, answer, *([there] if there is not None else [])]
    if log is not None and which not in log:
        says = f"{asked.record.text!r} was acknowledged as {_at(answer)}, and is not in the log of {asked.record.conv}"
        return Violation("acknowledged-and-lost", says, [*shown, facts.read[asked.record.conv]])
    if there is not None and identity(there) != which:
        says = f"{asked.record.text!r} was acknowledged as {_at(answer)}, where {_quote(there)} is"
        return Violation("acknowledged-for-another-text", says, shown)
    if log is not None and (log[which].conv, log[which].seq) != (answer.conv, answer.seq):
        says = f"{asked.record.text!r} was acknowledged as {_at(answer)}, and is at {_at(log[which])}"
        return Violation("acknowledged-for-another-text", says, [*shown, log[which]])
    if holder[0].message != which:
        says = f"{holder[0].record.text!r} and {asked.record.text!r} were both acknowledged as {_at(answer)}"
        return Violation("acknowledged-for-another-text", says, [holder[0].record, holder[1], *shown])
    if answer.conv != asked.record.conv:
        says = f"{asked.record.text!r} was sent to {asked.record.conv} and acknowledged as {_at(answer)}"
        return Violation("acknowledged-for-another-text", says, shown)
    return None


def check_logs(facts: Facts) -> Iterator[Violation]:
    """Each log that was read: its numbers have no hole, its times do not fall."""
    for conv, log in facts.logs.items():
        before: Logged | None = None
        for seq in sorted(log):
            message = log[seq]
            if seq != (before.seq if before else 0) + 1:
                says = f"the log of {conv} goes from {before.seq if before else 0} to {seq}"
                yield Violation("hole", says, [before, message] if before else [message])
            elif before is not None and message.ts < before.ts:
                yield Violation("fall", f"in the log of {conv} the time falls at {seq}", [before, message])
            before = message


def _quote(message: Message) -> str:
    return repr(message.text) if message.key is None else f"{message.text!r} (key {message.key})"


def _at(record: Message | Answered) -> str:
    return f"{record.conv}/{record.seq}"
