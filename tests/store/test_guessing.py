"""Guessing takes time, on all nodes together; and nobody can lock somebody else out by it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from tests.store.conftest import Store
from tests.store.faults import becomes_true
from trio_chat.config import NO_LIMIT
from trio_chat.errors import RateLimited, Unavailable
from trio_chat.services import guessing
from trio_chat.services.guessing import LoginGuard, Rule, _subject
from trio_chat.store.contract import Database, Dialect, Steps
from trio_chat.store.guesses import Guesses, Record

T = TypeVar("T")

HOME, CAFE, NOWHERE = "192.0.2.1", "192.0.2.2", "192.0.2.3"


def guard(
    store: Store, *, guesses: int = 10, places: int = 100, accounts: int = 100, longest: int = 300, waiting: int = 1000
) -> LoginGuard:
    return LoginGuard(
        Guesses(store.database),
        guesses=guesses,
        place_guesses=places,
        account_guesses=accounts,
        longest=longest,
        waiting=waiting,
    )


def answer(right: bool) -> Callable[[], Awaitable[bool]]:
    async def is_right() -> bool:
        await trio.lowlevel.checkpoint()
        return right

    return is_right


async def right(of: LoginGuard, account: str, place: str, *, known: bool = False) -> None:
    assert await of.check(account, place, answer(True), answer(known))


async def wrong(of: LoginGuard, account: str, place: str, times: int = 1) -> None:
    for _ in range(times):
        assert not await of.check(account, place, answer(False), answer(False))


async def delayed(of: LoginGuard, account: str, place: str) -> RateLimited:
    """The next try has to wait, the right password's too."""
    with pytest.raises(RateLimited) as caught:
        await of.check(account, place, answer(True), answer(False))
    return caught.value


async def pass_seconds(store: Store, seconds: int) -> None:
    def steps() -> Steps[None]:
        yield "UPDATE Guess SET latest = latest - ?, forgotten = forgotten - ?", (seconds * 1000, seconds * 1000)

    await store.database.run(steps)


def test_the_delay_doubles_up_to_the_longest() -> None:
    rule = Rule(free=3, lasts=60, longest=300)
    assert rule.delay(None) == 0

    def seconds(failures: float) -> float:
        return rule.delay(Record(int(failures * 60_000) + 7, 7, 0)) / 1000

    assert [seconds(number) for number in range(1, 14)] == [0, 0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300]
    assert seconds(2.5) == 1  # half of the third is forgotten
    assert rule.failure(b"").most == 13 * 60_000


async def test_the_same_account_from_the_same_place(stores: tuple[Store, Store]) -> None:
    one, other = (guard(store, guesses=3) for store in stores)
    await wrong(one, "7", CAFE, 2)
    await right(other, "7", CAFE)
    await wrong(other, "7", CAFE)
    for node in (one, other):
        refusal = await delayed(node, "7", CAFE)
        assert 0 < refusal.retry_after <= 1
        assert refusal.limit == "guesses"
        # Nobody else is concerned, nor is the account elsewhere.
        await right(node, "7", HOME)
        await right(node, "8", CAFE)
    await pass_seconds(stores[0], 1)
    await right(one, "7", CAFE)
    await wrong(other, "7", CAFE)
    assert 1 < (await delayed(one, "7", CAFE)).retry_after <= 2
    await pass_seconds(stores[0], 2)
    await wrong(one, "7", CAFE)
    assert 3 < (await delayed(other, "7", CAFE)).retry_after <= 4
    # What was wrong is forgotten after a while.
    await pass_seconds(stores[0], 10 * 900)
    await wrong(one, "7", CAFE, 2)
    await right(one, "7", CAFE)


async def test_many_accounts_from_one_place(store: Store) -> None:
    node = guard(store, places=3)
    await right(node, "alice", CAFE)
    for account in ("bob", "carol", "dave"):
        await wrong(node, account, CAFE)
    refusal = await delayed(node, "erin", CAFE)
    assert (refusal.limit, refusal.retry_after <= 1) == ("address_guesses", True)
    await right(node, "erin", HOME)
    await right(node, "frank", CAFE, known=True)  # nor who has a device here, as every node can tell
    await delayed(node, "erin", CAFE)
    await right(node, "alice", CAFE)  # who has logged in here before is not delayed for the others' sake
    for _ in range(12):
        await pass_seconds(store, 60)
        await wrong(node, "bob", NOWHERE)
    assert (await delayed(node, "bob", NOWHERE)).retry_after <= 300


async def test_one_account_from_many_places(store: Store) -> None:
    """The first try from anywhere is never delayed; the ones after a mistake are, longer the longer it lasts."""
    node = guard(store, accounts=3)
    await right(node, "alice", HOME)
    for number in range(8):
        await wrong(node, "alice", f"198.51.100.{number}")
    await right(node, "alice", CAFE)
    await wrong(node, "alice", NOWHERE)
    refusal = await delayed(node, "alice", NOWHERE)
    assert refusal.limit == "account_guesses"
    assert 60 < refusal.retry_after <= 64
    await wrong(node, "alice", HOME, 3)  # where she is known she has her tries
    await right(node, "alice", HOME)


async def test_tries_at_once_are_tries_too(store: Store) -> None:
    """However many come before the first one's outcome is known: no more than a few get through."""
    node, outcomes = guard(store, guesses=5), []

    async def guess() -> None:
        try:
            outcomes.append(await node.check("7", CAFE, answer(False), answer(False)))
        except RateLimited:
            outcomes.append(True)

    async with trio.open_nursery() as nursery:
        for _ in range(40):
            nursery.start_soon(guess)
    assert 5 <= outcomes.count(False) <= 8
    assert not node._of_pair
    assert not node._of_place


async def test_who_hangs_up_has_made_his_try(store: Store) -> None:
    node = guard(store, guesses=1)
    with trio.CancelScope() as scope:

        async def is_right() -> bool:
            scope.cancel()
            return False

        await node.check("7", CAFE, is_right, answer(False))
    await delayed(node, "7", CAFE)


class Slow:
    """A database whose transactions wait for each other's mercy: until `go_on`; `fails` is what the next ones raise."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self.go_on = trio.Event()
        self.fails: list[Exception] = []
        self.transactions = 0

    @property
    def dialect(self) -> Dialect:
        return self._database.dialect

    async def read(self, query: Callable[[], Steps[T]]) -> T:
        return await self._database.read(query)

    async def run(self, transaction: Callable[[], Steps[T]]) -> T:
        self.transactions += 1
        await self.go_on.wait()
        if self.fails:
            raise self.fails.pop()
        return await self._database.run(transaction)


def slow_guard(database: Database) -> LoginGuard:
    return LoginGuard(Guesses(database), guesses=10, place_guesses=100, account_guesses=100, longest=300, waiting=1000)


async def test_wrong_passwords_at_once_share_a_commit_and_all_count(store: Store) -> None:
    """A storm takes the writer's time once per commit; nobody is answered before his try is written."""
    slow = Slow(store.database)
    node, answered = slow_guard(slow), 0

    async def guess(number: int) -> None:
        nonlocal answered
        await wrong(node, f"{number % 25}", f"198.51.100.{number}")
        answered += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(guess, 0)
        await becomes_true(lambda: slow.transactions == 1)
        for number in range(1, 100):
            nursery.start_soon(guess, number)
        await becomes_true(lambda: len(node._notes) == 99)
        assert answered == 0
        slow.go_on.set()
    assert slow.transactions == 2  # the first one's, and what came meanwhile
    for number in range(25):
        subject = _subject("account", f"{number}", "")
        record = (await Guesses(store.database).read([subject]))[subject]
        assert 3 * 60_000 < record.until - record.latest <= 4 * 60_000


async def test_where_it_cannot_be_written_the_try_is_not_answered(store: Store) -> None:
    slow = Slow(store.database)
    node, unavailable = slow_guard(slow), 0
    slow.fails = [Unavailable()]

    async def guess() -> None:
        nonlocal unavailable
        try:
            await wrong(node, "7", CAFE)
        except Unavailable:
            unavailable += 1

    async with trio.open_nursery() as nursery:
        nursery.start_soon(guess)
        await becomes_true(lambda: slow.transactions == 1)
        for _ in range(2):
            nursery.start_soon(guess)
        await becomes_true(lambda: len(node._notes) == 2)
        slow.go_on.set()
    assert unavailable == 1  # the others' were written
    subject = _subject("pair", "7", CAFE)
    record = (await Guesses(store.database).read([subject]))[subject]
    assert 1 * 900_000 < record.until - record.latest <= 3 * 900_000  # the one that failed may have counted, or not


async def test_a_database_that_takes_too_long_is_not_waited_for(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(guessing, "_LAST_WORDS", 0.01)
    with pytest.raises(Unavailable):
        await wrong(slow_guard(Slow(store.database)), "7", CAFE)


async def test_one_place_cannot_take_all_the_room(store: Store) -> None:
    node, go_on = guard(store, waiting=8), trio.Event()
    refused = []

    async def log_in(account: str, place: str) -> None:
        try:
            async with node.turn(place):
                await go_on.wait()
        except RateLimited as error:
            refused.append((account, error.limit))

    async with trio.open_nursery() as nursery:
        for number in range(6):
            nursery.start_soon(log_in, str(number), CAFE)
        await wait_all_tasks_blocked()
        assert len(refused) == 2
        nursery.start_soon(log_in, "alice", HOME)
        await wait_all_tasks_blocked()
        assert len(refused) == 2
        go_on.set()
    assert {limit for _, limit in refused} == {"password_checks"}


async def test_lifted_limits_keep_no_records(store: Store) -> None:
    node = guard(store, guesses=NO_LIMIT, places=NO_LIMIT, accounts=NO_LIMIT)
    await wrong(node, "7", CAFE, 30)
    await right(node, "7", CAFE)

    def count() -> Steps[int]:
        found = yield "SELECT COUNT(*) FROM Guess", ()
        return int(found.rows[0][0])

    assert await store.database.read(count) == 0
