"""Logins, invitations, the export and the end of an account, in both databases."""

from __future__ import annotations

import pytest
import trio

from tests.store.conftest import Store
from tests.store.test_contract import direct, to_group
from trio_chat.errors import BadInvitation, NameTaken
from trio_chat.store.deletion import Deletions
from trio_chat.store.export import Exports
from trio_chat.store.invitations import InvitationTable
from trio_chat.store.logins import Logins
from trio_chat.wire.conversation import direct_conv

NOW = 1_800_000_000_000
Stores = tuple[Store, Store]


async def token(store: Store, userid: int, first: int, epoch: int = 0) -> bytes:
    digest = bytes([first]) * 32
    stored = await store.accounts.keep_token(digest, userid, epoch, NOW + 1000, NOW, client="desk", address="::1")
    return digest if stored else b""


async def test_logins_are_listed_and_ended(stores: Stores) -> None:
    store = stores[0]
    a, b = await store.people(2)
    logins, elsewhere = Logins(store.database), Logins(stores[1].database)
    assert (await elsewhere.revoked_since(1))[1] == []
    one, two, three, other = [await token(store, *each) for each in ((a, 1), (a, 2), (a, 3), (b, 4))]
    await store.use_token(two, NOW + 2000, NOW + 5, client="phone", address="10.0.0.1")
    listed = await logins.of(a, NOW + 1)
    assert [each.digest for each in listed] == [two, one, three]
    assert (listed[0].client, listed[0].address, listed[0].used, listed[0].created) == (
        "phone",
        "10.0.0.1",
        NOW + 5,
        NOW,
    )
    assert [each.digest for each in await logins.of(a, NOW + 1500)] == [two]
    assert not await logins.revoke(a, other[:8])
    assert await logins.revoke(a, one[:8])
    standing = await elsewhere.standing(a)
    assert (standing.epoch, standing.digests, standing.gone) == (0, frozenset({two, three}), False)
    now, revoked = await elsewhere.revoked_since(1)
    assert a in revoked
    assert b not in revoked
    assert await logins.change_password(a, 7, "hash", two) is None
    assert await logins.change_password(a, 0, "another hash", two) == 1
    standing = await elsewhere.standing(a)
    assert (standing.epoch, standing.digests) == (1, frozenset({two}))
    account = await store.accounts.by_id(a)
    assert account is not None
    assert (account.password, account.epoch) == ("another hash", 1)
    assert await token(store, a, 5, epoch=0) == b""
    assert await token(store, a, 6, epoch=1)
    await logins.end_all(a)
    standing = await elsewhere.standing(a)
    assert (standing.epoch, standing.digests) == (2, frozenset())
    assert (await elsewhere.standing(b)).digests == {other}
    assert a in (await elsewhere.revoked_since(now))[1]


async def test_a_new_password_against_logins_at_the_same_time(stores: Stores) -> None:
    """However they meet, nothing that was proven by the old password stays."""
    (a,) = await stores[0].people(1)
    logins = Logins(stores[0].database)
    async with trio.open_nursery() as nursery:
        for number in range(10, 18):
            nursery.start_soon(token, stores[number % 2], a, number)
        nursery.start_soon(logins.change_password, a, 0, "new", None)
    assert (await logins.standing(a)).digests == frozenset()


async def test_an_invitation_is_used_as_often_as_it_says(stores: Stores) -> None:
    table = InvitationTable(stores[0].database)
    digest, expired = b"i" * 32, b"e" * 32
    await table.add(digest, 2, NOW + 1000, NOW)
    await table.add(expired, 5, NOW + 10, NOW)
    assert [(each.digest, each.uses) for each in await table.open(NOW + 20)] == [(digest, 2)]
    made: list[int] = []
    refused: list[str] = []

    async def register(store: Store, name: str) -> None:
        try:
            made.append(await store.accounts.register(name, "x", digest, NOW + 20))
        except BadInvitation:
            refused.append(name)

    await stores[0].people(1)
    await stores[0].accounts.register("taken", "x")
    with pytest.raises(NameTaken):  # uses nothing up
        await stores[0].accounts.register("taken", "x", digest, NOW)
    for unknown in (expired, b"?" * 32):
        with pytest.raises(BadInvitation):
            await stores[0].accounts.register("nobody", "x", unknown, NOW + 20)
    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(register, stores[number % 2], f"invited {number}")
    assert (len(made), len(refused)) == (2, 4)
    assert await table.open(NOW + 20) == []
    await table.add(b"n" * 32, 1, NOW + 1000, NOW + 20)
    assert await table.revoke(b"nnnn") == 1
    assert await table.revoke(b"nnnn") == 0


async def test_what_a_deleted_account_leaves(stores: Stores) -> None:
    store = stores[0]
    a, b, c = await store.people(3)
    group = await store.groups.create(a, f"left by {a}", "")
    await store.groups.join(b, group)
    await store.accounts.add_friend(a, b)
    await store.accounts.add_friend(b, a)
    await token(store, a, 1)
    await store.appender.append([direct(a, b, "mine", "k"), direct(b, a, "yours"), to_group(a, group, "ours")])
    await store.appender.append([direct(a, b, f"{number}") for number in range(5)])
    deletions = Deletions(store.database)
    assert not await deletions.delete(a, 3, 0)
    account = await store.accounts.by_id(a)
    assert account is not None
    assert await deletions.delete(a, 0, 0)
    assert not await deletions.delete(a, 0, 0)
    assert await store.accounts.by_id(a) is None
    assert await store.accounts.by_name(account.name) is None
    with pytest.raises(NameTaken):
        await store.accounts.register(account.name.upper(), "x")
    assert (await Logins(stores[1].database).standing(a)).gone
    assert await store.friends(b) == []
    assert [member.id for member in (await store.groups.get(group, 10)).users] == [b]
    elsewhere = Deletions(stores[1].database)
    assert a in await elsewhere.unfinished()
    places = dict(await elsewhere.conversations(a))
    assert places == {direct_conv(a, b): 7, f"g:{group}": 1}
    for conv, last in places.items():
        await elsewhere.erase(a, conv, 0, last)
    assert await elsewhere.finish(a)
    assert a not in await deletions.unfinished()
    log = await store.log.after(direct_conv(a, b), 0, 10)
    assert [(each.seq, each.msg, each.key) for each in log] == [(1, "", None), (2, "yours", None)] + [
        (seq, "", None) for seq in range(3, 8)
    ]
    assert log[0].name == f"deleted user {a}"
    assert c  # a stranger, whom nothing of it concerns


async def test_the_export_of_an_account(store: Store) -> None:
    a, b, c = await store.people(3)
    group, foreign = await store.groups.create(a, f"g{a}", "about"), await store.groups.create(c, f"g{c}", "")
    await store.accounts.add_friend(a, b)
    await store.appender.append([direct(a, b, "one"), direct(b, a, "two"), direct(b, c, "not hers")])
    await store.appender.append([to_group(a, group, "three"), to_group(c, foreign, "not hers")])
    exports = Exports(store.database)
    profile = await exports.profile(a)
    assert (profile["id"], [each["id"] for each in profile["friends"]]) == (a, [b])
    assert [(each["id"], each["groupdesc"], each["role"]) for each in profile["groups"]] == [
        (group, "about", "creator")
    ]
    conv = direct_conv(a, b)
    assert await exports.conversations(a) == sorted([(conv, True), (f"g:{group}", True)])
    assert [each.msg for each in await exports.messages(conv, 0, 10, None)] == ["one", "two"]
    assert [each.msg for each in await exports.messages(conv, 0, 1, None)] == ["one"]
    assert [each.msg for each in await exports.messages(conv, 0, 10, a)] == ["one"]
