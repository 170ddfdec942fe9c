"""What logins read together is each one's own."""

from __future__ import annotations

import trio

from tests.store.conftest import Store
from trio_chat.services.login_reads import LoginReads
from trio_chat.store.groups import GroupRecord


async def test_two_logins_of_one_account_at_once_get_each_member_once(store: Store) -> None:
    a, b = await store.people(2)
    group = await store.groups.create(a, "climbers", "")
    await store.groups.join(b, group)
    reads = LoginReads(store.accounts, store.groups, store.relations, store.log)
    got: list[list[GroupRecord]] = []

    async def log_in(userid: int) -> None:
        got.append(await reads.groups(userid, 10))
        assert len((await reads.state(userid)).cursors) == 1

    async with trio.open_nursery() as nursery:
        for userid in (a, b, a, a, b):
            nursery.start_soon(log_in, userid)
    assert len(got) == 5
    for groups in got:
        assert [[member.id for member in each.users] for each in groups] == [[a, b]]
