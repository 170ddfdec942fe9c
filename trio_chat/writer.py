"""The batching writer: makes messages durable, then acknowledged, delivered and published, in this order.

Natural batching: the next transaction holds what arrived while the last one committed, so a quiet server answers after
one commit and a busy one shares each commit among hundreds of messages. What a batch's commit brings is reported while
the next one is under way.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, cast

import attrs
import structlog
import trio

from trio_chat.errors import Internal, RequestError, Unavailable
from trio_chat.hints import Hints
from trio_chat.router import Router
from trio_chat.store.append import Appender, Draft, Stored
from trio_chat.store.contract import OutcomeUnknown
from trio_chat.transport.contract import End
from trio_chat.wire.delivery import Delivery

if TYPE_CHECKING:
    from trio_chat.connection import Connection
    from trio_chat.counters import Counters
    from trio_chat.wire.messages import Ref

__all__ = ["BATCH_CHARACTERS", "Submission", "Writer"]

log = structlog.get_logger(__name__)

#: How much longer a batch may take when its commit's answer was lost and has to be looked for, in seconds.
_LOOK = 1.5
#: Text in one transaction, in characters: however many bytes they become, MySQL takes the statement (16 MB).
BATCH_CHARACTERS = 1_000_000


@attrs.define(eq=False)
class Submission:
    """A message that a connection sent and that is to be answered there."""

    draft: Draft
    origin: Connection
    ref: Ref | None


@attrs.define(eq=False)
class _Batch:
    """Messages of one transaction: where each went, or why none did."""

    items: list[Submission]
    stored: list[Stored] = attrs.field(factory=list)
    failures: list[RequestError] = attrs.field(factory=list)
    seconds: float = 0.0


class Writer:
    """Owns the queue, the transaction in hand, and the batches that are to be reported: two tasks of `run`.

    At most `limit` messages await their report: while it is `full` nobody is read from, so it is over the limit by no more
    than what was already read. `patience` is how long, in seconds, the database may take for a batch.
    """

    def __init__(
        self,
        appender: Appender,
        router: Router,
        hints: Hints,
        counters: Counters,
        *,
        batch: int,
        limit: int,
        patience: float,
    ) -> None:
        self._appender = appender
        self._router = router
        self._hints = hints
        self._counters = counters
        self._batch = batch
        self._limit = limit
        self._patience = patience
        self._queue: deque[Submission] = deque()
        # Batches whose transaction was begun, the oldest first, and those of them that have ended.
        self._begun: deque[_Batch] = deque()
        self._ended: deque[_Batch] = deque()
        self.queued = 0
        self._submitted = trio.Event()
        self._finished = trio.Event()
        self._reported = trio.Event()
        router.writer = self

    @property
    def full(self) -> bool:
        return self.queued >= self._limit

    def submit(self, submission: Submission) -> None:
        """Queue a message. Never blocks; it is answered on its connection when it is durable, or when that failed."""
        self.queued += 1
        queue = self._queue
        queue.append(submission)
        if len(queue) == 1:
            self._submitted.set()

    def may_have_stored(self, conv: str, sender: int) -> bool:
        """Whether a message of a sender may be in a conversation's log already, and was not reported yet."""
        return any(
            item.draft.conv == conv and item.draft.sender == sender for batch in self._begun for item in batch.items
        )

    async def wait_reported(self) -> None:
        """Wait until a batch has been reported. Cancelling is safe."""
        await self._reported.wait()

    async def wait_room(self) -> None:
        """Wait until the queue takes more. Cancelling is safe."""
        while self.full:
            await self._reported.wait()

    async def wait_idle(self) -> None:
        """Wait until everything submitted so far has been answered. Cancelling is safe."""
        while self.queued:
            await self._reported.wait()

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write batches until cancelled. A transaction in hand when cancelled happens as a whole or not at all."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._report_batches)
            task_status.started()
            await self._store_batches()

    async def _store_batches(self) -> None:
        while True:
            if not self._queue:
                self._submitted = trio.Event()
                await self._submitted.wait()
            batch = _Batch(self._next_batch())
            self._begun.append(batch)
            began = trio.current_time()
            try:
                batch.stored = await self._store([item.draft for item in batch.items])
                batch.seconds = trio.current_time() - began
            except Unavailable as error:
                batch.failures = [error] * len(batch.items)
                # Whoever came meanwhile would wait as long again for the same answer: everybody gets it now.
                batch.failures += [Unavailable() for _ in self._queue]
                batch.items += self._queue
                self._queue.clear()
            except Exception:
                log.exception("batch failed", messages=len(batch.items))
                batch.failures = [Internal()] * len(batch.items)
            self._ended.append(batch)
            if self._queue:
                self._finished.set()
            else:
                self._report_ended()

    def _next_batch(self) -> list[Submission]:
        """What waits, up to the bounds of one transaction."""
        queue = self._queue
        batch: list[Submission] = []
        size = 0
        while queue and len(batch) < self._batch:
            size += len(queue[0].draft.msg)
            if size > BATCH_CHARACTERS and batch:
                break
            batch.append(queue.popleft())
        return batch

    async def _report_batches(self) -> None:
        """Report what has ended while the next transaction is under way."""
        while True:
            await self._finished.wait()
            self._finished = trio.Event()
            self._report_ended()

    def _report_ended(self) -> None:
        while self._ended:
            batch = self._ended.popleft()
            if batch.failures:
                for item, failure in zip(batch.items, batch.failures, strict=True):
                    item.origin.message_failed(item.ref, failure)
            else:
                self._counters.commits.observe(batch.seconds)
                self._counters.batches.observe(len(batch.items))
                self._report(batch)
            self._begun.popleft()
            self.queued -= len(batch.items)
            self._reported.set()
            self._reported = trio.Event()
            self._router.flush()

    def _report(self, batch: _Batch) -> None:
        """Answer, deliver and publish what was stored. What goes wrong with one message is no other's harm."""
        arrive = self._router.arrive
        deliveries = []
        for item, where in zip(batch.items, batch.stored, strict=True):
            draft, origin = item.draft, item.origin
            try:
                reply = origin.message_stored(item.ref, where)
                if where.duplicate:
                    origin.message_answered(reply)
                    continue
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
                arrive(delivery, origin, reply)
                deliveries.append(delivery)
            except Exception:
                log.exception("message not reported", conv=where.conv, seq=where.seq)
                origin.close(End.FAILED)
        self._counters.stored += len(deliveries)
        try:
            self._hints.publish(deliveries)
        except Exception:
            # The other nodes find these in the log.
            log.exception("messages not published", messages=len(deliveries))

    async def _store(self, drafts: list[Draft]) -> list[Stored]:
        deadline = trio.current_time() + self._patience + _LOOK
        doubt: list[Stored] | None = None
        while True:
            try:
                return await self._appender.append(drafts, doubt)
            except OutcomeUnknown as error:
                unknown = error
            doubt = cast(list[Stored], unknown.value)
            with trio.move_on_at(deadline):
                if await self._was_stored(drafts, doubt):
                    return doubt
                continue
            raise unknown

    async def _was_stored(self, drafts: list[Draft], stored: list[Stored]) -> bool:
        """Find out what became of a commit whose answer was lost."""
        while True:
            try:
                return await self._appender.was_stored(drafts, stored)
            except Unavailable:
                await trio.sleep(0.1)
