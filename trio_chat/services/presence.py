"""Presence: which users are connected to which node, truthful through every kind of exit.

The database is where it is kept: a row in Presence for each user and node, User.state beside it. A node's lease is the
`beat` of its row in Node, which rises every few moments; a node whose beat another one has seen standing still for the
lease is dead, and that one clears it away. No clocks are compared, and Redis is not asked, so its loss makes nobody
appear or disappear (docs/decisions/0003-presence-in-the-database.md).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from contextlib import suppress

import structlog
import trio

from trio_chat.background import as_unavailable
from trio_chat.errors import RequestError, StartupError, Unavailable
from trio_chat.hints import Hints
from trio_chat.router import Router
from trio_chat.services.receipts import Receipts
from trio_chat.store.presence import Entry, NodeRecord, PresenceTable, StateChange

__all__ = ["Presence"]

log = structlog.get_logger(__name__)

_PAGE = 500
_RECONCILE_BEATS = 10
#: What was received is told before who leaves, but does not keep him: for this long at most, in seconds.
_LAST_RECEIPTS = 0.5


class Presence:
    """Keeps this node's lease and its users' rows, and clears dead nodes away.

    `name` and `bus` identify the node among the others; `alone` says that the database serves no other node; `lease`
    is in seconds.
    """

    def __init__(
        self,
        table: PresenceTable,
        router: Router,
        hints: Hints,
        receipts: Receipts,
        *,
        name: str,
        bus: str,
        alone: bool,
        lease: float,
    ) -> None:
        self._table = table
        self._router = router
        self._hints = hints
        self._receipts = receipts
        self._name = name
        self._bus = bus
        self._alone = alone
        self._lease = lease
        self._node = 0
        self._beats: dict[int, tuple[int, float]] = {}
        # Users who left, to be told to the database; and those who are coming, whose rows are left alone.
        self._left: set[int] = set()
        self._leaving: set[int] = set()
        self._entering: Counter[int] = Counter()
        self._changed = trio.Event()
        self._settled = trio.Event()
        self._failed = False
        self._keeping = trio.CancelScope()
        self._kept = trio.Event()
        self._kept.set()

    async def start(self) -> None:
        """Begin this node's life, and end the former one that its name had.

        Raises `StartupError` where a node lives on this database that has the same name, or another bus. That takes a
        look: at a former life of the name for a little more than a beat, at nodes with another bus for the lease.
        """
        self._node = await self._table.register_node(self._name, self._bus)
        # Of two that start at once the younger gives way.
        elders = [node for node in await self._table.nodes() if node.id < self._node]
        if self._alone:
            await self._clear([node.id for node in elders])
            return
        await self._bury(
            [node for node in elders if node.name == self._name],
            self._lease / 3,
            "each node needs a --node name of its own",
        )
        await self._bury(
            [node for node in elders if node.name != self._name and "local:" in {node.bus, self._bus}],
            self._lease,
            f"this one has the bus {self._bus!r}, so they would not hear each other; give all nodes the same --bus redis://…",
        )

    async def _bury(self, nodes: list[NodeRecord], patience: float, refusal: str) -> None:
        """Clear nodes away after a look at them; where one is alive after all, refuse to start beside it."""
        if not nodes:
            return
        log.info("waiting to see whether other nodes are alive", nodes=[node.name for node in nodes], seconds=patience)
        first = {node.id: node.beat for node in nodes}
        deadline = trio.current_time() + patience
        while trio.current_time() < deadline:
            await trio.sleep(self._lease / 12)
            await self._table.beat(self._node)  # for who starts after this one
            for node in await self._table.nodes():
                if node.beat != first.get(node.id, node.beat):
                    raise StartupError(
                        f"a node {node.name!r} is running on this database with the bus {node.bus!r}: {refusal}"
                    )
        await self._clear(list(first))

    async def stop(self) -> None:
        """End this node's life: its users are offline, unless they are on another node. Raises `Unavailable`.

        It relies on no other task: a node that is cancelled has none any more.
        """
        # First of all the lease ends: it would find the node's row gone, and begin a new life.
        self._keeping.cancel()
        await self._kept.wait()
        with trio.move_on_after(_LAST_RECEIPTS), suppress(Unavailable), as_unavailable("write the last receipts"):
            await self._receipts.write_rest()
        with as_unavailable("clear this node's presence"):
            await self._clear([self._node])

    async def enter(self, entries: Sequence[Entry]) -> list[RequestError | None]:
        """Logins: note that these users are connected here. Says of each entry what refuses it, if anything.

        `AccountInUse` where it is exclusive and its user is connected anywhere, `Forbidden` where he is disabled. Raises
        `Unavailable`; then, and when cancelled, all of it is taken back. Otherwise `entered` has to be called for each entry
        when its login has been finished with `Router.attach`, or has failed.
        """
        # Whose former connection here has ended just now, and the database has not been told yet, is still there for it.
        while any(entry.exclusive and self._is_leaving(entry.userid) for entry in entries):
            await self._wait_settled()
        self._entering.update(entry.userid for entry in entries)
        try:
            while any(entry.userid in self._leaving for entry in entries):
                await self._wait_settled()
            outcomes = await self._table.enter(entries, self._node)
        except BaseException:
            for entry in entries:
                self.entered(entry.userid)
            raise
        self._hints.publish_states([outcome for outcome in outcomes if isinstance(outcome, StateChange)])
        return [outcome if isinstance(outcome, RequestError) else None for outcome in outcomes]

    def entered(self, userid: int) -> None:
        """A login that `enter` has noted is over: he is here now, or he is not, and the note is taken back. Never blocks."""
        self._entering[userid] -= 1
        if not self._entering[userid]:
            del self._entering[userid]
        self.left(userid)

    def _is_leaving(self, userid: int) -> bool:
        """Whether the database is (still to be) told that the user left; not so while a login of his is on its way."""
        if userid in self._leaving:
            return True
        return userid in self._left and userid not in self._router.accounts and userid not in self._entering

    async def _wait_settled(self) -> None:
        """Wait until another attempt to tell the database has ended. Raises `Unavailable` where it failed."""
        await self._settled.wait()
        if self._failed:
            raise Unavailable

    @property
    def busy(self) -> bool:
        """Whether the database has yet to be told of somebody who came or left."""
        return bool(self._left or self._leaving or self._entering)

    def left(self, userid: int) -> None:
        """A connection of the user has ended: he is offline unless he has another. Never blocks."""
        if userid in self._router.accounts:
            self._left.discard(userid)
        else:
            self._left.add(userid)
            self._changed.set()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Keep the lease, tell the database who left, clear dead nodes; until cancelled."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell_who_left)
            self._kept = trio.Event()
            nursery.start_soon(self._keep_lease)
            task_status.started()

    async def _tell_who_left(self) -> None:
        while True:
            await self._changed.wait()
            self._changed = trio.Event()
            leaving = {user for user in self._left if user not in self._entering}
            self._left -= leaving
            self._leaving = {user for user in leaving if user not in self._router.accounts}
            try:
                if self._leaving:
                    with as_unavailable("tell who left"):
                        # First what they received: their next login, on whatever node, begins there.
                        await self._receipts.flush()
                        changes = await self._table.leave(list(self._leaving), self._node)
                        for start in range(0, len(changes), _PAGE):
                            self._hints.publish_states(changes[start : start + _PAGE])
                            await trio.lowlevel.checkpoint()
                self._failed = False
            except Unavailable:
                self._failed = True
                self._left |= self._leaving
            finally:
                self._leaving = set()
                self._settled.set()
                self._settled = trio.Event()
            if self._failed:
                await trio.sleep(0.25)
                self._changed.set()

    async def _keep_lease(self) -> None:
        beats = 0
        try:
            with self._keeping:
                while True:
                    await trio.sleep(self._lease / 4)
                    try:
                        with as_unavailable("keep the lease"):
                            if not await self._table.beat(self._node):
                                await self._begin_again()
                            await self._clear_dead()
                            beats += 1
                            if beats % _RECONCILE_BEATS == 0:
                                await self._reconcile()
                    except Unavailable:
                        # While nobody can beat nobody's silence means anything.
                        self._beats.clear()
        finally:
            self._kept.set()

    async def _begin_again(self) -> None:
        """The others have taken this node for dead (it was stopped, or cut off from the database): it lives again."""
        log.warning("this node was taken for dead; its users are noted again", node=self._name)
        self._node = await self._table.register_node(self._name, self._bus)
        await self._reconcile()

    async def _reconcile(self) -> None:
        """Make this node's rows and its connections agree, should anything have gone by unnoticed."""
        noted = await self._table.users_of(self._node)
        # Who is just coming may have been noted for the life before this one.
        for userid in [*self._router.accounts, *self._entering]:
            if userid not in noted and (userid in self._router.accounts or userid in self._entering):
                await self.enter([Entry(userid)])  # who was disabled meanwhile is refused: he is about to be sent away
                self.entered(userid)
        for userid in noted:
            if userid not in self._entering:
                self.left(userid)
        done = False
        while not done:
            changes, done = await self._table.clear_strays(_PAGE)
            self._hints.publish_states(changes)

    async def _clear_dead(self) -> None:
        now = trio.current_time()
        nodes = await self._table.nodes()
        seen: dict[int, tuple[int, float]] = {}
        dead = []
        for node in nodes:
            beat, since = self._beats.get(node.id, (-1, now))
            seen[node.id] = (beat, since) if beat == node.beat else (node.beat, now)
            if node.id == self._node:
                continue
            if now - seen[node.id][1] >= self._lease:
                log.warning("a node is dead; its users are cleared", node=node.name)
                dead.append(node.id)
            elif node.name == self._name and beat not in {-1, node.beat}:
                log.error("another node has this one's name", node=node.name)
            elif "local:" in {node.bus, self._bus}:
                log.error(
                    "another node uses this database, and they cannot hear each other", node=node.name, bus=node.bus
                )
        self._beats = seen
        await self._clear(dead)

    async def _clear(self, nodes: list[int]) -> None:
        done = not nodes
        while not done:
            changes, done = await self._table.clear_nodes(nodes, _PAGE)
            self._hints.publish_states(changes)
