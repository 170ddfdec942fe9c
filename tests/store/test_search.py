"""Searching the log, on every database."""

from __future__ import annotations

import pytest

from tests.store.conftest import Store
from trio_chat.store.append import Draft
from trio_chat.store.search import MessageSearch, position_of
from trio_chat.wire.conversation import direct_conv, group_conv


async def write(store: Store, sender: int, receiver: int, *texts: str) -> str:
    conv = direct_conv(sender, receiver)
    await store.appender.append([Draft(conv, sender, "name", receiver, text, "now", None) for text in texts])
    return conv


async def find(store: Store, userid: int, *words: str, conv: str | None = None, window: int = 1000) -> list[str]:
    found = await MessageSearch(store.database).search(userid, words, conv, None, 100, window)
    assert [position_of(message) for message in found] == sorted(map(position_of, found), reverse=True)
    return sorted(message.msg for message in found)


@pytest.mark.parametrize(
    ("word", "found"),
    [
        ("fox", ["A red Fox", "the fox's hen"]),
        ("FOX", ["A red Fox", "the fox's hen"]),
        ("%", ["100%"]),
        ("_", ["snake_case"]),
        ("!", ["oh! it's"]),
        ("\\", ["back\\slash"]),
        ("'", ["oh! it's", "the fox's hen"]),
        ("爬山", ["我们明天去爬山"]),
        ("山", ["我们明天去爬山", "火山"]),
        ("ÜBER", ["Über allem"]),
        ("über", ["Über allem"]),
        ("😀", ["well 😀"]),
        ("nothing", []),
    ],
)
async def test_a_word_is_found_in_whatever_form(store: Store, word: str, found: list[str]) -> None:
    a, b = await store.people(2)
    texts = ["A red Fox", "the fox's hen", "100%", "snake_case", "oh! it's", "back\\slash", "我们明天去爬山", "火山"]
    await write(store, a, b, *texts, "Über allem", "well 😀", "bad 😡")
    assert await find(store, a, word) == await find(store, b, word) == sorted(found)


async def test_every_word_has_to_be_there(store: Store) -> None:
    a, b = await store.people(2)
    await write(store, a, b, "red fox", "red hen", "fox and hen")
    assert await find(store, a, "fox", "red") == ["red fox"]
    assert await find(store, a, "fox", "cow") == []


async def test_only_what_one_may_read_is_looked_at(store: Store) -> None:
    a, b, c = await store.people(3)
    conv = await write(store, a, b, "secret of two")
    group = await store.groups.create(a, "g", "")
    await store.appender.append([Draft(group_conv(group), a, "name", group, "secret of the group", "now", None)])
    assert await find(store, a, "secret") == ["secret of the group", "secret of two"]
    assert await find(store, b, "secret") == ["secret of two"]
    assert await find(store, c, "secret") == []
    assert await find(store, c, "secret", conv=conv) == []
    await store.groups.join(c, group)
    assert await find(store, c, "secret") == ["secret of the group"]


async def test_the_window_is_of_the_latest(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_chat.store.search._MESSAGES", 3)
    monkeypatch.setattr("trio_chat.store.search._RANGES", 2)
    people = await store.people(6)
    a = people[0]
    for number in range(10):
        await write(store, a, people[1 + number % 5], *(f"word {number} {index}" for index in range(4)))
    assert len(await find(store, a, "word")) == 40
    assert len(await find(store, a, "word", window=11)) == 11
    assert await find(store, a, "word", window=0) == []
    conv = direct_conv(a, people[1])
    latest = [f"word {number} {index}" for number in (0, 5) for index in range(4)][-5:]
    assert await find(store, a, "word", conv=conv, window=5) == latest


async def test_pages_go_on_where_the_last_ended(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_chat.store.search._MESSAGES", 4)
    a, b, c = await store.people(3)
    for number in range(10):
        await write(store, a, (b, c)[number % 2], f"word {number}", "other")
    search = MessageSearch(store.database)
    whole = await search.search(a, ["word"], None, None, 100, 1000)
    assert len(whole) == 10
    paged: list[tuple[int, str, int]] = []
    while page := await search.search(a, ["word"], None, paged[-1] if paged else None, 3, 1000):
        paged += [position_of(message) for message in page]
    assert paged == [position_of(message) for message in whole]
