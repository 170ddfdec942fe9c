"""Wrong passwords add up, on whatever node they came, up to a bound, and are forgotten."""

from __future__ import annotations

import trio

from tests.store.conftest import Store
from trio_chat.store.contract import Steps
from trio_chat.store.guesses import Failure, Guesses

A, B, C = b"a" * 16, b"b" * 16, bytes(16)


async def test_wrong_passwords_add_up(stores: tuple[Store, Store]) -> None:
    one, other = (Guesses(store.database) for store in stores)
    assert await one.read([A, B, C]) == {}
    await one.add([Failure(A, 60_000, 200_000), Failure(B, 1000, 5000)])
    await other.add([Failure(A, 60_000, 200_000)])
    found = await one.read([A, B, C])
    assert found.keys() == {A, B}
    a, b = found[A], found[B]
    assert 60_000 < a.until - a.latest <= 120_000
    assert b.until - b.latest == 1000
    assert a.latest <= a.now < a.latest + 30_000


async def test_several_at_once(store: Store) -> None:
    """In one transaction, of more subjects than one statement takes, with different bounds."""
    guesses = Guesses(store.database)
    subjects = [number.to_bytes(16, "big") for number in range(450)]
    for _ in range(2):
        await guesses.add([Failure(each, 3000 + 10 * place, 7000) for place, each in enumerate(subjects)])
    found = await guesses.read(subjects[:2] + subjects[440:])
    assert found[subjects[440]].until - found[subjects[440]].latest == 7000
    first, second = found[subjects[0]], found[subjects[1]]
    assert 3000 < first.until - first.latest <= 6000
    assert second.until - second.latest - (first.until - first.latest) == 20


async def test_but_not_without_bound(store: Store) -> None:
    guesses = Guesses(store.database)
    for _ in range(5):
        await guesses.add([Failure(C, 60_000, 150_000)])
    record = (await guesses.read([C]))[C]
    assert record.until - record.latest == 150_000


async def test_what_does_not_count_any_more_is_removed(store: Store) -> None:
    guesses = Guesses(store.database)

    def age() -> Steps[None]:
        yield "UPDATE Guess SET forgotten = 5, latest = 4 WHERE subject = ?", (A,)

    await guesses.add([Failure(A, 60_000, 200_000), Failure(B, 60_000, 200_000)])
    await store.database.run(age)
    # A new one counts by itself: what was forgotten stays so.
    await guesses.add([Failure(A, 60_000, 200_000)])
    record = (await guesses.read([A]))[A]
    assert record.until - record.latest == 60_000
    await store.database.run(age)
    assert await guesses.forget() == 1
    assert (await guesses.read([A, B])).keys() == {B}


async def test_many_at_once_all_count(stores: tuple[Store, Store]) -> None:
    async with trio.open_nursery() as nursery:
        for number in range(20):
            guesses = Guesses(stores[number % 2].database)
            nursery.start_soon(
                guesses.add, [Failure(each, 60_000, 10_000_000) for each in ([A, B], [B, A])[number % 2]]
            )
    for record in (await Guesses(stores[0].database).read([A, B])).values():
        assert 19 * 60_000 < record.until - record.latest <= 20 * 60_000
