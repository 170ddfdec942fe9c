"""Names: which may be had, which are the same, and which look the same."""

from __future__ import annotations

import itertools

import pytest

from trio_chat.errors import BadRequest
from trio_chat.names import (
    check_group_name,
    check_user_name,
    group_forms,
    password_forms,
    prepare_password,
    skeleton,
    user_forms,
)

#: Each line is one name to a reader: only one of them can be registered.
ALIKE = [
    ["alice", "Alice", "ALICE", "аlice", "ａlice", "a1ice", "AIice", "al\u0456ce", "\u13aalice"],
    ["user 10", "user lO", "User 10", "user  10"],
    ["bernard", "bemard", "Bernard"],
    ["zoë", "zoe\u0308", "ZOË"],
    ["paypal", "раураl", "PayPaI"],
    ["李雷", "李雷"],
    ["o'brien", "O’Brien", "o`brien"],
]
#: These are nobody else's, however near they come.
APART = [
    "zoe",
    "zoë",
    "ali",
    "all",
    "user 1",
    "user 2",
    "user 11",
    "ann marie",
    "annmarie",
    "alice.",
    "alice",
    "李雷",
    "李磊",
]


@pytest.mark.parametrize("names", ALIKE, ids=lambda names: names[0])
def test_what_looks_alike_shares_a_skeleton(names: list[str]) -> None:
    first = user_forms(names[0])
    for name in names:
        assert first.skeletons & user_forms(name).skeletons, name
        assert group_forms(names[0]).skeletons & group_forms(name).skeletons, name


@pytest.mark.parametrize(("one", "other"), list(itertools.combinations(APART, 2)))
def test_what_can_be_told_apart_does_not(one: str, other: str) -> None:
    assert not user_forms(one).skeletons & user_forms(other).skeletons
    assert user_forms(one).canonical != user_forms(other).canonical


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("alice", "ALICE", True), ("ａlice", "alice", True), ("zoë", "zoe\u0308", True), ("alice", "аlice", False)],
)
def test_the_canonical_form_does_not_care_for_capitals_but_for_scripts(one: str, other: str, same: bool) -> None:
    assert (user_forms(one).canonical == user_forms(other).canonical) is same
    assert (group_forms(one).canonical == group_forms(other).canonical) is same


@pytest.mark.parametrize(
    "name", ["a", "alice", "Alice Cooper", "o'brien", "user-1_x.y@z", "李雷", "Zoë", "محمد", "x'); --", "\u00df"]
)
def test_names_that_may_be_had(name: str) -> None:
    check_user_name("name", name)
    check_group_name("groupname", name)


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("a☃", "name: has a symbol: U+2603"),
        ("😀", "name: has a symbol: U+1F600"),
        ("①x", "only another form of common ones: U+2460"),
        (" a", "blanks around it"),
        ("a\u200db", "cannot be printed"),
        ("a\u3000b", "cannot be printed"),
        ("אבa", "from the left and from the right"),
        ("a\u034fb", "cannot be seen: U+034F"),
        ("deleted user 3", "deleted account"),
        ("Dеlеtеd  user", "deleted account"),
    ],
)
def test_names_that_nobody_gets(name: str, reason: str) -> None:
    with pytest.raises(BadRequest, match=r".") as refused:
        check_user_name("name", name)
    assert reason in str(refused.value)
    assert refused.value.field == "name"


def test_a_group_may_have_symbols() -> None:
    check_group_name("groupname", "Climbers 🧗 & co")
    with pytest.raises(BadRequest, match="groupname: has"):
        check_group_name("groupname", "a\u200fb")


def test_a_name_from_before_the_rules_has_forms_too() -> None:
    assert user_forms("😀").skeletons & user_forms("😀").skeletons
    assert user_forms("x☃").canonical == user_forms("X☃").canonical


def test_the_skeleton_of_a_skeleton_is_itself() -> None:
    for name in ["alice", "Ⅷ", "bemard", "%", "ﷺ", "раураl", "l0ve"]:
        assert skeleton(skeleton(name)) == skeleton(name)


def test_a_password_is_the_same_however_it_was_typed() -> None:
    assert prepare_password("password", "zoe\u0308", 1) == prepare_password("password", "zoë", 1)
    assert prepare_password("password", "a\u3000b", 1) == "a b"
    assert password_forms("zoe\u0308") == ["zoë", "zoe\u0308"]
    assert password_forms("secret") == ["secret"]
    assert password_forms("a\0b") == ["a\0b"]
    with pytest.raises(BadRequest, match="password: has a control character: U\\+0000"):
        prepare_password("password", "a\0b", 1)
    with pytest.raises(BadRequest, match="password: has 7 characters, at least 8 are wanted"):
        prepare_password("password", "1234567", 8)
