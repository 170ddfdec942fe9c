"""Deleting accounts: docs/decisions/0016-what-a-deleted-account-leaves.md says what stays and why."""

from __future__ import annotations

import trio

from trio_chat.background import as_unavailable
from trio_chat.errors import BadCredentials, Unavailable
from trio_chat.services.accounts import AccountService
from trio_chat.store.deletion import Deletions

__all__ = ["Deletion"]

#: How long after its deletion a message of an account may still come in, from a node that has not heard of it (ms).
_GRACE_MS = 60_000
#: Messages that one transaction erases at most: others want to write between two of them.
_BATCH = 1000
#: How often to look for what another node has left unfinished, in seconds.
_LOOK = 60.0
_RETRY = 1.0


class Deletion:
    """Every node erases whatever is there to be erased, so one that is killed in the middle keeps nothing alive."""

    def __init__(self, deletions: Deletions, accounts: AccountService, *, grace_ms: int = _GRACE_MS) -> None:
        self._deletions = deletions
        self._accounts = accounts
        self._grace_ms = grace_ms
        self._wake = trio.Event()

    async def delete(self, userid: int, password: str, place: str = "") -> None:
        """Delete an account for good; its texts follow within moments. The caller tells `Endings` afterwards.

        Raises `BadCredentials` where this is not its password, `RateLimited`, `Unavailable`. Cancelling is safe.
        """
        account = await self._accounts.prove(userid, password, place)
        if not await self._deletions.delete(userid, account.epoch, self._grace_ms):
            raise BadCredentials
        self._wake.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Erase the texts of deleted accounts, until cancelled. Where the database is away it is done later."""
        task_status.started()
        while True:
            pause = _LOOK
            try:
                with as_unavailable("erase the texts of deleted accounts"):
                    for userid in await self._deletions.unfinished():
                        await self._erase(userid)
            except Unavailable:
                pause = _RETRY
            with trio.move_on_after(pause):
                await self._wake.wait()
            self._wake = trio.Event()

    async def _erase(self, userid: int) -> None:
        for conv, last in await self._deletions.conversations(userid):
            for after in range(0, last, _BATCH):
                await self._deletions.erase(userid, conv, after, min(after + _BATCH, last))
        await self._deletions.finish(userid)
