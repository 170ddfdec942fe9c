"""The simulation's power: servers that are broken on purpose, each in one place, and how soon a seed finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import trio

from tests.simulation.run import simulate
from trio_chat.look import Look
from trio_chat.router import Router
from trio_chat.services.authorization import Authorization
from trio_chat.services.chat import ChatService
from trio_chat.services.login_reads import AccountState, LoginReads
from trio_chat.services.presence import Presence
from trio_chat.store.append import Appender
from trio_chat.writer import Writer


async def _nothing(*_: object, **__: object) -> None:
    pass


async def _yes(*_: object, **__: object) -> bool:
    return True


def _jumps(self: Router, delivery: Any, origin: Any = None, reply: Any = None) -> None:
    """Hand out what is ahead of a hole."""
    head = self._heads.get(delivery.conv)
    if head is not None and delivery.seq > head + 1:
        self._heads[delivery.conv] = delivery.seq - 1
    _arrive(self, delivery, origin, reply)


_arrive = Router.arrive
_append = Appender.append
_states = LoginReads.states


async def _forgetful(self: Appender, drafts: Any, doubt: Any = None) -> Any:
    """Keys are not kept."""
    for draft in drafts:
        draft.key = None
    return await _append(self, drafts, doubt)


def _receives_all(self: ChatService, _: Any, account: Any, conv: str, __: int) -> None:
    """RECEIVED moves the cursor to the end, whatever was delivered."""
    head = self._router.head(conv)
    if head is not None:
        account.pending.pop(conv, None)
        self._receipts.move(account.id, conv, head)


async def _reads_slowly(self: LoginReads, userids: Sequence[int]) -> dict[int, AccountState]:
    states = await _states(self, userids)
    await trio.sleep(0.5)
    return states


def _lets_write(*_: object) -> bool:
    """Neither who has left a group nor who is blocked is refused."""
    return True


#: Where, and what is there instead.
Patch = tuple[type, str, Callable[..., Any]]

#: What is broken, and by which faults that shows.
MUTANTS: dict[str, tuple[tuple[Patch, ...], tuple[str, ...]]] = {
    "believes that every commit happened whose answer was lost": (
        ((Writer, "_was_stored", _yes),),
        ("database-failing",),
    ),
    "passes holes": (((Router, "arrive", _jumps),), ("bus-weather",)),
    "does not clear dead nodes": (((Presence, "_clear_dead", _nothing),), ("node-kill",)),
    "never looks for what the bus lost": (((Look, "_apply", _nothing),), ("bus-weather", "bus-flap")),
    "forgets keys": (((Appender, "append", _forgetful),), ("clients-reset",)),
    "takes for received what was not delivered": (((ChatService, "received", _receives_all),), ("clients-reset",)),
    "goes on delivering to who has left": (((Router, "left", lambda *_: None),), ("clients-reset",)),
    "takes messages from who has left, or is blocked": (
        ((Authorization, "may_write", _lets_write),),
        ("clients-reset",),
    ),
    "is born again without its users": (((Presence, "_reconcile", _nothing),), ("node-freeze",)),
    "does not take up what came while a login was reading": (
        # To read slowly is not wrong: it makes long what is short otherwise.
        ((LoginReads, "states", _reads_slowly), (Router, "_is_awaited", lambda *_: False)),
        ("clients-reset", "database-slow"),
    ),
}


@pytest.mark.slow
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", MUTANTS)
def test_a_broken_server_is_found(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    patches, faults = MUTANTS[name]
    for patch in patches:
        monkeypatch.setattr(*patch)
    for seed in range(200):
        if simulate(seed, faults).wrong:
            return
    pytest.fail("200 seeds have found nothing")
