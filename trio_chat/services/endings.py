"""Logins that were ended from elsewhere: the connections that they opened end, on all nodes, within seconds.

Whoever ends a login writes so in the database (`store/logins.py`) and calls `tell`. This node and, by a hint, the others
compare their connections with the database at once; a node that got no hint finds the account by a look, once per sweep,
as it finds everything else that the bus lost.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import structlog
import trio

from trio_chat.background import as_unavailable
from trio_chat.errors import Unavailable
from trio_chat.hints import Hints
from trio_chat.router import Router
from trio_chat.services.tokens import digest_of
from trio_chat.store.logins import Logins, Standing

if TYPE_CHECKING:
    from trio_chat.connection import Connection

__all__ = ["Endings"]

log = structlog.get_logger(__name__)

CHANNEL = "logins"
#: How far back each look goes: to when the one so many before it was made, and so much earlier still (ms), for what took
#: long to commit.
_LOOKS = 5
_LOOKBACK_MS = 5000
_RETRY = 0.25


class Endings:
    """`gone` is called with the id of an account that was found deleted."""

    gone: Callable[[int], None] | None = None

    def __init__(self, logins: Logins, router: Router, hints: Hints, sweep: float) -> None:
        self._logins = logins
        self._router = router
        self._hints = hints
        self._sweep = sweep
        self._pending: set[int] = set()
        self._spared: set[Connection] = set()
        self._wake = trio.Event()
        hints.take_hints(CHANNEL, lambda body: self.check(int(body)))

    def tell(self, userid: int) -> None:
        """A login of this account was ended: look at its connections, here and on the other nodes. Never blocks."""
        self.check(userid)
        self._hints.publish_hint(CHANNEL, b"%d" % userid)

    def check(self, userid: int) -> None:
        """Look soon whether the connections of this account here may go on. Never blocks."""
        self._pending.add(userid)
        self._wake.set()

    @contextmanager
    def spared(self, connection: Connection) -> Iterator[None]:
        """A connection that is ending logins itself is not compared with the database in the block."""
        self._spared.add(connection)
        try:
            yield
        finally:
            self._spared.discard(connection)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """End what was revoked, until cancelled. Where the database is away it is done later."""
        looks: deque[int] = deque(maxlen=_LOOKS)
        look_at = trio.current_time()
        task_status.started()
        while True:
            with trio.move_on_at(look_at):
                await self._wake.wait()
            self._wake = trio.Event()
            try:
                with as_unavailable("end revoked logins"):
                    await self._work_off()
                    if trio.current_time() >= look_at:
                        look_at = trio.current_time() + self._sweep
                        await self._look(looks)
                        await self._work_off()
            except Unavailable:
                await trio.sleep(_RETRY)
                self._wake.set()

    async def _look(self, looks: deque[int]) -> None:
        if not looks:
            looks.append((await self._logins.revoked_since(2**62))[0])
        now, revoked = await self._logins.revoked_since(looks[0] - _LOOKBACK_MS)
        looks.append(now)
        self._pending.update(revoked)

    async def _work_off(self) -> None:
        for userid in sorted(self._pending):
            # What is said from here on is looked at once more.
            self._pending.discard(userid)
            try:
                await self._compare(userid)
            except BaseException:
                self._pending.add(userid)
                raise

    async def _compare(self, userid: int) -> None:
        before = self._logins_of(userid)
        standing = await self._logins.standing(userid)
        if standing.gone and self.gone is not None:
            self.gone(userid)
        for login in self._logins_of(userid):
            connection = login[0]
            if login not in before:
                # It began while the database was read, which may not have known of it.
                self.check(userid)
            elif connection not in self._spared and not _holds(standing, connection):
                log.info("a login was revoked", user=userid, peer=connection.peer)
                connection.end_login()

    def _logins_of(self, userid: int) -> list[tuple[Connection, str | None, int]]:
        account = self._router.accounts.get(userid)
        return [(each, each.token, each.epoch) for each in account.connections] if account is not None else []


def _holds(standing: Standing, connection: Connection) -> bool:
    if connection.token is not None:
        return digest_of(connection.token) in standing.digests
    return connection.epoch == standing.epoch and not standing.gone
