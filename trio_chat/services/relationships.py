"""Between people: blocking; and what this node remembers of memberships and blocks, kept true."""

from __future__ import annotations

import trio

from trio_chat.background import as_unavailable
from trio_chat.doubts import Doubts
from trio_chat.errors import BadRequest, Unavailable
from trio_chat.hints import Hints
from trio_chat.router import Router
from trio_chat.store.relations import Relations

__all__ = ["Relationships"]

#: How long to wait until the database is asked again after it was away, in seconds.
_RETRY = 0.25


class Relationships:
    """All that await may raise `Unavailable`; cancelling is safe."""

    def __init__(self, relations: Relations, router: Router, hints: Hints, doubts: Doubts) -> None:
        self._relations = relations
        self._router = router
        self._hints = hints
        self._doubts = doubts

    async def block(self, userid: int, other: int) -> None:
        """A user wants nothing of another any more. Raises `NoSuchUser`, `BadRequest`."""
        if userid == other:
            raise BadRequest("userid: is your own id", field="userid")
        await self._relations.block(userid, other)
        await self._changed(userid, other)

    async def unblock(self, userid: int, other: int) -> None:
        """Take that back; where there is no block nothing happens."""
        await self._relations.unblock(userid, other)
        await self._changed(userid, other)

    async def blocked(self, userid: int) -> list[tuple[int, str]]:
        """Whom a user has blocked: (id, name)."""
        return await self._relations.blocked(userid)

    async def _changed(self, *users: int) -> None:
        # On this node it holds with the answer; the other nodes are told, or find it by their look.
        self._hints.publish_apart(*users)
        for userid in users:
            await self._find_apart(userid)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Settle what the bus or a look raised doubts about, until cancelled. Where the database is away it is tried again."""
        doubts = self._doubts
        task_status.started()
        while True:
            await doubts.wait()
            memberships, apart = doubts.take()
            try:
                with as_unavailable("settle doubts"):
                    while memberships:
                        membership = next(iter(memberships))
                        await self._find_membership(*membership)
                        memberships.remove(membership)
                    while apart:
                        userid = next(iter(apart))
                        await self._find_apart(userid)
                        apart.remove(userid)
            except Unavailable:
                for userid, groupid in memberships:
                    doubts.membership(userid, groupid)
                for userid in apart:
                    doubts.apart(userid)
                await trio.sleep(_RETRY)

    async def _find_membership(self, userid: int, groupid: int) -> None:
        if userid in self._router.accounts:
            await self._router.find_membership(userid, groupid)

    async def _find_apart(self, userid: int) -> None:
        router = self._router
        if userid not in router.accounts:
            return
        with router.loading(userid):
            while True:
                moves = router.moves(userid)
                apart = await self._relations.apart([userid])
                if router.moves(userid) == moves:
                    break
            router.set_apart(userid, apart[userid])
        router.flush()
