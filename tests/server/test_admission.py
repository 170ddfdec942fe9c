"""Logins have their turns; a database that is away is not asked once for each of them."""

from __future__ import annotations

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from trio_chat.errors import Unavailable
from trio_chat.services.admission import Admission


async def test_so_many_at_a_time_in_their_order() -> None:
    admission = Admission(2)
    inside: list[int] = []
    go_on = [trio.Event() for _ in range(4)]

    async def log_in(number: int) -> None:
        async with admission.turn():
            inside.append(number)
            await go_on[number].wait()

    async with trio.open_nursery() as nursery:
        for number in range(4):
            nursery.start_soon(log_in, number)
            await wait_all_tasks_blocked()
        assert (inside, admission.waiting) == ([0, 1], 2)
        go_on[1].set()
        await wait_all_tasks_blocked()
        assert (inside, admission.waiting) == ([0, 1, 2], 1)
        for event in go_on:
            event.set()
    assert inside == [0, 1, 2, 3]


async def test_who_waits_is_refused_with_the_one_whom_the_database_failed() -> None:
    admission = Admission(1)
    failing = trio.Event()
    refused: list[int] = []

    async def ask_the_database(number: int) -> None:
        assert number == 0
        await failing.wait()
        raise Unavailable

    async def log_in(number: int) -> None:
        try:
            async with admission.turn():
                await ask_the_database(number)
        except Unavailable:
            refused.append(number)

    async with trio.open_nursery() as nursery:
        for number in range(3):
            nursery.start_soon(log_in, number)
            await wait_all_tasks_blocked()
        failing.set()
    assert refused == [0, 1, 2]
    async with admission.turn():  # who comes later has his try
        assert admission.waiting == 0


async def test_an_error_of_ones_own_refuses_nobody_else() -> None:
    admission = Admission(1)

    async def log_in() -> None:
        async with admission.turn():
            pass

    async with trio.open_nursery() as nursery:
        with pytest.raises(ValueError, match="mine"):
            async with admission.turn():
                nursery.start_soon(log_in)
                await wait_all_tasks_blocked()
                raise ValueError("mine")
