"""The look: what the database has that the bus did not bring here, found once per `sweep` (docs/decisions/0006-the-look.md)."""

from __future__ import annotations

from collections import deque

import trio

from trio_chat.background import as_unavailable
from trio_chat.doubts import Doubts
from trio_chat.errors import Unavailable
from trio_chat.router import Router, read_mark
from trio_chat.store.log import Changes, MessageLog
from trio_chat.store.presence import StateChange
from trio_chat.wire.conversation import parse_conv

__all__ = ["Look"]

#: How many looks at the database back each look begins, and how much earlier still (ms): a transaction that takes
#: long to commit is found by one of the next looks.
_LOOKBACK_LOOKS = 5
_LOOKBACK_MS = 5000


class Look:
    """Tells the router what it finds. `sweep` is in seconds."""

    def __init__(self, router: Router, doubts: Doubts, messages: MessageLog, sweep: float) -> None:
        self._router = router
        self._doubts = doubts
        self._log = messages
        self._sweep = sweep
        self._now = trio.Event()

    def at_once(self) -> None:
        """Look as soon as the present look is done. Never blocks."""
        self._now.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Look once per sweep, until cancelled. Cancelling is safe."""
        task_status.started()
        looks: deque[int] = deque(maxlen=_LOOKBACK_LOOKS)
        while True:
            with trio.move_on_after(self._sweep):
                await self._now.wait()
            self._now = trio.Event()
            if not self._router.accounts:
                looks.clear()
                continue
            try:
                with as_unavailable("look for what the bus lost"):
                    await self._look(looks)
            except Unavailable:
                continue

    async def _look(self, looks: deque[int]) -> None:
        if not looks:
            looks.append(await self._log.now())
        changes = await self._log.changes(looks[0] - _LOOKBACK_MS)
        looks.append(changes.now)
        await self._apply(changes)

    async def _apply(self, changes: Changes) -> None:
        router = self._router
        for conv, seq in changes.heads:
            if router.head(conv) is None and conv[0] == "d":
                router.open_direct(conv, *(parse_conv(conv).users or ()))
            router.heard(conv, seq)
        for userid, state, changed in changes.states:
            router.state_changed(StateChange(userid, state, changed))
        for userid, conv, seq in changes.marks:
            if router.head(conv) is not None:
                router.tell_read(userid, conv, seq, read_mark(userid, conv, seq))
        for pair in changes.blocks:
            for userid in pair:
                self._doubts.apart(userid)
        # What no look will find any more need not be known.
        horizon = trio.current_time() - 2 * (self._sweep * _LOOKBACK_LOOKS + _LOOKBACK_MS / 1000)
        router.forget_marks(horizon)
        router.flush()
        # Since this was read he may have come back, or left again.
        for userid, conv in changes.departures:
            groupid = parse_conv(conv).groupid
            account = router.accounts.get(userid)
            if groupid is not None and account is not None and groupid in account.groups:
                await router.find_membership(userid, groupid)
        for groupid, userid in changes.joins:
            account = router.accounts.get(userid)
            if account is not None and groupid not in account.groups:
                await router.find_membership(userid, groupid)
