"""A short look for input that the server is not made for; `nox -s fuzz` takes a long one."""

from __future__ import annotations

import random
from pathlib import Path

import pytest
import trio

import trio_chat
from fuzz.live import Attacker, Target, noise, prepare
from fuzz.pure import TARGETS, hunt
from tests.http.raw import address_of
from tests.server.stalling import eventually
from trio_chat import Address, Settings


@pytest.mark.parametrize("target", TARGETS)
def test_only_the_one_error_escapes(target: str) -> None:
    assert hunt(target, seed=1, count=500) == 500


async def test_every_request_has_one_answer_and_nothing_is_left_behind(
    tmp_path: Path, logs: list[dict[str, object]]
) -> None:
    anywhere = Address("127.0.0.1", 0)
    settings = Settings(tcp=(anywhere,), http=anywhere, database=f"sqlite:///{tmp_path}/chat.db")
    async with trio_chat.open_server(settings) as server:
        target = Target(server.addresses[0], address_of(server))
        accounts, place = await prepare(target, 4)
        await eventually(lambda: not server.node.connections)
        tasks = trio.lowlevel.current_statistics().tasks_living
        async with trio.open_nursery() as nursery:
            for number, account in enumerate(accounts):
                attacker = Attacker(target, account, place, number % 2 == 0, number < 2, seed=number)
                nursery.start_soon(attacker.run, 150)
            await noise(target, random.Random(1), 10)
        await eventually(lambda: not server.node.connections and not server.node.router.accounts)
        await eventually(lambda: trio.lowlevel.current_statistics().tasks_living <= tasks)
    assert not [event for event in logs if event["log_level"] == "error"]
