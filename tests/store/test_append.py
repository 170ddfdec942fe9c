"""The writer of the log where it believes to know how logs end: quick when right, and harmless when wrong."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from tests.store.conftest import Store
from tests.store.test_contract import Stores, direct, whole
from trio_chat.store.append import Stored
from trio_chat.store.contract import Last, OutcomeUnknown, Result, Steps
from trio_chat.wire.conversation import direct_conv


@attrs.define
class Counting:
    """A database that counts the transactions that are run, and the steps of the last one."""

    inner: Any
    steps: int = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.inner, name)

    async def run(self, transaction: Callable[[], Steps[Any]]) -> Any:
        def counted() -> Steps[Any]:
            self.steps = 0
            steps = transaction()
            step = next(steps, None)
            while step is not None:
                self.steps += 1
                try:
                    answer = yield step
                    step = steps.send(answer)
                except StopIteration as stop:
                    return stop.value
            return None

        return await self.inner.run(counted)


async def test_who_wrote_last_needs_one_step(store: Store) -> None:
    a, b = await store.people(2)
    counting = Counting(store.database)
    appender = attrs.evolve(store.appender, database=counting)
    await appender.append([direct(a, b, "1")])
    assert counting.steps > 1
    await appender.append([direct(a, b, "2"), direct(b, a, "3")])
    assert counting.steps == 1
    assert await whole(store, direct_conv(a, b)) == [(1, "1"), (2, "2"), (3, "3")]


async def test_who_did_not_write_last_leaves_no_hole_and_asks_from_then_on(stores: Stores) -> None:
    a, b = await stores[0].people(2)
    counting = Counting(stores[0].database)
    here, there = attrs.evolve(stores[0].appender, database=counting), stores[1].appender
    await here.append([direct(a, b, "1")])
    await there.append([direct(b, a, "2"), direct(b, a, "3")])
    (stored,) = await here.append([direct(a, b, "4")])
    assert stored.seq == 4
    await here.append([direct(a, b, "5")])
    assert counting.steps > 1
    assert await whole(stores[0], direct_conv(a, b)) == [(n, str(n)) for n in range(1, 6)]


@pytest.mark.parametrize("meanwhile", ["nothing", "it happens", "another writes"])
async def test_a_doubt_is_settled_by_taking_the_same_places(stores: Stores, meanwhile: str) -> None:
    """What was sent to the server may still be executed when nobody waits for it any more."""
    a, b = await stores[0].people(2)
    appender, database = stores[0].appender, stores[0].database
    conv = direct_conv(a, b)
    await appender.append([direct(a, b, "1")])
    sent: list[Last] = []

    async def lost(transaction: Callable[[], Steps[Any]]) -> Any:
        steps = transaction()
        step = next(steps)
        assert isinstance(step, Last)
        sent.append(step)
        with pytest.raises(StopIteration) as stop:
            steps.send(Result())
        raise OutcomeUnknown(value=stop.value.value)

    def late() -> Steps[None]:
        yield sent[0]

    drafts = [direct(a, b, "2"), direct(a, b, "3")]
    doubtful = attrs.evolve(
        appender, database=type("Lost", (), {"run": lambda _, t: lost(t), "dialect": database.dialect})()
    )
    with pytest.raises(OutcomeUnknown) as caught:
        await doubtful.append(drafts)
    doubt = caught.value.value
    assert isinstance(doubt, list)
    assert [each.seq for each in doubt] == [2, 3]
    assert not await appender.was_stored(drafts, doubt)
    expected = [(1, "1"), (2, "2"), (3, "3")]
    if meanwhile == "it happens":
        await database.run(late)
    elif meanwhile == "another writes":
        await stores[1].appender.append([direct(b, a, "between")])
        expected = [(1, "1"), (2, "between"), (3, "2"), (4, "3")]
    stored: list[Stored] = await appender.append(drafts, doubt)
    assert [each.seq for each in stored] == [seq for seq, text in expected if text in {"2", "3"}]
    # And now it is too late for what was sent first.
    with pytest.raises(Exception, match=r"(?i)null|unique|duplicate"):
        await database.run(late)
    assert await whole(stores[0], conv) == expected


async def test_a_doubt_about_a_batch_that_had_repetitions(store: Store) -> None:
    a, b, c = await store.people(3)
    conv = direct_conv(a, b)
    await store.appender.append([direct(a, b, "1", "known")])
    drafts = [direct(a, c, "again", "known"), direct(a, b, "2", "new"), direct(a, b, "2 again", "new")]
    doubt = [Stored(conv, 1, 1, True), Stored(conv, 2, 1, False), Stored(conv, 2, 1, True)]
    stored = await store.appender.append(drafts, doubt)
    assert [(each.conv, each.seq, each.duplicate) for each in stored] == [
        (conv, 1, True),
        (conv, 2, False),
        (conv, 2, True),
    ]
    assert await whole(store, conv) == [(1, "1"), (2, "2")]
    assert await whole(store, direct_conv(a, c)) == []


async def test_a_doubt_that_cannot_be_looked_into_stays_one(store: Store) -> None:
    a, b = await store.people(2)
    conv = direct_conv(a, b)
    await store.appender.append([direct(a, b, "1")])
    doubt = [Stored(conv, 2, 1, False)]
    await store.appender.append([direct(b, a, "in its place")])
    looks: list[object] = []

    async def lost(transaction: Callable[[], Steps[Any]]) -> Any:
        looks.append(value := await store.database.run(transaction))
        raise OutcomeUnknown(value=value)

    dialect = store.database.dialect
    doubtful = attrs.evolve(
        store.appender, database=type("Lost", (), {"run": lambda _, t: lost(t), "dialect": dialect})()
    )
    with pytest.raises(OutcomeUnknown) as caught:
        await doubtful.append([direct(a, b, "2")], doubt)
    assert looks == [False]
    assert caught.value.value == doubt
    assert await whole(store, conv) == [(1, "1"), (2, "in its place")]
