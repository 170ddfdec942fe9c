"""Who comes in with whom, in what order, and what each hears; a database that is away is not asked once for each of them."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

import attrs
import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_chat.errors import Forbidden, Unavailable
from trio_chat.services.admission import Admission, Entrant


@attrs.define(eq=False)
class Guest(Entrant):
    number: int
    announced: bool = False


class House:
    """Each step of a group waits until it is let `go_on`; `steps` has the numbers of those in it."""

    def __init__(self, limit: int) -> None:
        self.admission: Admission[Guest] = Admission(limit, self._announce, self._admit)
        self.steps: list[tuple[str, list[int]]] = []
        self.heard: dict[int, object] = {}
        self.gone: list[int] = []
        self._open: list[trio.Event] = []

    async def _announce(self, group: list[Guest]) -> None:
        await self._step("announce", group)
        for guest in group:
            guest.announced = True
            guest.at_end(lambda number=guest.number: self.gone.append(number))  # type: ignore[misc]

    async def _admit(self, group: list[Guest]) -> None:
        await self._step("admit", group)
        for guest in group:
            assert guest.announced
            guest.end(Forbidden() if guest.number < 0 else None)

    async def _step(self, name: str, group: list[Guest]) -> None:
        numbers = [guest.number for guest in group]
        self.steps.append((name, numbers))
        event = trio.Event()
        self._open.append(event)
        await event.wait()
        if 13 in numbers:
            raise ValueError(numbers)
        if 14 in numbers and name == "admit":
            raise Unavailable("away")

    async def go_on(self, number: int = 0) -> None:
        self._open.pop(number).set()
        await wait_all_tasks_blocked()

    async def go_on_to_the_end(self) -> None:
        while self._open:
            await self.go_on()

    async def hear(self, number: int, scope: trio.CancelScope | None = None) -> None:
        with scope or trio.CancelScope():
            try:
                await self.admission.enter(Guest(number))
                self.heard[number] = "in"
            except (Forbidden, Unavailable, ValueError) as error:
                self.heard[number] = type(error)

    async def come(self, nursery: trio.Nursery, *numbers: int) -> None:
        for number in numbers:
            nursery.start_soon(self.hear, number)
            await wait_all_tasks_blocked()


@asynccontextmanager
async def house(limit: int = 64) -> AsyncIterator[tuple[House, trio.Nursery]]:
    there = House(limit)
    async with trio.open_nursery() as nursery:
        await nursery.start(there.admission.run)
        yield there, nursery
        await wait_all_tasks_blocked()
        nursery.cancel_scope.cancel()


async def test_who_comes_meanwhile_goes_together() -> None:
    async with house() as (there, nursery):
        await there.come(nursery, 1, 2, -3, 4)
        assert there.steps == [("announce", [1])]
        assert there.admission.waiting == 3
        await there.go_on()
        assert there.steps[1:] == [("admit", [1]), ("announce", [2, -3, 4])]
        # Who reads long holds nobody up: the next group passes him, and the one after it is announced.
        await there.go_on(1)
        assert there.steps[3:] == [("admit", [2, -3, 4])]
        await there.come(nursery, 5)
        await there.go_on(1)
        assert there.heard == {2: "in", -3: Forbidden, 4: "in"}
        assert there.steps[4:] == [("announce", [5])]
        await there.go_on_to_the_end()
        assert there.heard == {1: "in", 2: "in", -3: Forbidden, 4: "in", 5: "in"}
        assert sorted(there.gone) == [-3, 1, 2, 4, 5]


async def test_so_many_at_a_time_in_their_order() -> None:
    async with house(4) as (there, nursery):
        await there.come(nursery, *range(1, 7))
        await there.go_on()
        assert there.steps == [("announce", [1]), ("admit", [1]), ("announce", [2, 3])]
        assert (there.admission.waiting, there.admission.waits) == (3, 3)
        await there.go_on_to_the_end()
        assert [group for name, group in there.steps if name == "admit"] == [[1], [2, 3], [4, 5], [6]]


async def test_one_at_a_time() -> None:
    async with house(1) as (there, nursery):
        await there.come(nursery, 1, 2)
        await there.go_on()
        assert there.steps == [("announce", [1]), ("admit", [1])]
        await there.go_on_to_the_end()
        assert there.heard == {1: "in", 2: "in"}


async def test_who_waits_is_refused_with_the_one_whom_the_database_failed() -> None:
    async with house(2) as (there, nursery):
        await there.come(nursery, 14, 1, 2)
        await there.go_on()
        assert there.steps == [("announce", [14]), ("admit", [14]), ("announce", [1])]
        await there.go_on(0)
        assert there.heard == {14: Unavailable, 2: Unavailable}
        await there.come(nursery, 3)  # who comes later has his try
        await there.go_on_to_the_end()
        assert there.heard == {14: Unavailable, 2: Unavailable, 1: "in", 3: "in"}


async def test_what_fails_for_one_is_done_for_the_others() -> None:
    async with house() as (there, nursery):
        await there.come(nursery, 1, 2, 13, 3)
        await there.go_on_to_the_end()
        assert there.heard == {1: "in", 2: "in", 13: ValueError, 3: "in"}


@pytest.mark.parametrize("steps", [0, 1, 2])
async def test_who_goes_away_is_gone_at_once_and_the_others_come_in(steps: int) -> None:
    """While he waits for his turn, while he is announced, and while what is his is read."""
    async with house() as (there, nursery):
        scope = trio.CancelScope()
        await there.come(nursery, 1)
        nursery.start_soon(there.hear, 2, scope)
        await there.come(nursery, 3)
        for _ in range(steps):
            await there.go_on(-1)
        scope.cancel()
        await wait_all_tasks_blocked()
        assert there.gone == ([2] if steps == 2 else [])
        await there.go_on_to_the_end()
        assert there.heard == {1: "in", 3: "in"}
        assert sorted(there.gone) == ([1, 3] if steps == 0 else [1, 2, 3])
