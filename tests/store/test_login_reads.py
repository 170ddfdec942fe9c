"""What logins read together is each one's own."""

from __future__ import annotations

from tests.store.conftest import Store
from trio_chat.services.login_reads import LoginReads


async def test_each_gets_what_is_his(store: Store) -> None:
    a, b, c = await store.people(3)
    group = await store.groups.create(a, "climbers", "")
    await store.groups.join(b, group)
    await store.accounts.add_friend(c, a)
    reads = LoginReads(store.accounts, store.groups, store.relations, store.log)
    groups = await reads.groups([a, b, c], 10)
    assert {userid: [[member.id for member in each.users] for each in found] for userid, found in groups.items()} == {
        a: [[a, b]],
        b: [[a, b]],
        c: [],
    }
    states = await reads.states([a, b, c])
    assert {userid: len(state.cursors) for userid, state in states.items()} == {a: 1, b: 1, c: 0}
    assert {userid: [friend.id for friend in state.friends] for userid, state in states.items()} == {
        a: [],
        b: [],
        c: [a],
    }
