"""Each rule: a good history breaks none, a spoilt one breaks just the one that it was spoilt for."""

from __future__ import annotations

import pathlib
import time
from collections.abc import Callable
from typing import Any, TypeVar

import attrs
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.verify.story import Story
from trio_chat.verify.checker import RULES, check
from trio_chat.verify.history import (
    Answered,
    BadHistory,
    Closed,
    Delivered,
    FaultBegan,
    FaultEnded,
    Left,
    Logged,
    LoggedIn,
    LogRead,
    Noticed,
    Opened,
    Received,
    Record,
    Requested,
    read_lines,
    to_line,
)

ALICE, BOB, CAROL = 1, 2, 3
CONV = "d:1:2"


def rules(history: list[Record]) -> list[str]:
    return [violation.rule for violation in check(history)]


def story() -> Story:
    """Two friends, one with two devices, a reconnection, a group, a key that is sent again."""
    story = Story()
    story.befriend(ALICE, BOB)
    alice, bob = story.login(ALICE), story.login(BOB)
    phone = story.login(ALICE)
    for number in range(3):
        story.send(alice, BOB, f"a{number}", key=f"a{number}")
        story.send(bob, ALICE, f"b{number}", key=f"b{number}")
    story.received(bob, CONV, 3)
    story.close(bob)
    story.send(phone, BOB, "while you were away")
    bob = story.login(BOB)
    story.send(bob, ALICE, "b1", key="b1")
    group = story.join(ALICE, 7)
    story.send(alice, group, "g1")
    story.join(BOB, 7)
    story.send(phone, group, "g2", key="g2")
    story.send(bob, group, "g3", key="g3")
    return story


def good() -> list[Record]:
    return story().read_logs()


# -- good ones ------------------------------------------------------------------------------------------------------------


def test_a_good_history_breaks_nothing() -> None:
    assert rules(good()) == []
    assert rules(parted()) == []
    assert rules([]) == []


def test_an_unacknowledged_message_may_be_stored_or_not() -> None:
    for stored in (True, False):
        tale = Story()
        alice, bob = tale.login(ALICE), tale.login(BOB)
        if stored:
            tale.send(alice, BOB, "x", key="k", answered=False)
        else:
            tale.add(Requested(0, alice, "r", "DIRECT", CONV, "k", "x"))
        tale.close(alice)
        alice = tale.login(ALICE)
        tale.send(alice, BOB, "x", key="k")
        tale.send(bob, ALICE, "y")
        assert rules(tale.read_logs()) == []


def test_the_reply_to_a_repeated_key_has_no_place() -> None:
    tale = Story()
    alice, bob = tale.login(ALICE), tale.login(BOB)
    tale.send(bob, ALICE, "first")
    tale.send(alice, BOB, "x", key="k", answered=False)
    tale.close(alice)
    # Answered at once, before what was missed has come; then the message comes in its place.
    tale._logs.setdefault(CONV, [])
    alice = tale.login(ALICE)
    caught_up = [record for record in tale.records if isinstance(record, Delivered) and record.connection == alice]
    for record in caught_up:
        tale.records.remove(record)
    tale.send(alice, BOB, "x", key="k")
    for record in caught_up:
        tale.add(record)
    tale.send(bob, ALICE, "z")
    history = tale.read_logs()
    assert [record.seq for record in caught_up] == [1, 2]
    assert rules(history) == []
    # Or it is not repeated, since the REPLY came: the frames go on behind it.
    history.remove(caught_up[1])
    assert rules(history) == []
    history.remove(caught_up[0])
    assert rules(history) == ["hole"]


def test_ones_own_messages_behind_the_cursor_are_received() -> None:
    tale = Story()
    alice, bob = tale.login(ALICE), tale.login(BOB)
    tale.send(bob, ALICE, "1")
    tale.send(alice, BOB, "2")
    tale.send(alice, BOB, "3")
    tale.received(alice, CONV, 1)
    tale._cursors[ALICE, CONV] = 3
    tale.close(alice)
    tale.send(bob, ALICE, "4")
    alice = tale.login(ALICE)
    assert [r.seq for r in tale.records if isinstance(r, Delivered) and r.connection == alice] == [4]
    assert rules(tale.read_logs()) == []


def test_who_reads_slowly_may_get_what_was_his_when_he_has_left_and_come_back() -> None:
    tale = Story()
    alice, bob = tale.login(ALICE), tale.login(BOB)
    slow = tale.login(BOB)
    group = tale.join(ALICE, 7)
    tale.join(BOB, 7)
    tale.send(alice, group, "g1")
    tale.leave(bob, group)
    waiting = [record for record in tale.records if isinstance(record, (Delivered, Left)) and record.connection == slow]
    assert len(waiting) == 2
    for record in waiting:
        tale.records.remove(record)
    tale.wait(6)
    tale.send(alice, group, "g2")
    tale.join(BOB, 7)
    tale.wait(6)
    for record in waiting:
        tale.add(record)
    tale.send(alice, group, "g3")
    assert rules(tale.read_logs()) == []


def read_late(tale: Story, connection: int, first: int) -> list[Record]:
    """What a connection got, from one of the records on, it reads only now."""
    late: list[Record] = [
        record
        for record in tale.records[first:]
        if isinstance(record, (Delivered, Left)) and record.connection == connection
    ]
    tale.records[:] = [record for record in tale.records if record not in late]
    for record in late:
        tale.add(record)
    return late


def left_twice() -> tuple[Story, list[Record]]:
    """Bob leaves a group, comes back, gets a message and leaves again; his telephone reads all of that later."""
    tale = Story()
    alice, bob, phone = tale.login(ALICE), tale.login(BOB), tale.login(BOB)
    group = tale.join(ALICE, 7)
    tale.join(BOB, 7)
    first = len(tale.records)
    tale.leave(bob, group)
    tale.join(BOB, 7)
    tale.send(alice, group, "g1")
    tale.leave(bob, group)
    return tale, read_late(tale, phone, first)


def test_who_reads_late_is_told_of_an_earlier_departure_first() -> None:
    tale, late = left_twice()
    assert [type(record) for record in late] == [Left, Delivered, Left]
    assert rules(tale.read_logs()) == []


def test_presence_may_be_wrong_during_a_fault_and_for_a_moment() -> None:
    tale = Story()
    tale.befriend(ALICE, BOB)
    alice = tale.login(ALICE)
    bob = tale.login(BOB)
    del tale.records[-1]  # that he is there is not told ...
    tale.wait(3)
    tale.add(Noticed(0, alice, BOB, "online"))  # ... until now
    tale.wait(20)
    tale.fault("node-kill", 10)
    tale.add(Closed(0, bob))
    tale.wait(14)
    tale.add(Noticed(0, alice, BOB, "offline"))
    tale.wait(30)
    tale.add(Received(0, alice, CONV, 0))
    assert rules(tale.records) == []


# -- spoilt ones ----------------------------------------------------------------------------------------------------------


def without(history: list[Record], unwanted: Callable[[Record], bool]) -> list[Record]:
    spoilt = [record for record in history if not unwanted(record)]
    assert len(spoilt) < len(history)
    return spoilt


R = TypeVar("R", bound=Record)


def find(history: list[Record], kind: type[R], **fields: object) -> R:
    return next(
        record
        for record in history
        if isinstance(record, kind) and all(getattr(record, name) == value for name, value in fields.items())
    )


def replaced(history: list[Record], record: Record, **fields: Any) -> list[Record]:
    changed = attrs.evolve(record, **fields)
    return [changed if each is record else each for each in history]


def inserted(history: list[Record], after: Record, *new: Record) -> list[Record]:
    index = next(index for index, record in enumerate(history) if record is after) + 1
    for record in new:
        record.at = after.at
    return [*history[:index], *new, *history[index:]]


def lost() -> list[Record]:
    return without(good(), lambda record: isinstance(record, Logged) and (record.conv, record.seq) == ("g:7", 3))


def hole_in_a_log() -> list[Record]:
    tale = Story()
    alice = tale.login(ALICE)
    tale.send(alice, BOB, "x", key="x", answered=False)
    tale.send(alice, BOB, "y", key="y")
    return without(tale.read_logs(), lambda record: isinstance(record, Logged) and record.seq == 1)


def time_falls() -> list[Record]:
    history = good()
    return replaced(history, find(history, Logged, conv=CONV, seq=2), ts=5)


def delivered_twice() -> list[Record]:
    history = good()
    record = find(history, Delivered, conv=CONV, seq=2)
    return inserted(history, record, attrs.evolve(record))


def delivered_and_answered() -> list[Record]:
    history = good()
    reply = find(history, Answered, conv=CONV, seq=3)
    return inserted(history, reply, Delivered(0, reply.connection, CONV, 3, ALICE, "a1", "a1"))


def hole() -> list[Record]:
    history = good()
    return without(history, lambda record: record is find(history, Delivered, conv=CONV, seq=4))


def hole_at_login() -> list[Record]:
    """Bob had said that he has 3, and 4 is his own; the next thing that he gets must not be behind 5."""
    history = good()
    login = [record for record in history if isinstance(record, LoggedIn) and record.user == BOB][-1]
    return without(
        history,
        lambda record: isinstance(record, Delivered) and (record.connection, record.seq) == (login.connection, 5),
    )


def hole_after_joining() -> list[Record]:
    history = good()
    return without(
        history,
        lambda record: (
            isinstance(record, Delivered)
            and (record.conv, record.seq, record.key) == ("g:7", 2, "g2")
            and record.connection == find(history, Requested, text="g3").connection
        ),
    )


def fall() -> list[Record]:
    """The REPLY comes behind a frame with a higher seq."""
    history = good()
    reply, later = find(history, Answered, conv=CONV, seq=3), find(history, Delivered, conv=CONV, seq=4)
    assert reply.connection == later.connection
    spoilt = [record for record in history if record is not reply]
    return inserted(spoilt, later, reply)


def swapped() -> list[Record]:
    tale = Story()
    alice = tale.login(ALICE)
    one, two = tale.send(alice, BOB, "1"), tale.send(alice, BOB, "2")
    history = tale.read_logs()
    first, second = find(history, Requested, ref=one), find(history, Requested, ref=two)
    history.remove(second)
    first.text, second.text = "2", "1"
    first.ref, second.ref = two, one
    index = history.index(first)
    history.insert(index + 1, second)
    for ref in (one, two):
        find(history, Requested, ref=ref)
    return history


def two_orders() -> list[Record]:
    history = good()
    record = find(history, Delivered, conv=CONV, seq=4)
    return replaced(history, record, sender=ALICE, key="a1", text="a1")


def altered() -> list[Record]:
    history = good()
    return replaced(history, find(history, Delivered, conv=CONV, seq=4), text="b9")


def stored_twice() -> list[Record]:
    tale = Story()
    alice = tale.login(ALICE)
    tale.send(alice, BOB, "x", key="k", answered=False)
    del tale._keys[ALICE, "k"]
    tale.send(alice, BOB, "x", key="k", answered=False)
    return tale.read_logs()


def stored_twice_without_a_key() -> list[Record]:
    tale = Story()
    alice = tale.login(ALICE)
    tale.send(alice, BOB, "x", answered=False)
    history = tale.read_logs()
    read = history.pop()
    return [*history, Logged(read.at, CONV, 2, ALICE, None, "x"), read]


def acknowledged_twice_differently() -> list[Record]:
    tale = Story()
    alice = tale.login(ALICE)
    tale.send(alice, BOB, "x", key="k")
    tale.send(alice, BOB, "x", key="k")
    answer = [record for record in tale.records if isinstance(record, Answered)][-1]
    answer.seq = 2
    return tale.read_logs()


def another_text() -> list[Record]:
    history = good()
    record = find(history, Answered, conv="g:7", seq=3)
    return replaced(history, record, conv=CONV, seq=6)


def refused_and_stored() -> list[Record]:
    tale = Story()
    alice = tale.login(ALICE)
    ref = tale.send(alice, BOB, "x", key="k", answered=False)
    tale.add(Answered(0, alice, ref, "no_such_user"))
    return tale.read_logs()


def refused() -> list[Record]:
    tale = story()
    alice = tale.login(ALICE)
    tale.add(Requested(0, alice, "x", "GROUP", "g:7", "kx", "let me in"))
    tale.add(Answered(0, alice, "x", "not_a_member"))
    return tale.read_logs()


def stranger() -> list[Record]:
    history = good()
    carol = Opened(0, 99), LoggedIn(0, 99, CAROL)
    message = find(history, Delivered, conv=CONV, seq=1)
    return inserted(history, message, *carol, attrs.evolve(message, connection=99), Closed(0, 99))


def before_he_joined() -> list[Record]:
    history = good()
    bobs = find(history, Requested, text="g3").connection
    later = find(history, Delivered, conv="g:7", seq=2, connection=bobs)
    message = find(history, Logged, conv="g:7", seq=1)
    early = Delivered(later.at, bobs, "g:7", 1, message.sender, message.key, message.text)
    return [each for record in history for each in ([early, record] if record is later else [record])]


def ghost() -> list[Record]:
    tale = story()
    tale.close(max(tale._online))
    del tale.records[-2:]  # nobody is told
    tale.wait(10)
    return tale.read_logs()


def told_at_login(*, state: str) -> list[Record]:
    tale = Story()
    tale.befriend(ALICE, BOB)
    if state == "offline":
        tale.login(BOB)
    tale.login(ALICE)
    notice = tale.records[-1]
    assert isinstance(notice, Noticed)
    assert notice.state != state
    notice.state = state
    tale.wait(10)
    tale.add(FaultBegan(0, 1, "redis-kill"))
    tale.add(FaultEnded(0, 1))
    return tale.records


def wrongly_online() -> list[Record]:
    return told_at_login(state="online")


def wrongly_offline() -> list[Record]:
    return told_at_login(state="offline")


def unanswered() -> list[Record]:
    tale = story()
    alice = tale.login(ALICE)
    tale.add(Requested(0, alice, "x", "READ"))
    tale.fault("database-pause", 5)
    tale.wait(20)
    tale.add(Requested(0, alice, "y", "PING"))
    tale.add(Answered(0, alice, "y"))
    return tale.read_logs()


def answered_twice() -> list[Record]:
    history = good()
    record = find(history, Answered, conv="g:7", seq=3)
    return inserted(history, record, attrs.evolve(record))


def answered_unasked() -> list[Record]:
    history = good()
    record = find(history, Answered, conv="g:7", seq=3)
    return inserted(history, record, Answered(0, record.connection, "nobody asked"))


def undelivered() -> list[Record]:
    tale = story()
    seqs = [r for r in tale.records if isinstance(r, Delivered) and (r.conv, r.seq) == ("g:7", 3)]
    return [record for record in tale.read_logs() if record is not seqs[-1]]


def undelivered_from_the_start() -> list[Record]:
    tale = Story()
    alice = tale.login(ALICE)
    tale.send(alice, BOB, "x")
    tale.login(BOB)
    del tale.records[-1]
    return tale.read_logs()


def parting() -> Story:
    """Bob leaves the group and comes back; Carol is removed from it; Alice blocks Carol for a while."""
    tale = Story()
    alice, bob, carol = tale.login(ALICE), tale.login(BOB), tale.login(CAROL)
    group = tale.join(ALICE, 7)
    tale.join(BOB, 7)
    tale.join(CAROL, 7)
    tale.send(alice, group, "g1")
    tale.leave(bob, group)
    tale.remove(alice, group, CAROL)
    tale.block(alice, CAROL)
    tale.wait(6)
    tale.send(alice, group, "g2")
    assert tale.send(carol, ALICE, "c1")
    assert tale.send(carol, group, "c2")
    tale.wait(6)
    tale.join(BOB, 7)
    tale.block(alice, CAROL, undo=True)
    tale.wait(6)
    tale.send(alice, group, "g3")
    tale.send(carol, ALICE, "c3")
    return tale


def parted() -> list[Record]:
    return parting().read_logs()


def reaches(user: int, seq: int, *, at: str) -> list[Record]:
    """A message of the group reaches this user when a text is sent."""
    history = parted()
    message = find(history, Logged, conv="g:7", seq=seq)
    connection = find(history, LoggedIn, user=user).connection
    before = find(history, Requested, text=at)
    delivered = Delivered(0, connection, "g:7", seq, message.sender, message.key, message.text)
    return inserted(history, before, delivered)


def after_he_left() -> list[Record]:
    return reaches(BOB, 2, at="c2")


def after_he_was_removed() -> list[Record]:
    return reaches(CAROL, 2, at="c2")


def after_he_was_told_of_both_departures() -> list[Record]:
    tale, (_, delivered, _) = left_twice()
    tale.records.remove(delivered)
    tale.add(delivered)
    return tale.read_logs()


def from_while_he_was_out() -> list[Record]:
    return reaches(BOB, 2, at="g3")


def at_a_login_after_he_came_back() -> list[Record]:
    tale = parting()
    message = find(tale.read_logs(), Logged, conv="g:7", seq=1)
    bob = tale.login(BOB)
    tale.add(Delivered(0, bob, "g:7", 1, message.sender, message.key, message.text))
    return tale.records


def kept_from_who_came_back() -> list[Record]:
    history = parted()
    bob = find(history, LoggedIn, user=BOB).connection
    return without(history, lambda record: record is find(history, Delivered, conv="g:7", seq=3, connection=bob))


def taken_from_a_former_member() -> list[Record]:
    tale = parting()
    carol = find(tale.records, LoggedIn, user=CAROL).connection
    tale._members["g:7"].add(CAROL)
    tale.send(carol, "g:7", "c4")
    tale._members["g:7"].discard(CAROL)
    return tale.read_logs()


def taken_from_the_blocked() -> list[Record]:
    tale = Story()
    alice, bob = tale.login(ALICE), tale.login(BOB)
    tale.block(alice, BOB)
    tale.wait(6)
    tale._blocks.clear()
    tale.send(bob, ALICE, "x")
    return tale.read_logs()


def taken_at_once() -> list[Record]:
    """Over the connection that has blocked the other."""
    tale = Story()
    alice = tale.login(ALICE)
    tale.block(alice, BOB)
    tale._blocks.clear()
    tale.send(alice, BOB, "x")
    return tale.read_logs()


def still_apart() -> list[Record]:
    history = parted()
    asked = find(history, Requested, text="c3")
    answer = find(history, Answered, connection=asked.connection, ref=asked.ref)
    kept = [record for record in history if not (isinstance(record, (Delivered, Logged)) and record.text == "c3")]
    return replaced(kept, answer, error="forbidden", conv="", seq=0)


def seen_by_the_blocked() -> list[Record]:
    tale = Story()
    tale.befriend(BOB, ALICE)
    alice, _ = tale.login(ALICE), tale.login(BOB)
    tale.block(alice, BOB)
    tale.wait(10)
    tale.add(FaultBegan(0, 1, "redis-kill"))
    tale.add(FaultEnded(0, 1))
    return tale.records


SPOILT = {
    "accepted": [taken_from_a_former_member, taken_from_the_blocked, taken_at_once],
    "acknowledged-and-lost": [lost],
    "acknowledged-for-another-text": [another_text],
    "answered-twice": [answered_twice, answered_unasked],
    "delivered-though-never-sent": [refused_and_stored, altered],
    "delivered-to-a-stranger": [
        stranger,
        before_he_joined,
        after_he_left,
        after_he_was_removed,
        after_he_was_told_of_both_departures,
        from_while_he_was_out,
        at_a_login_after_he_came_back,
    ],
    "delivered-twice": [delivered_twice, delivered_and_answered],
    "fall": [fall, time_falls],
    "hole": [hole, hole_at_login, hole_after_joining],
    "presence-wrong": [ghost, wrongly_online, wrongly_offline, seen_by_the_blocked],
    "refused": [refused, still_apart],
    "stored-twice": [stored_twice, stored_twice_without_a_key, acknowledged_twice_differently],
    "swapped": [swapped],
    "two-orders": [two_orders],
    "unanswered": [unanswered],
    "undelivered": [kept_from_who_came_back, undelivered, undelivered_from_the_start],
}


@pytest.mark.parametrize(("rule", "spoil"), [(rule, spoil) for rule, spoils in SPOILT.items() for spoil in spoils])
def test_a_spoilt_history_breaks_its_rule(rule: str, spoil: Callable[[], list[Record]]) -> None:
    violations = check(spoil())
    assert {violation.rule for violation in violations} == {rule}, violations
    for violation in violations:
        assert violation.says
        assert 0 < len(violation.excerpt) <= 5


def test_every_rule_has_a_spoilt_history() -> None:
    assert set(SPOILT) == set(RULES)


def test_a_hole_in_a_log() -> None:
    assert "hole" in rules(hole_in_a_log())


# -- at random ------------------------------------------------------------------------------------------------------------


@st.composite
def histories(draw: st.DrawFn) -> list[Record]:
    """What three users with up to two devices each do, of a server without fault."""
    tale = Story()
    tale.befriend(ALICE, BOB)
    online: list[tuple[int, int]] = []
    group = ""
    for number in range(draw(st.integers(5, 40))):
        match draw(st.sampled_from(["login", "send", "send", "send", "again", "received", "close", "join"])):
            case "login" if len(online) < 5:
                user = draw(st.sampled_from([ALICE, BOB, CAROL]))
                online.append((user, tale.login(user)))
            case "close" if online:
                tale.close(online.pop(draw(st.integers(0, len(online) - 1)))[1])
            case "send" if online:
                user, connection = draw(st.sampled_from(online))
                target: int | str = draw(st.sampled_from([ALICE, BOB, CAROL]))
                if group and user in tale._members[group] and draw(st.booleans()):
                    target = group
                answered = draw(st.booleans())
                tale.send(connection, target, f"text {number}", key=f"k{number}", answered=answered)
                if not answered:
                    online.remove((user, connection))
                    tale.close(connection)
            case "again" if online:
                user, connection = draw(st.sampled_from(online))
                keys = [key for sender, key in tale._keys if sender == user]
                if keys:
                    key = draw(st.sampled_from(keys))
                    conv, seq = tale._keys[user, key]
                    tale.send(connection, conv, tale._logs[conv][seq - 1].text, key=key)
            case "received" if online:
                user, connection = draw(st.sampled_from(online))
                places = [(conv, seq) for (number, conv), seq in tale._places.items() if number == connection and seq]
                if places:
                    tale.received(connection, *draw(st.sampled_from(places)))
            case "join":
                user = draw(st.sampled_from([ALICE, BOB, CAROL]))
                if user not in tale._members.get("g:7", ()):
                    group = tale.join(user, 7)
            case _:
                pass
    return tale.read_logs()


@given(histories())
@settings(max_examples=100, deadline=None)
def test_whatever_happens_on_a_good_server_is_no_violation(history: list[Record]) -> None:
    assert check(history) == []


@given(histories(), st.data())
@settings(max_examples=100, deadline=None)
def test_a_spoilt_record_is_found(history: list[Record], data: st.DataObject) -> None:
    spoils: list[tuple[str, Record]] = []
    for record in history:
        match record:
            case Delivered():
                spoils += [("twice", record), ("other text", record)]
            case Logged():
                spoils.append(("other text", record))
            case Answered(seq=seq) if seq:
                spoils += [("twice", record), ("other seq", record)]
            case _:
                pass
    if not spoils:
        return
    how, record = data.draw(st.sampled_from(spoils))
    match how:
        case "twice":
            spoilt = inserted(history, record, attrs.evolve(record))
        case "other text":
            spoilt = replaced(history, record, text="other")
        case _:
            spoilt = replaced(history, record, seq=1000)
    assert check(spoilt) != []


# -- its file, its speed --------------------------------------------------------------------------------------------------


def test_a_history_survives_its_file(tmp_path: pathlib.Path) -> None:
    history = [*good(), FaultBegan(1, 1, "node-kill", "one"), FaultEnded(2, 1), Noticed(1, 1, 2, "online")]
    path = tmp_path / "history.jsonl"
    path.write_bytes(b"".join(to_line(record) + b"\n" for record in history))
    with path.open("rb") as file:
        assert list(read_lines(file)) == history


@pytest.mark.parametrize("line", [b"{", b"[]", b'{"event":"?"}', b'{"event":"closed","at":"x"}', b"\xff", b"{}"])
def test_what_is_no_history_is_refused(line: bytes) -> None:
    good = to_line(LogRead(1.0, CONV, 1))
    with pytest.raises(BadHistory, match="line 2"):
        list(read_lines([good, line]))


def test_a_long_history_is_checked_in_time() -> None:
    tale = Story()
    tale.befriend(ALICE, BOB)
    alice, bob = tale.login(ALICE), tale.login(BOB)
    for number in range(20_000):
        tale.send(alice, BOB, f"text {number}", key=str(number))
        tale.received(bob, CONV, number + 1)
        if number % 100 == 0:
            tale.close(bob)
            bob = tale.login(BOB)
    history = tale.read_logs()
    began = time.process_time()
    assert rules(history) == []
    assert time.process_time() - began < 10  # a second here; a quadratic checker needs hours
