"""Memberships that end, blocks, disabled accounts: on every kind of database."""

from __future__ import annotations

import contextlib

import pytest
import trio

from tests.store.conftest import Store
from trio_chat.errors import AlreadyExists, BadRequest, Forbidden, NoSuchGroup, NoSuchUser, NotAMember
from trio_chat.store.append import Draft
from trio_chat.store.log import Cursor
from trio_chat.wire.conversation import group_conv


def to_group(sender: int, group: int) -> Draft:
    return Draft(group_conv(group), sender, "x", group, "hello", "t", None)


async def roles(store: Store, group: int) -> list[tuple[int, str]]:
    return [(user.id, user.role) for user in (await store.groups.get(group, 100)).users]


async def test_a_former_member_has_no_cursor_and_nothing_brings_it_back(store: Store) -> None:
    a, b = await store.people(2)
    group = await store.groups.create(a, "leaving", "")
    conv = group_conv(group)
    await store.groups.join(b, group)
    await store.appender.append([to_group(a, group), to_group(b, group)])
    before = await store.log.now()
    await store.groups.leave(b, group)
    changes = await store.log.changes(before)
    assert changes.departures == [(b, conv)]
    assert changes.marks == []
    # A receipt and a read mark that were on their way.
    await store.log.move_cursors([(b, conv, 2)])
    await store.log.mark_seen(b, conv, 2)
    assert await store.log.cursor(b, conv) is None
    assert await store.cursors(b) == []
    assert await store.log.undelivered(b, 10) == []
    with pytest.raises(NotAMember):
        await store.groups.leave(b, group)
    with pytest.raises(NoSuchGroup):
        await store.groups.leave(b, group + 1)
    assert not await store.groups.membership(b, group)
    (stored,) = await store.appender.append([to_group(a, group)])
    assert stored.seq == 3
    # Again a member: from here on.
    assert await store.groups.join(b, group) == 3
    assert await store.log.cursor(b, conv) == Cursor(conv, 3, 3, 3)
    assert (await store.log.changes(before)).departures == []


async def test_the_creators_role_goes_on(store: Store) -> None:
    a, b, c = await store.people(3)
    group = await store.groups.create(a, "heirs", "")
    for user in (b, c):
        await trio.sleep(0.002)
        await store.groups.join(user, group)
    await store.groups.leave(a, group)
    assert await roles(store, group) == [(b, "creator"), (c, "normal")]
    await store.groups.leave(c, group)
    await store.groups.leave(b, group)
    assert await roles(store, group) == []
    await store.groups.join(c, group)
    assert await roles(store, group) == [(c, "creator")]


async def test_removing_members(store: Store) -> None:
    a, b, c = await store.people(3)
    group = await store.groups.create(a, "removing", "")
    await store.groups.join(b, group)
    for creator, user, error in ((c, b, NotAMember), (b, a, Forbidden), (a, a, BadRequest), (a, 2**63 - 1, NoSuchUser)):
        with pytest.raises(error):
            await store.groups.remove(creator, group, user, True)
    with pytest.raises(NoSuchGroup):
        await store.groups.remove(a, group + 1, b, True)
    assert await store.groups.remove(a, group, b, True)
    assert not await store.groups.remove(a, group, b, True)
    with pytest.raises(Forbidden):
        await store.groups.join(b, group)
    assert not await store.groups.remove(a, group, b, False)
    await store.groups.join(b, group)
    with pytest.raises(AlreadyExists):
        await store.groups.join(b, group)


async def test_blocks(store: Store) -> None:
    a, b, c = await store.people(3)
    before = await store.log.now()
    for _ in range(2):
        await store.relations.block(a, b)
    await store.relations.block(c, a)
    assert await store.apart(a) == {b, c}
    assert await store.apart(b) == {a}
    assert [userid for userid, _ in await store.relations.blocked(a)] == [b]
    assert sorted((await store.log.changes(before)).blocks) == [(a, b), (c, a)]
    await store.relations.block(b, a)
    await store.relations.unblock(a, b)
    await store.relations.unblock(a, c)
    assert await store.apart(a) == {b, c}
    await store.relations.unblock(b, a)
    assert await store.apart(a) == {c}
    assert await store.relations.blocked(a) == []
    with pytest.raises(NoSuchUser):
        await store.relations.block(a, 2**63 - 1)


async def test_disabled_accounts(store: Store) -> None:
    (a,) = await store.people(1)
    account = await store.accounts.by_id(a)
    assert account is not None
    node = await store.presence.register_node("n", "b")
    assert await store.relations.disable(account.name) == a
    with pytest.raises(Forbidden):
        await store.enter(a, node)
    assert await store.presence.users_of(node) == set()
    assert await store.relations.enable(account.name) == a
    await store.enter(a, node)
    with pytest.raises(NoSuchUser):
        await store.relations.disable("nobody of this name")


async def test_joins_and_departures_at_once_leave_one_truth(stores: tuple[Store, Store]) -> None:
    one, two = stores
    a, b = await one.people(2)
    group = await one.groups.create(a, "at once", "")

    async def come_and_go(store: Store) -> None:
        for _ in range(5):
            with contextlib.suppress(AlreadyExists):
                await store.groups.join(b, group)
            with contextlib.suppress(NotAMember):
                await store.groups.leave(b, group)

    async def write() -> None:
        for _ in range(5):
            await one.appender.append([to_group(a, group)])

    async with trio.open_nursery() as nursery:
        for work in (write, lambda: come_and_go(one), lambda: come_and_go(two)):
            nursery.start_soon(work)
    assert await one.groups.membership(b, group) == (await one.log.cursor(b, group_conv(group)) is not None)
    assert [each.seq for each in await one.log.after(group_conv(group), 0, 10)] == [1, 2, 3, 4, 5]
