"""What a database promises to its nodes, whichever it is."""

from __future__ import annotations

import json
import random
import re
from collections import Counter
from collections.abc import Sequence

import pytest
import trio

from tests.store.conftest import Store
from trio_chat.errors import AccountInUse, AlreadyExists, Forbidden, NameTaken, NoSuchGroup, NoSuchUser
from trio_chat.store.accounts import TokenUse
from trio_chat.store.append import Draft, Stored
from trio_chat.store.contract import Last, Steps, UniqueViolation
from trio_chat.store.log import Cursor
from trio_chat.store.logins import Logins
from trio_chat.store.presence import Entry, StateChange
from trio_chat.wire.conversation import direct_conv, group_conv

Stores = tuple[Store, Store]

NOW = 1_700_000_000_000


def direct(sender: int, receiver: int, msg: str = "hi", key: str | None = None, *, time: str = "now") -> Draft:
    return Draft(direct_conv(sender, receiver), sender, f"name {sender}", receiver, msg, time, key)


def to_group(sender: int, groupid: int, msg: str = "hi", key: str | None = None) -> Draft:
    return Draft(group_conv(groupid), sender, f"name {sender}", groupid, msg, "now", key)


async def whole(store: Store, conv: str) -> list[tuple[int, str]]:
    return [(each.seq, each.msg) for each in await store.log.after(conv, 0, 10_000)]


async def offline(store: Store, userid: int) -> list[dict[str, object]]:
    """A user's rows in the view that the family's tools read."""

    def steps() -> Steps[Sequence[tuple[str, ...]]]:
        result = yield "SELECT message FROM OfflineMessage WHERE userid = ?", (userid,)
        return result.rows

    return [json.loads(message) for (message,) in await store.database.read(steps)]


# --- appending ---


async def test_a_batch_gets_dense_seqs_in_its_order(store: Store) -> None:
    a, b, c = await store.people(3)
    batch = [direct(a, b, "1"), direct(a, c, "x"), direct(b, a, "2"), direct(a, b, "3"), direct(c, a, "y")]
    stored = await store.appender.append(batch)
    assert [(each.conv, each.seq, each.duplicate) for each in stored] == [
        (direct_conv(a, b), 1, False),
        (direct_conv(a, c), 1, False),
        (direct_conv(a, b), 2, False),
        (direct_conv(a, b), 3, False),
        (direct_conv(a, c), 2, False),
    ]
    (more,) = await store.appender.append([direct(b, a, "4")])
    assert more.seq == 4
    assert await whole(store, direct_conv(a, b)) == [(1, "1"), (2, "2"), (3, "3"), (4, "4")]
    assert more.ts >= stored[0].ts > 1_600_000_000_000
    (found,) = await store.log.after(direct_conv(a, b), 1, 1)
    assert (found.sender, found.to, found.time, found.ts, found.key) == (b, a, "now", stored[2].ts, None)


async def test_many_batches_at_once_from_two_nodes_leave_no_hole(stores: Stores) -> None:
    a, b, c = await stores[0].people(3)
    taken: list[Stored] = []

    async def write(store: Store, number: int) -> None:
        choose = random.Random(number)
        for _ in range(8):
            pairs = [choose.choice([(a, b), (b, a), (b, c), (c, a), (c, c)]) for _ in range(choose.randint(1, 12))]
            taken.extend(await store.appender.append([direct(*pair) for pair in pairs]))

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(write, stores[number % 2], number)
    for conv, count in Counter(each.conv for each in taken).items():
        seqs = sorted(each.seq for each in taken if each.conv == conv)
        assert seqs == list(range(1, count + 1))
        log = await stores[0].log.after(conv, 0, 10_000)
        assert [each.seq for each in log] == seqs
        assert [each.ts for each in log] == sorted(each.ts for each in log)


async def test_a_key_is_stored_once_whatever_it_says_and_wherever_it_goes(store: Store) -> None:
    a, b, c = await store.people(3)
    (first,) = await store.appender.append([direct(a, b, "first", "k")])
    again = await store.appender.append(
        [direct(a, b, "again", "k"), direct(a, c, "elsewhere", "k"), direct(b, a, "another's", "k"), direct(a, b)]
    )
    assert again[:2] == [Stored(first.conv, first.seq, first.ts, duplicate=True)] * 2
    assert [(each.seq, each.duplicate) for each in again[2:]] == [(2, False), (3, False)]
    assert await whole(store, direct_conv(a, b)) == [(1, "first"), (2, "another's"), (3, "hi")]
    assert await whole(store, direct_conv(a, c)) == []


async def test_a_key_twice_in_one_batch(store: Store) -> None:
    a, b = await store.people(2)
    stored = await store.appender.append([direct(a, b, "1", "k"), direct(a, b, "2"), direct(a, b, "3", "k")])
    assert [(each.seq, each.duplicate) for each in stored] == [(1, False), (2, False), (1, True)]
    assert await whole(store, direct_conv(a, b)) == [(1, "1"), (2, "2")]
    # All of a batch known already: nothing is stored, all is answered.
    assert [each.duplicate for each in await store.appender.append([direct(a, b, "1", "k")] * 2)] == [True, True]


async def test_keys_are_compared_to_the_letter(store: Store) -> None:
    a, b = await store.people(2)
    keys = [
        "k",
        "K",
        "k ",
        " k",
        "\u00e9",
        "e\u0301",
        "\u00df",
        "ss",
        "\N{PILE OF POO}",
        "\0",
        "\0\0",
        "'",
        '"',
        "\\",
        "%",
        "?",
        "x" * 64,
    ]
    stored = await store.appender.append([direct(a, b, key, key) for key in keys])
    assert [each.seq for each in stored] == list(range(1, len(keys) + 1))
    again = await store.appender.append([direct(a, b, "again", key) for key in reversed(keys)])
    assert [each.seq for each in again] == list(range(len(keys), 0, -1))
    assert all(each.duplicate for each in again)
    assert [each.key for each in await store.log.after(direct_conv(a, b), 0, 100)] == keys


async def test_the_same_keys_from_two_nodes_at_once(stores: Stores) -> None:
    """Everyone gets the same answer for a key, in whatever batches and to whatever conversations it was sent."""
    a, b, c, d = await stores[0].people(4)
    keys = [f"k{number}" for number in range(12)]
    answers: dict[str, list[Stored]] = {key: [] for key in keys}

    async def write(store: Store, number: int) -> None:
        choose = random.Random(number)
        for _ in range(4):
            some = choose.sample(keys, 6)
            stored = await store.appender.append([direct(a, choose.choice([b, c, d]), "m", key) for key in some])
            for key, where in zip(some, stored, strict=True):
                answers[key].append(where)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(write, stores[number % 2], number)
    for given in answers.values():
        assert len({(each.conv, each.seq, each.ts) for each in given}) <= 1
        assert [each.duplicate for each in given].count(False) == bool(given)
    logs = [await stores[0].log.after(direct_conv(a, other), 0, 1000) for other in (b, c, d)]
    assert sorted(each.key or "" for log in logs for each in log) == sorted(key for key in keys if answers[key])
    assert all([each.seq for each in log] == list(range(1, len(log) + 1)) for log in logs)


async def test_was_stored_tells_what_became_of_a_commit(store: Store) -> None:
    a, b = await store.people(2)
    drafts = [direct(a, b, "1", "known"), direct(a, b, "2")]
    await store.appender.append(drafts[:1])
    stored = await store.appender.append(drafts)
    assert [each.duplicate for each in stored] == [True, False]
    assert await store.appender.was_stored(drafts, stored)
    assert await store.appender.was_stored(drafts[:1], stored[:1])
    where = stored[1]
    for wrong in (
        Stored(where.conv, where.seq + 1, where.ts, duplicate=False),  # never happened
        Stored(where.conv, where.seq, where.ts + 1, duplicate=False),  # the seq went to another one
    ):
        assert not await store.appender.was_stored([direct(a, b, "2")], [wrong])
    assert not await store.appender.was_stored([direct(a, b, "other")], [where])


@pytest.mark.parametrize(
    "text",
    [
        "'; DROP TABLE Message; --",
        "\\' \\\" \\0 \\n \\Z \\% \\_",
        "\0 a NUL",
        "? %s %(x)s :x $1",
        "`\"'",
        "\N{PILE OF POO}\N{ZERO WIDTH JOINER}\u0627\u0644",
        "\r\n\t\x1a\x7f\x85\u2028",
        " blanks ",
        "x" * 16384,
        "\N{PILE OF POO}" * 4096,
        "\\" * 16384,
        "'" * 16384,
        '{"msgid": 6}',
    ],
    ids=lambda text: repr(text)[:20],
)
async def test_any_text_comes_back_as_it_was(store: Store, text: str) -> None:
    a, b = await store.people(2)
    (stored,) = await store.appender.append([direct(a, b, text, text[:64], time=text[:64])])
    (found,) = await store.log.after(stored.conv, 0, 1)
    assert (found.msg, found.key, found.time) == (text, text[:64], text[:64])
    (row,) = await offline(store, b)
    assert (row["msg"], row["time"]) == (text, text[:64])


async def test_the_largest_batch(store: Store) -> None:
    a, b = await store.people(2)
    stored = await store.appender.append([direct(a, b, "\\" * 4000, str(number)) for number in range(2000)])
    assert [each.seq for each in stored] == list(range(1, 2001))
    again = await store.appender.append([direct(a, b, "x", str(number)) for number in range(2000)])
    assert [each.seq for each in again] == list(range(1, 2001))


async def test_the_greatest_numbers(store: Store) -> None:
    greatest = 2**63 - 1
    (a,) = await store.people(1)
    assert await store.accounts.by_id(greatest) is None
    with pytest.raises(NoSuchUser):
        await store.accounts.add_friend(a, greatest)
    with pytest.raises(NoSuchGroup):
        await store.groups.membership(a, greatest)
    with pytest.raises(NoSuchGroup):
        await store.groups.join(a, greatest)
    conv = direct_conv(a, greatest)
    (stored,) = await store.appender.append([Draft(conv, a, "a", greatest, "m", "t", None)])
    assert await store.log.after(conv, greatest, 10) == []
    assert [each.to for each in await store.log.before(conv, greatest, 10)] == [greatest]
    await store.log.move_cursors([(a, conv, greatest - 1)])
    assert await store.log.cursor(a, conv) == Cursor(conv, greatest - 1, 0, 1)
    assert (await store.log.changes(greatest)).heads == []
    assert (await store.log.changes(-greatest + 1000)).heads == [(conv, 1)]
    assert stored.seq == 1


# --- reading ---


async def test_history_in_both_directions(store: Store) -> None:
    a, b = await store.people(2)
    conv = direct_conv(a, b)
    await store.appender.append([direct(a, b, str(number)) for number in range(1, 11)])

    async def after(seq: int, limit: int) -> list[int]:
        return [each.seq for each in await store.log.after(conv, seq, limit)]

    async def before(seq: int, limit: int) -> list[int]:
        return [each.seq for each in await store.log.before(conv, seq, limit)]

    assert await after(0, 3) == [1, 2, 3]
    assert await after(8, 3) == [9, 10]
    assert await after(10, 3) == []
    assert await before(2**63 - 1, 3) == [8, 9, 10]
    assert await before(3, 5) == [1, 2]
    assert await before(1, 5) == []
    assert await store.log.after("d:1:999999", 0, 5) == []
    assert await store.log.after(conv, 10, 5) == []


async def test_undelivered_is_in_the_order_of_storing(store: Store) -> None:
    a, b, c = await store.people(3)
    group = await store.groups.create(c, "undelivered", "")
    await store.groups.join(a, group)
    for number in range(4):
        await store.appender.append([direct(b, a, f"b{number}")])
        await store.appender.append([to_group(c, group, f"g{number}"), direct(c, b, "not for a")])
        await trio.sleep(0.002)  # the database's clock goes on: messages of different batches have different times
    texts = [each.msg for each in await store.log.undelivered(a, 100)]
    assert [sorted(texts[start : start + 2]) for start in range(0, 8, 2)] == [[f"b{n}", f"g{n}"] for n in range(4)]
    assert [each.msg for each in await store.log.undelivered(a, 3)] == texts[:3]
    await store.log.move_cursors([(a, direct_conv(a, b), 3), (a, group_conv(group), 4)])
    assert [each.msg for each in await store.log.undelivered(a, 100)] == ["b3"]
    assert await store.log.first_from_others(a, direct_conv(a, b), 3) == 4
    assert await store.log.first_from_others(a, direct_conv(a, b), 4) is None
    assert await store.log.first_from_others(b, direct_conv(a, b), 0) is None


async def test_cursors_move_forward_only(stores: Stores) -> None:
    a, b, c = await stores[0].people(3)
    log = stores[0].log
    ab, ac = direct_conv(a, b), direct_conv(a, c)
    await stores[0].appender.append([direct(a, b)] * 9 + [direct(a, c)] * 9)
    assert {each.conv: each for each in await stores[0].cursors(a)} == {
        ab: Cursor(ab, 0, 0, 9),
        ac: Cursor(ac, 0, 0, 9),
    }
    assert await stores[0].cursors(b) == [Cursor(ab, 0, 0, 9)]
    await log.move_cursors([(a, ab, 5), (a, ac, 2), (b, ab, 1)])
    await log.move_cursors([(a, ab, 3), (a, ac, 4)])
    await log.mark_seen(a, ab, 4)
    await log.mark_seen(a, ab, 2)
    assert await log.cursor(a, ab) == Cursor(ab, 5, 4, 9)
    assert await log.cursor(a, ac) == Cursor(ac, 4, 0, 9)
    assert await log.cursor(b, ab) == Cursor(ab, 1, 0, 9)
    assert await log.cursor(c, ab) is None
    assert await log.cursor(a, "g:77") is None

    async def move(store: Store, seqs: list[int]) -> None:
        for seq in seqs:
            await store.log.move_cursors([(b, ab, seq), (a, ab, seq), (c, ac, seq)])

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(move, stores[number % 2], random.Random(number).sample(range(10), 10))
    assert await log.cursor(b, ab) == Cursor(ab, 9, 0, 9)
    many = [(number, ab, 1) for number in range(10_000, 11_100)]
    await log.move_cursors(many)
    assert await log.cursor(11_000, ab) == Cursor(ab, 1, 0, 9)


async def test_changes_since_a_time(store: Store) -> None:
    a, b = await store.people(2)
    before = await store.log.now()
    group = await store.groups.create(a, "changes", "")
    await store.groups.join(b, group)
    await store.appender.append([direct(a, b), direct(a, b), to_group(b, group)])
    node = await store.presence.register_node("n", "b")
    entered = await store.enter(a, node)
    changes = await store.log.changes(before)
    assert sorted(changes.heads) == sorted([(direct_conv(a, b), 2), (group_conv(group), 1)])
    assert sorted(changes.joins) == [(group, a), (group, b)]
    assert entered is not None
    assert changes.states == [(a, "online", entered.changed)]
    assert changes.marks == []
    assert changes.now >= before
    await store.log.mark_seen(b, direct_conv(a, b), 2)
    await store.log.mark_seen(b, direct_conv(a, b), 1)
    assert (await store.log.changes(before)).marks == [(b, direct_conv(a, b), 2)]
    later = await store.log.changes(changes.now + 60_000)
    assert (later.heads, later.joins, later.states, later.marks) == ([], [], [], [])


# --- what tools of the family see ---


async def test_the_view_of_offline_messages(store: Store) -> None:
    a, b, c = await store.people(3)
    group = await store.groups.create(a, "view", "")
    await store.groups.join(b, group)
    await store.appender.append([direct(a, b, "one"), direct(a, b, "two"), to_group(a, group, "three")])
    name = f"{(await store.accounts.by_id(a) or pytest.fail('gone')).name}"
    common = {"id": a, "name": name, "time": "now"}
    rows = sorted(await offline(store, b), key=lambda row: str(row["msg"]))
    assert rows == [
        {"msgid": 6, "toid": b, "msg": "one", **common},
        {"msgid": 10, "groupid": group, "msg": "three", **common},
        {"msgid": 6, "toid": b, "msg": "two", **common},
    ]
    await store.log.move_cursors([(b, direct_conv(a, b), 1), (b, group_conv(group), 1)])
    assert [row["msg"] for row in await offline(store, b)] == ["two"]
    assert await offline(store, c) == []


# --- accounts and tokens ---


async def test_accounts_and_friends(store: Store) -> None:
    name = "O'Brien \\ \N{PILE OF POO} %s ?"
    userid = await store.accounts.register(name, "$argon2id$hash")
    account = await store.accounts.by_name(name)
    assert account == await store.accounts.by_id(userid)
    assert account is not None
    assert (account.id, account.name, account.password) == (userid, name, "$argon2id$hash")
    with pytest.raises(NameTaken):
        await store.accounts.register(name, "x")
    # Names that differ differ, whatever a collation may think.
    for other in ("\u00e9", "e", "o", "\u00f6", "n", "\u00f1", "a b", "ab"):
        await store.accounts.register(other, "x")
    assert await store.accounts.by_name("O'Brien") is None
    a, b = await store.people(2)
    friend = await store.accounts.add_friend(userid, b)
    assert (friend.id, friend.state) == (b, "offline")
    await store.accounts.add_friend(userid, a)
    with pytest.raises(AlreadyExists):
        await store.accounts.add_friend(userid, b)
    assert [each.id for each in await store.friends(userid)] == [a, b]
    assert await store.friends(a) == []


async def test_the_same_name_from_two_nodes_at_once(stores: Stores) -> None:
    made: list[int] = []
    refused: list[int] = []

    async def register(store: Store) -> None:
        try:
            made.append(await store.accounts.register("the name", "x"))
        except NameTaken:
            refused.append(1)

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(register, stores[number % 2])
    assert (len(made), len(refused)) == (1, 5)


async def test_tokens_expire_and_are_renewed_and_revoked(store: Store) -> None:
    a, b = await store.people(2)
    accounts = store.accounts
    first, second, third = bytes(range(32)), b"\0" * 32, b"'\\\x1a\n%?\xff\x80" * 4
    for digest, userid in ((first, a), (second, a), (third, b)):
        await accounts.keep_token(digest, userid, 0, NOW + 1000, NOW)

    async def owner(digest: bytes, now: int, renewed_until: int = NOW + 1000) -> int | None:
        account = await store.use_token(digest, renewed_until, now)
        return account.id if account else None

    # The same time once more is a renewal too.
    assert [await owner(digest, NOW + 999) for digest in (first, second, third)] == [a, a, b]
    assert await owner(first, NOW + 1000) is None
    assert await owner(b"x" * 32, NOW) is None
    assert await owner(first, NOW, NOW + 9000) == a
    assert [await owner(first, NOW + 8999, NOW + 9000), await owner(first, NOW + 9000)] == [a, None]
    # A new one for anybody is the end of all that have expired.
    await accounts.keep_token(b"y" * 32, b, 0, NOW + 9000, NOW + 2000)
    assert [await owner(digest, NOW) for digest in (first, second, third)] == [a, None, None]
    await accounts.revoke_token(first)
    await accounts.revoke_token(first)
    assert await owner(first, NOW) is None


async def test_a_token_that_is_revoked_while_it_is_used_stays_revoked(stores: Stores) -> None:
    (a,) = await stores[0].people(1)
    for number in range(20):
        digest = bytes([number]) * 32
        await stores[0].accounts.keep_token(digest, a, 0, NOW + 1000, NOW)
        async with trio.open_nursery() as nursery:
            nursery.start_soon(stores[0].use_token, digest, NOW + 9000, NOW)
            nursery.start_soon(stores[1].accounts.revoke_token, digest)
        assert await stores[0].use_token(digest, NOW + 9000, NOW) is None


# --- groups ---


async def test_groups_and_their_members(store: Store) -> None:
    a, b, c = await store.people(3)
    group = await store.groups.create(a, "group's \\ \N{PILE OF POO}", "what ' it % is ?")
    assert await store.groups.membership(a, group)
    assert not await store.groups.membership(b, group)
    with pytest.raises(AlreadyExists):
        await store.groups.create(b, "group's \\ \N{PILE OF POO}", "")
    await store.appender.append([to_group(a, group, "before b"), to_group(a, group, "too")])
    assert await store.groups.join(b, group) == 2
    with pytest.raises(AlreadyExists):
        await store.groups.join(b, group)
    with pytest.raises(NoSuchGroup):
        await store.groups.join(b, group + 1)
    assert await store.log.cursor(b, group_conv(group)) == Cursor(group_conv(group), 2, 2, 2)
    record = await store.groups.get(group, 10)
    assert (record.groupname, record.groupdesc) == ("group's \\ \N{PILE OF POO}", "what ' it % is ?")
    assert [(each.id, each.role, each.state) for each in record.users] == [
        (a, "creator", "offline"),
        (b, "normal", "offline"),
    ]
    assert [each.id for each in (await store.groups.get(group, 1)).users] == [a]
    with pytest.raises(NoSuchGroup):
        await store.groups.get(group + 1, 1)
    other = await store.groups.create(b, "another", "")
    found = await store.groups.of([c, b, a])
    assert {userid: [each.id for each in groups] for userid, groups in found.items()} == {
        a: [group],
        b: [group, other],
        c: [],
    }
    for most, counts in ((10, [2, 1]), (2, [2, 0]), (0, [0, 0])):
        members = await store.groups.members({b: [group, other], a: [group]}, most)
        assert [len(members[b][each]) for each in (group, other)] == counts
        assert [each.id for each in members[a][group]] == [a, b][:most]
    assert await store.groups.members({}, 10) == {}


async def test_the_members_of_very_many_groups(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """In as many statements as it takes, for each reader his own."""
    monkeypatch.setattr("trio_chat.store.groups._PARAMETERS", 4)
    a, b, c = await store.people(3)
    groups = [await store.groups.create(a, f"group {number}", "") for number in range(7)]
    for group in groups[::2]:
        await store.groups.join(b, group)
    members = await store.groups.members({a: groups, b: groups[::2], c: groups[:1]}, 5)
    assert [[each.id for each in found] for found in members[a].values()] == [[a, b], [a], [a, b], [], [], [], []]
    assert [[each.id for each in found] for found in members[b].values()] == [[a, b], [a, b], [a], []]
    assert [[each.id for each in found] for found in members[c].values()] == [[a, b]]


async def test_joining_while_others_write(stores: Stores) -> None:
    """Whoever joins knows exactly from where on the messages are his, and a second join is refused."""
    creator, *joiners = await stores[0].people(6)
    group = await stores[0].groups.create(creator, "busy", "")
    conv = group_conv(group)
    positions: dict[int, int] = {}
    twice: list[int] = []
    joined = trio.Event()

    async def write(store: Store) -> None:
        while not joined.is_set():
            await store.appender.append([to_group(creator, group, "m")] * 3)

    async def join(store: Store, userid: int) -> None:
        try:
            positions[userid] = await store.groups.join(userid, group)
        except AlreadyExists:
            twice.append(userid)

    async with trio.open_nursery() as nursery:
        for store in stores:
            nursery.start_soon(write, store)
        async with trio.open_nursery() as joining:
            for userid in joiners:
                for store in stores:
                    joining.start_soon(join, store, userid)
        joined.set()
    assert sorted(positions) == sorted(twice) == sorted(joiners)
    for userid, position in positions.items():
        cursor = await stores[1].log.cursor(userid, conv)
        assert cursor is not None
        assert cursor.received == position <= cursor.last_seq
        assert position % 3 == 0  # never in the middle of a batch
        assert len(await stores[0].log.undelivered(userid, 10_000)) == cursor.last_seq - position
    assert len((await stores[0].groups.get(group, 100)).users) == 6


# --- presence ---


async def test_of_many_exclusive_logins_at_once_one_succeeds(stores: Stores) -> None:
    (a,) = await stores[0].people(1)
    nodes = [await store.presence.register_node(name, "bus") for store, name in zip(stores, "ab", strict=True)]
    for _ in range(5):
        won: list[int] = []
        refused: list[int] = []

        async def enter(number: int, won: list[int] = won, refused: list[int] = refused) -> None:
            try:
                change = await stores[number].enter(a, nodes[number], exclusive=True)
            except AccountInUse:
                refused.append(number)
            else:
                assert change is not None
                assert change.state == "online"
                won.append(number)

        async with trio.open_nursery() as nursery:
            for number in (0, 1, 0, 1):
                nursery.start_soon(enter, number)
        assert (len(won), len(refused)) == (1, 3)
        (left,) = await stores[1 - won[0]].presence.leave([a], nodes[won[0]])
        assert (left.userid, left.state) == (a, "offline")


async def test_many_logins_at_once(store: Store) -> None:
    """Each hears of its own: who was there before, in this batch or an earlier one, and who may not come."""
    a, b, c, d = await store.people(4)
    one, two = [await store.presence.register_node(name, "bus") for name in ("one", "two")]
    name = (await store.accounts.by_id(d)).name  # type: ignore[union-attr]  # there is one
    await store.relations.disable(name)
    first = await store.enter(a, one)
    assert first is not None
    entries = [
        Entry(c),
        Entry(a, exclusive=True),
        Entry(b, exclusive=True),
        Entry(d),
        Entry(b, exclusive=True),
        Entry(c),
    ]
    entered = await store.presence.enter(entries, two)
    assert [type(outcome) for outcome in entered] == [
        *(StateChange, AccountInUse, StateChange, Forbidden, AccountInUse),
        type(None),
    ]
    assert await store.presence.users_of(two) == {b, c}
    left = {each.userid: each.changed for each in await store.presence.leave([b, c], two)}
    for outcome in entered:
        if isinstance(outcome, StateChange):
            assert outcome.changed < left[outcome.userid]
    await store.accounts.add_friend(a, c)
    await store.accounts.add_friend(b, a)
    friends = await store.accounts.friends([a, b, c])
    assert {userid: [each.id for each in theirs] for userid, theirs in friends.items()} == {a: [c], b: [a], c: []}


async def test_many_tokens_at_once(store: Store) -> None:
    a, b = await store.people(2)
    digests = [bytes([number]) * 32 for number in range(4)]
    for digest, userid in zip(digests, (a, b, a, b), strict=True):
        await store.accounts.keep_token(digest, userid, 0, NOW + (1 if digest == digests[3] else 1000), NOW)
    uses = [
        TokenUse(digests[1], "phone's \\", "10.0.0.1"),
        TokenUse(b"?" * 32, "nobody", ""),
        TokenUse(digests[0], "page", "::1"),
        TokenUse(digests[3], "late", ""),
        TokenUse(digests[0], "page again", "::2"),
    ]
    accounts = await store.accounts.use_tokens(uses, NOW + 5000, NOW + 10)
    assert [account and account.id for account in accounts] == [b, None, a, None, a]
    logins = Logins(store.database)
    listed = [*await logins.of(a, NOW + 10), *await logins.of(b, NOW + 10)]
    assert {record.digest: (record.client, record.address, record.expires) for record in listed} == {
        digests[0]: ("page again", "::2", NOW + 5000),
        digests[1]: ("phone's \\", "10.0.0.1", NOW + 5000),
        digests[2]: ("", "", NOW + 1000),
    }


async def test_offline_is_who_has_left_every_node(store: Store) -> None:
    a, b, c = await store.people(3)
    presence = store.presence
    one, two = [await presence.register_node(name, "bus") for name in ("one", "two")]
    first = await store.enter(a, one)
    assert first is not None
    assert await store.enter(a, one) is None
    assert await store.enter(a, two) is None
    await store.enter(b, two, exclusive=True)
    assert await presence.users_of(one) == {a}
    assert await presence.users_of(two) == {a, b}
    assert await presence.leave([a, b, c], one) == []
    changes = await presence.leave([a, b, c], two)
    assert sorted((each.userid, each.state) for each in changes) == [(a, "offline"), (b, "offline")]
    assert await presence.leave([a, b, c], two) == []
    assert await presence.leave([], two) == []
    again = await store.enter(a, one, exclusive=True)
    assert again is not None
    # Of two changes of a user the later one has the greater number, however fast they follow each other.
    changed = {each.userid: each.changed for each in changes}
    assert first.changed < changed[a] < again.changed
    assert [each.state for each in await store.friends(a)] == []


async def test_a_lost_node_is_cleared_in_pages(store: Store) -> None:
    people = await store.people(7)
    presence = store.presence
    dead, dead_too, alive = [await presence.register_node(name, "bus") for name in ("x", "y", "z")]
    for userid in people:
        await store.enter(userid, dead)
    await store.enter(people[0], alive)
    await store.enter(people[1], dead_too)
    offline: list[int] = []
    pages = 0
    done = False
    while not done:
        changes, done = await presence.clear_nodes([dead, dead_too], 3)
        offline += [each.userid for each in changes]
        pages += 1
        assert len(changes) <= 3
    assert pages == 3
    assert sorted(offline) == people[1:]
    assert [node.name for node in await presence.nodes()] == ["z"]
    assert await presence.users_of(alive) == {people[0]}
    assert await presence.clear_nodes([dead], 3) == ([], True)
    assert await presence.clear_nodes([], 3) == ([], True)
    # The dead one lives after all, and learns it.
    assert not await presence.beat(dead)
    assert await presence.beat(alive)
    assert [node.beat for node in await presence.nodes()] == [1]


async def test_strays_of_a_node_that_is_no_more(store: Store) -> None:
    people = await store.people(5)
    presence = store.presence
    gone, alive = [await presence.register_node(name, "bus") for name in ("gone", "alive")]
    await presence.clear_nodes([gone], 10)
    for userid in people:
        await store.enter(userid, gone)  # it was frozen, and did not know that it was taken for dead
    await store.enter(people[0], alive)
    offline: list[int] = []
    done = False
    while not done:
        changes, done = await presence.clear_strays(2)
        offline += [each.userid for each in changes]
    assert sorted(offline) == people[1:]
    assert await presence.users_of(gone) == set()
    assert await presence.users_of(alive) == {people[0]}
    assert await presence.clear_strays(2) == ([], True)


async def test_clearing_a_node_while_its_users_come_back_elsewhere(stores: Stores) -> None:
    """Nobody who is connected is taken for offline, and nobody who is not for online."""
    people = await stores[0].people(30)
    dead, alive = [await stores[0].presence.register_node(name, "bus") for name in ("dead", "alive")]
    for userid in people:
        await stores[0].enter(userid, dead)

    async def come_back() -> None:
        for userid in people[::2]:
            await stores[1].enter(userid, alive)

    async def clear(store: Store) -> None:
        done = False
        while not done:
            _, done = await store.presence.clear_nodes([dead], 4)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(come_back)
        for store in stores:
            nursery.start_soon(clear, store)
    watcher = (await stores[0].people(1))[0]
    for userid in people:
        await stores[0].accounts.add_friend(watcher, userid)
    states = {friend.id: friend.state for friend in await stores[0].friends(watcher)}
    assert {userid for userid, state in states.items() if state == "online"} == set(people[::2])
    assert await stores[0].presence.users_of(alive) == set(people[::2])


# --- transactions ---


async def test_a_transaction_that_fails_leaves_nothing(store: Store) -> None:
    def steps() -> Steps[None]:
        yield "INSERT INTO User (name, password) VALUES (?, ?)", ("half", "x")
        yield "INSERT INTO User (name, password) VALUES (?, ?)", ("half", "x")

    with pytest.raises(UniqueViolation):
        await store.database.run(steps)
    assert await store.accounts.by_name("half") is None


async def test_a_last_statement_is_committed_with_the_rest(store: Store) -> None:
    def steps(*names: str) -> Steps[int]:
        result = yield "INSERT INTO User (name, password) VALUES (?, ?)", (names[0], "x")
        try:
            yield Last([("INSERT INTO User (name, password) VALUES (?, ?)", (names[1], "x"))])
        except UniqueViolation:
            yield "INSERT INTO User (name, password) VALUES (?, ?)", (names[2], "x")
        return result.changed

    def refused() -> Steps[None]:
        yield "INSERT INTO User (name, password) VALUES (?, ?)", ("half", "x")
        yield Last([("INSERT INTO User (name, password) VALUES (?, ?)", ("half", "x"))])

    assert await store.database.run(lambda: steps("one", "two")) == 1
    assert await store.database.run(lambda: steps("three", "two", "four")) == 1
    for name in ("one", "two", "three", "four"):
        assert await store.accounts.by_name(name) is not None
    with pytest.raises(UniqueViolation):
        await store.database.run(refused)
    assert await store.accounts.by_name("half") is None


async def test_a_cancelled_append_happens_as_a_whole_or_not_at_all(store: Store) -> None:
    a, b = await store.people(2)
    conv = direct_conv(a, b)
    for number in range(12):
        with trio.move_on_after(number * 0.0005):
            await store.appender.append([direct(a, b, f"{number}.{part}") for part in range(3)])
    (last,) = await store.appender.append([direct(a, b, "last")])
    log = await whole(store, conv)
    assert [seq for seq, _ in log] == list(range(1, last.seq + 1))
    assert (last.seq - 1) % 3 == 0
    assert all(re.fullmatch(r"\d+\.\d", text) for _, text in log[:-1])
