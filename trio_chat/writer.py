"""The batching writer: makes messages durable, then acknowledged, delivered and published, in this order.

Natural batching: the next transaction holds what arrived while the last one committed, so a quiet server answers after
one commit and a busy one shares each commit among hundreds of messages.
"""

from __future__ import annotations

from collections import deque
from itertools import islice
from typing import TYPE_CHECKING, cast

import attrs
import structlog
import trio

from trio_chat.errors import Internal, RequestError, Unavailable
from trio_chat.router import Router
from trio_chat.store.contract import OutcomeUnknown
from trio_chat.store.log import Draft, MessageLog, Stored
from trio_chat.transport.contract import End
from trio_chat.wire.delivery import Delivery

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.counters import Counters
    from trio_chat.wire.messages import Ref

__all__ = ["BATCH_CHARACTERS", "Submission", "Writer"]

log = structlog.get_logger(__name__)

#: How much longer a batch may take when its commit's answer was lost and has to be looked for, in seconds.
_LOOK = 2.0
#: Text in one transaction, in characters: however many bytes they become, MySQL takes the statement (16 MB).
BATCH_CHARACTERS = 1_000_000


@attrs.define(eq=False)
class Submission:
    """A message that a connection sent and that is to be answered there."""

    draft: Draft
    origin: Connection
    ref: Ref | None


class Writer:
    """One task that owns the queue and the transaction in hand.

    The queue holds at most `limit` messages: while it is `full` nobody is read from, so it is over the limit by no more
    than what was already read. `patience` is how long, in seconds, the database may take for a batch.
    """

    def __init__(
        self, messages: MessageLog, router: Router, counters: Counters, *, batch: int, limit: int, patience: float
    ) -> None:
        self._log = messages
        self._router = router
        self._counters = counters
        self._batch = batch
        self._limit = limit
        self._patience = patience
        self._queue: deque[Submission] = deque()
        self._submitted = trio.Event()
        self._room = trio.Event()
        self._idle = trio.Event()
        self._idle.set()

    @property
    def queued(self) -> int:
        """Messages that await their commit."""
        return len(self._queue)

    @property
    def full(self) -> bool:
        return len(self._queue) >= self._limit

    @property
    def idle(self) -> bool:
        return not self._queue

    def submit(self, submission: Submission) -> None:
        """Queue a message. Never blocks; it is answered on its connection when it is durable, or when that failed."""
        self._queue.append(submission)
        if len(self._queue) == 1:
            self._submitted.set()
            self._idle = trio.Event()

    async def wait_room(self) -> None:
        """Wait until the queue takes more. Cancelling is safe."""
        while self.full:
            await self._room.wait()

    async def wait_idle(self) -> None:
        """Wait until everything submitted so far has been answered. Cancelling is safe."""
        await self._idle.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write batches until cancelled. A transaction in hand when cancelled happens as a whole or not at all."""
        task_status.started()
        while True:
            if not self._queue:
                self._idle.set()
                await self._submitted.wait()
            self._submitted = trio.Event()
            batch = self._next_batch()
            router = self._router
            router.committing = {(item.draft.conv, item.draft.sender) for item in batch}
            router.committed = trio.Event()
            failures: list[RequestError] = []
            stored: list[Stored] = []
            began = trio.current_time()
            try:
                stored = await self._store([item.draft for item in batch])
            except Unavailable as error:
                # Whoever came meanwhile would wait as long again for the same answer: everybody gets it now.
                failures = [error] * len(batch)
                failures += [Unavailable() for _ in range(len(self._queue) - len(batch))]
                batch = list(self._queue)
            except Exception:
                log.exception("batch failed", messages=len(batch))
                failures = [Internal()] * len(batch)
            finally:
                router.committing = set()
                router.committed.set()
            for _ in batch:
                self._queue.popleft()
            if not self.full:
                self._room.set()
                self._room = trio.Event()
            if failures:
                for item, failure in zip(batch, failures, strict=True):
                    item.origin.message_failed(item.ref, failure)
            else:
                self._counters.commits.observe(trio.current_time() - began)
                self._counters.batches.observe(len(batch))
                self._report(batch, stored)
            router.flush()

    def _next_batch(self) -> list[Submission]:
        """What waits, up to the bounds of one transaction; it stays in the queue until it is answered."""
        batch: list[Submission] = []
        size = 0
        for item in islice(self._queue, self._batch):
            size += len(item.draft.msg)
            if size > BATCH_CHARACTERS and batch:
                break
            batch.append(item)
        return batch

    def _report(self, batch: list[Submission], stored: list[Stored]) -> None:
        """Answer, deliver and publish what was stored. What goes wrong with one message is no other's harm."""
        deliveries = []
        for item, where in zip(batch, stored, strict=True):
            try:
                delivery = self._report_one(item, where)
                if delivery is not None:
                    deliveries.append(delivery)
            except Exception:
                log.exception("message not reported", conv=where.conv, seq=where.seq)
                item.origin.close(End.FAILED)
        self._counters.stored += len(deliveries)
        try:
            self._router.publish(deliveries)
        except Exception:
            # The other nodes find these in the log.
            log.exception("messages not published", messages=len(deliveries))

    def _report_one(self, item: Submission, where: Stored) -> Delivery | None:
        """Returns the new message, or None where its key was stored before."""
        draft, origin = item.draft, item.origin
        reply = origin.message_stored(item.ref, where)
        if where.duplicate:
            origin.message_answered(reply)
            return None
        delivery = Delivery(
            where.conv,
            where.seq,
            where.ts,
            draft.sender,
            draft.name,
            draft.target,
            draft.msg,
            draft.time,
            draft.key,
        )
        self._router.arrive(delivery, origin, reply)
        return delivery

    async def _store(self, drafts: list[Draft]) -> list[Stored]:
        deadline = trio.current_time() + self._patience + _LOOK
        while True:
            try:
                return await self._log.append(drafts)
            except OutcomeUnknown as error:
                unknown = error
            with trio.move_on_at(deadline):
                stored = cast(list[Stored], unknown.value)
                if await self._was_stored(drafts, stored):
                    return stored
                continue
            raise unknown

    async def _was_stored(self, drafts: list[Draft], stored: list[Stored]) -> bool:
        """Find out what became of a commit whose answer was lost."""
        while True:
            try:
                return await self._log.was_stored(drafts, stored)
            except Unavailable:
                await trio.sleep(0.1)
