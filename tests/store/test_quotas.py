"""How many friends, groups and members there may be; who is over it already keeps what he has."""

from __future__ import annotations

import pytest
import trio

from tests.store.conftest import Store
from trio_chat.errors import AlreadyExists, Forbidden
from trio_chat.store.accounts import Accounts
from trio_chat.store.groups import Groups


async def test_friends(store: Store) -> None:
    people = await store.people(4)
    accounts = Accounts(store.database, most_friends=2)
    for friend in people[1:3]:
        await accounts.add_friend(people[0], friend)
    with pytest.raises(Forbidden, match="2 friends") as refusal:
        await accounts.add_friend(people[0], people[3])
    assert refusal.value.limit == "friends"
    assert [friend.id for friend in await store.friends(people[0])] == people[1:3]
    await accounts.add_friend(people[1], people[0])


async def test_groups_of_a_user(store: Store) -> None:
    a, b = await store.people(2)
    groups = Groups(store.database, most_groups=2)
    first, second = await groups.create(a, "one", ""), await groups.create(b, "two", "")
    await groups.join(a, second)
    third = await groups.create(b, "three", "")
    for one_more in (groups.create(a, "four", ""), groups.join(a, third)):
        with pytest.raises(Forbidden, match="2 groups") as refusal:
            await one_more
        assert refusal.value.limit == "groups"
    assert [group.id for group in (await groups.of([a]))[a]] == [first, second]
    assert await groups.by_name("four") is None


async def test_members_of_a_group(stores: tuple[Store, Store]) -> None:
    """However many join at once, and on whatever node."""
    people = await stores[0].people(8)
    both = [Groups(store.database, most_members=3) for store in stores]
    group = await both[0].create(people[0], "few", "")
    with pytest.raises(AlreadyExists):
        await both[1].join(people[0], group)
    refused = []

    async def join(groups: Groups, userid: int) -> None:
        try:
            await groups.join(userid, group)
        except Forbidden as error:
            refused.append(error.limit)

    async with trio.open_nursery() as nursery:
        for number, userid in enumerate(people[1:]):
            nursery.start_soon(join, both[number % 2], userid)
    assert refused == ["group_members"] * 5
    assert len((await both[0].get(group, 100)).users) == 3
    # Who was refused has nothing of the group.
    assert sum([await both[1].membership(userid, group) for userid in people]) == 3
