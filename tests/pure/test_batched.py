"""Asking for many at once: who goes with whom, what each hears, and what a cancellation does."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_chat.errors import Forbidden, RequestError, Unavailable
from trio_chat.services.batched import Batched


class Desk:
    """Where questions are asked; each batch waits until `answer` lets the oldest one go."""

    def __init__(self, *, most: int = 64) -> None:
        self.batches: list[list[int]] = []
        self.open: list[trio.Event] = []
        self.heard: dict[int, object] = {}
        self.ask = Batched(self._ask, most=most)

    async def _ask(self, questions: list[int]) -> list[int | RequestError]:
        self.batches.append(questions)
        event = trio.Event()
        self.open.append(event)
        try:
            await event.wait()
        finally:
            if event in self.open:
                self.open.remove(event)
        if 13 in questions:
            raise ValueError(questions)
        if 14 in questions:
            raise Unavailable("away")
        return [Forbidden() if number < 0 else 10 * number for number in questions]

    async def answer(self) -> None:
        self.open.pop(0).set()
        await wait_all_tasks_blocked()

    async def hear(self, question: int) -> None:
        try:
            self.heard[question] = await self.ask(question)
        except (RequestError, ValueError) as error:
            self.heard[question] = type(error)


async def start(nursery: trio.Nursery, desk: Desk, *questions: int) -> None:
    for question in questions:
        nursery.start_soon(desk.hear, question)
    await wait_all_tasks_blocked()


async def test_who_comes_meanwhile_goes_together() -> None:
    desk = Desk(most=3)
    async with trio.open_nursery() as nursery:
        await start(nursery, desk, 1)
        for question in (2, -3, 4, 5):
            await start(nursery, desk, question)
        assert desk.batches == [[1]]
        await desk.answer()
        assert desk.batches == [[1], [2, -3, 4]]
        await desk.answer()
        await desk.answer()
        assert desk.batches == [[1], [2, -3, 4], [5]]
    assert desk.heard == {1: 10, 2: 20, -3: Forbidden, 4: 40, 5: 50}
    async with trio.open_nursery() as nursery:
        await start(nursery, desk, 6)  # at rest again: nobody is waited for
        assert desk.batches[-1] == [6]
        await desk.answer()


@pytest.mark.parametrize(("bad", "heard"), [(13, ValueError), (14, Unavailable)])
async def test_one_that_fails(bad: int, heard: type[Exception]) -> None:
    """What only one question can have caused, only that one hears; that the database is away is true for all."""
    desk = Desk()
    async with trio.open_nursery() as nursery:
        await start(nursery, desk, 1)
        for question in (2, bad, 3):
            await start(nursery, desk, question)
        while desk.open:
            await desk.answer()
    others = Unavailable if heard is Unavailable else None
    assert desk.heard == {1: 10, 2: others or 20, bad: heard, 3: others or 30}
    assert (desk.batches[2:] == []) is (heard is Unavailable)


async def test_who_is_cancelled_goes_at_once_and_the_others_have_their_answers() -> None:
    desk = Desk()
    scopes = [trio.CancelScope() for _ in range(7)]

    async def hear(question: int) -> None:
        with scopes[question]:
            await desk.hear(question)

    async with trio.open_nursery() as nursery:
        for question in range(7):
            nursery.start_soon(hear, question)
            await wait_all_tasks_blocked()
        scopes[2].cancel()  # is waiting
        await wait_all_tasks_blocked()
        await desk.answer()
        assert desk.batches == [[0], [1, 3, 4, 5, 6]]
        scopes[4].cancel()  # is being asked for
        await wait_all_tasks_blocked()
        assert len(nursery.child_tasks) == 4
        scopes[1].cancel()  # asks
        await wait_all_tasks_blocked()
        assert desk.batches == [[0], [1, 3, 4, 5, 6], [3, 5, 6]]
        await desk.answer()
    assert desk.heard == {0: 0, 3: 30, 5: 50, 6: 60}
    async with trio.open_nursery() as nursery:
        await start(nursery, desk, 7)
        await desk.answer()
    assert desk.heard[7] == 70


async def test_the_turn_is_passed_on_by_one_who_is_cancelled_as_it_comes() -> None:
    desk = Desk()
    scope = trio.CancelScope()

    async def hear(question: int) -> None:
        with scope:
            await desk.hear(question)

    async with trio.open_nursery() as nursery:
        await start(nursery, desk, 1)
        nursery.start_soon(hear, 2)
        await wait_all_tasks_blocked()
        await start(nursery, desk, 3)
        scope.cancel()
        await desk.answer()
        while desk.open:
            await desk.answer()
    assert desk.heard == {1: 10, 3: 30}
