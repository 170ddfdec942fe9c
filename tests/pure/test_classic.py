"""What the existing clients get: LOGIN_ACK and messages that fit the 1,024 bytes that they receive into."""

from __future__ import annotations

import itertools
import json
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from tests.pure.bounds import BOUNDED
from trio_chat.wire.classic import BUFFER, fit_login_ack, login_ack, split_delivery
from trio_chat.wire.delivery import Delivery

#: A frame without its NUL.
LIMIT = BUFFER - 1
INT64 = 2**63 - 1

WORST_NAMES = ["\U0001f600" * 50, '"' * 50, "\\" * 50]
NAMES = st.sampled_from(["a", "ann", "é" * 20, 'b"\\', *WORST_NAMES])
IDS = st.sampled_from([1, 42, INT64])
TEXTS = st.sampled_from(["hi", "", "x" * 100, '"' * 90, "\U0001f600\n" * 20, "\x01" * 60, "y" * 900, "z" * 3000])

People = list[dict[str, Any]]


def friends_of(names: list[str]) -> People:
    return [{"id": number, "name": name, "state": "online"} for number, name in enumerate(names, 1)]


def group_of(groupid: int, name: str, members: list[str]) -> dict[str, Any]:
    users = [{"id": n, "name": member, "state": "offline", "role": "normal"} for n, member in enumerate(members, 1)]
    return {"id": groupid, "groupname": name, "groupdesc": "about " + name, "users": users}


def direct(seq: int, msg: str, **changes: Any) -> Delivery:
    fields = {"conv": "d:1:2", "seq": seq, "ts": 1, "sender": 2, "name": "bob", "to": 1, "msg": msg}
    return Delivery(**{**fields, "time": "2026-01-02 03:04:05", **changes})


FRIENDS = st.lists(NAMES, max_size=25).map(friends_of)
GROUPS = st.lists(st.tuples(NAMES, st.lists(NAMES, max_size=8)), max_size=8).map(
    lambda groups: [group_of(number, name, members) for number, (name, members) in enumerate(groups, 1)]
)
OFFLINE = st.lists(TEXTS, max_size=10).map(lambda texts: [direct(seq, text) for seq, text in enumerate(texts, 1)])


def objects(texts: Any) -> list[Any]:
    """A list as the existing clients read it: of strings, each a JSON object."""
    assert isinstance(texts, list)
    assert all(isinstance(text, str) for text in texts)
    return [json.loads(text) for text in texts]


def read_ack(frame: bytes) -> tuple[dict[str, Any], People, People, People]:
    """LOGIN_ACK's plain fields, friends, groups (with members as objects) and offline messages."""
    ack = json.loads(frame)
    lists = []
    for name in ("friends", "groups", "offlinemsg"):
        assert ack.get(name) != [], "an empty list is left out"
        lists.append(objects(ack.pop(name, [])))
    friends, groups, offline = lists
    for group in groups:
        group["users"] = objects(group["users"])  # there even where it is empty: the clients do not ask
    return ack, friends, groups, offline


def members_of(groups: People) -> list[Any]:
    return [(group["id"], user) for group in groups for user in group["users"]]


def without_members(groups: People) -> People:
    return [{**group, "users": []} for group in groups]


def members_cut(groups: People, count: int) -> People:
    """The groups with their first members, `count` of them in all."""
    left = iter(range(count))
    return [{**group, "users": [user for user in group["users"] if next(left, None) is not None]} for group in groups]


# -- LOGIN_ACK ------------------------------------------------------------------------------------------------------------


@BOUNDED
@given(IDS, NAMES, FRIENDS, GROUPS, OFFLINE)
def test_without_a_limit_everything_is_in_it(
    userid: int, name: str, friends: People, groups: People, offline: list[Delivery]
) -> None:
    messages = [message.classic_fields() for message in offline]
    expected = ({"msgid": 2, "errno": 0, "id": userid, "name": name}, friends, groups, messages)
    assert read_ack(login_ack(userid, name, friends, groups, offline)) == expected
    assert fit_login_ack(userid, name, friends, groups, offline, 10**6) == (
        login_ack(userid, name, friends, groups, offline),
        len(offline),
    )


@BOUNDED
@given(IDS, NAMES, FRIENDS, GROUPS, OFFLINE, st.sampled_from([LIMIT, LIMIT, 700, 4000]))
@example(INT64, WORST_NAMES[0], friends_of(WORST_NAMES * 5), [group_of(1, WORST_NAMES[1], WORST_NAMES)], [], LIMIT)
def test_it_fits_and_leaves_out_only_what_it_must_in_the_order_of_the_protocol(
    userid: int, name: str, friends: People, groups: People, offline: list[Delivery], limit: int
) -> None:
    frame, count = fit_login_ack(userid, name, friends, groups, offline, limit)
    assert len(frame) <= limit
    ack, kept_friends, kept_groups, kept_offline = read_ack(frame)

    # What is kept is the beginning of each list.
    assert ack == {"msgid": 2, "errno": 0, "id": userid, "name": name}
    assert kept_offline == [message.classic_fields() for message in offline[:count]]
    assert kept_friends == friends[: len(kept_friends)]
    assert without_members(kept_groups) == without_members(groups[: len(kept_groups)])
    assert members_of(kept_groups) == members_of(groups)[: len(members_of(kept_groups))]

    # Each sort is touched only where the one before it is gone, and then no more than necessary.
    def fits(friends: People, groups: People, offline: list[Delivery]) -> bool:
        return len(login_ack(userid, name, friends, groups, offline)) <= limit

    if kept_friends != friends:
        assert not kept_groups
        assert not fits(friends[: len(kept_friends) + 1], [], [])
    elif len(kept_groups) < len(groups):
        assert not members_of(kept_groups)
        assert not fits(friends, without_members(groups[: len(kept_groups) + 1]), [])
    elif kept_groups != groups:
        assert not kept_offline
        assert not fits(friends, members_cut(groups, len(members_of(kept_groups)) + 1), [])
    elif count < len(offline):
        assert not fits(friends, groups, offline[: count + 1])


def test_the_worst_account_of_all_fits_alone() -> None:
    for name in WORST_NAMES:
        frame, _ = fit_login_ack(INT64, name, friends_of([name] * 50), [group_of(1, name, [name] * 50)], [], LIMIT)
        assert len(frame) + 1 <= 1024
        assert read_ack(frame)[0]["name"] == name


def test_an_account_with_nothing_has_no_lists() -> None:
    assert login_ack(5, "ann", [], [], []) == b'{"msgid":2,"errno":0,"id":5,"name":"ann"}'


def test_lists_are_of_strings_each_a_json_object() -> None:
    group = group_of(3, "g", ["eve"])
    ack = json.loads(login_ack(5, "ann", friends_of(["bob"]), [group], [direct(1, 'say "hi"')]))
    assert ack["friends"] == ['{"id":1,"name":"bob","state":"online"}']
    assert json.loads(ack["groups"][0]) == {**group, "users": [json.dumps(group["users"][0], separators=(",", ":"))]}
    assert json.loads(ack["offlinemsg"][0])["msg"] == 'say "hi"'


def test_a_group_without_members_keeps_its_empty_list() -> None:
    ack = json.loads(login_ack(5, "ann", [], [group_of(3, "g", [])], []))
    assert json.loads(ack["groups"][0])["users"] == []


def test_a_long_message_keeps_its_place_and_those_behind_it_follow_too() -> None:
    offline = [direct(1, "a"), direct(2, "b" * 2000), direct(3, "c")]
    frame, count = fit_login_ack(5, "ann", [], [], offline, LIMIT)
    assert count == 1
    assert [message["msg"] for message in read_ack(frame)[3]] == ["a"]


def test_groups_messages_are_among_the_offline_messages() -> None:
    frame, count = fit_login_ack(5, "ann", [], [], [direct(1, "hi", conv="g:9", to=9)], LIMIT)
    assert count == 1
    assert read_ack(frame)[3][0] == {
        "msgid": 10,
        "id": 2,
        "name": "bob",
        "groupid": 9,
        "msg": "hi",
        "time": "2026-01-02 03:04:05",
    }


# -- messages in parts ----------------------------------------------------------------------------------------------------

TIMES = st.sampled_from(["2026-01-02 03:04:05", "", "t" * 64, "\U0001f600" * 64, "\x01" * 64, '"' * 64])
CHARACTERS = st.sampled_from('ab "\\/\n\x00\x01\x7fé\u2028\uffff\U0001f600')
MESSAGES = st.lists(st.tuples(CHARACTERS, st.integers(1, 400)), min_size=1, max_size=8).map(
    lambda runs: "".join(character * count for character, count in runs)
)


def check_parts(message: Delivery, limit: int = LIMIT) -> list[dict[str, Any]]:
    """The parts as objects; each fits, none could hold the next one's first character, together they are the text."""
    parts = split_delivery(message, limit)
    assert all(len(part) <= limit for part in parts)
    assert all(not set(part) & {0, 10} for part in parts)
    frames = [json.loads(part) for part in parts]  # UTF-8, too
    assert "".join(frame["msg"] for frame in frames) == message.msg
    assert all(frame["msg"] for frame in frames)
    times = {frame["time"] for frame in frames}
    assert times in ({message.time}, {message.time[:19]})
    expected = message.classic_fields()
    for frame in frames:
        assert list(frame) == list(expected)
        assert {**frame, "msg": "", "time": ""} == {**expected, "msg": "", "time": ""}
    for frame, following in itertools.pairwise(frames):
        longer = {**frame, "msg": frame["msg"] + following["msg"][0]}
        assert len(direct(0, longer["msg"], **as_changes(message, frame["time"])).classic()) > limit
    return frames


def as_changes(message: Delivery, time: str) -> dict[str, Any]:
    return {"conv": message.conv, "sender": message.sender, "name": message.name, "to": message.to, "time": time}


@BOUNDED
@given(MESSAGES, NAMES, IDS, TIMES, st.booleans())
@example("\U0001f600" * 4096, WORST_NAMES[0], INT64, "\x01" * 64, True)
@example("\x01" * 16384, WORST_NAMES[1], INT64, "\U0001f600" * 64, False)
def test_a_message_in_parts_is_the_message(text: str, name: str, userid: int, time: str, group: bool) -> None:
    conv = f"g:{userid}" if group else f"d:1:{userid}"
    message = direct(1, text, conv=conv, name=name, sender=userid, to=userid, time=time)
    frames = check_parts(message)
    if len(message.classic()) <= LIMIT:
        assert frames == [message.classic_fields()]
    else:
        assert len(frames) > 1
    assert all(frame["time"] == time for frame in frames), "what a client may send as time fits"


@pytest.mark.parametrize("spare", [-1, 0, 1], ids=["too short by one", "exact", "one to spare"])
def test_a_message_that_just_fits_is_not_split(spare: int) -> None:
    message = direct(1, "x" * 500)
    assert len(check_parts(message, len(message.classic()) + spare)) == (2 if spare < 0 else 1)


def test_a_message_that_fits_is_the_frame_that_all_others_get() -> None:
    message = direct(1, "hi")
    assert split_delivery(message, LIMIT)[0] is message.classic()


@pytest.mark.parametrize("character", ['"', "\\", "\n", "\x01", "é", "\uffff", "\U0001f600"], ids=ascii)
def test_a_character_is_never_torn(character: str) -> None:
    frames = check_parts(direct(1, character * 1500))
    assert len(frames) > 1
    assert {len(frame["msg"]) for frame in frames[:-1]} == {len(frames[0]["msg"])}


@pytest.mark.parametrize("time", ["t" * 2000, "t" * 950, "\U0001f600" * 300, "\x01" * 200], ids=len)
def test_a_time_that_leaves_no_room_is_cut_and_the_text_stays(time: str) -> None:
    frames = check_parts(direct(1, "some text that is longer than what is left " * 3, time=time))
    assert {frame["time"] for frame in frames} == {time[:19]}


def test_a_split_leaves_the_message_as_it_was() -> None:
    message = direct(1, "x" * 3000, time="t" * 2000)
    before = (message.modern(), message.classic(), message.time)
    split_delivery(message, LIMIT)
    assert (message.modern(), message.classic(), message.time) == before
