"""What accounts have received: cursors collected in memory and written in batches."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import trio

from trio_chat.background import as_unavailable
from trio_chat.errors import Unavailable
from trio_chat.store.log import MessageLog

__all__ = ["Receipts"]

#: Least time between two transactions of cursors, in seconds: receipts come by the thousand, and a lost one costs
#: no more than one delivery again.
_PAUSE = 0.2
_RETRY = 0.5
#: Least time between two messages to a sender of how far a conversation was received, in seconds.
_TELL_PAUSE = 0.2


class Receipts:
    """Moves delivery cursors forward. Holds at most one entry for each account and conversation.

    `tell` is called with what has become durable of it: (userid, conv, seq), once in a while for each conversation.
    """

    tell: Callable[[Iterable[tuple[int, str, int]]], None] | None = None

    def __init__(self, messages: MessageLog) -> None:
        self._log = messages
        self._moves: dict[tuple[int, str], int] = {}
        # What the transaction in hand has; where `run` was cancelled in it, nobody knows what became of that.
        self._in_hand: dict[tuple[int, str], int] = {}
        self._moved = trio.Event()
        self._hurry = trio.Event()
        # Transactions are numbered: the last one begun, and the last one that has ended.
        self._begun = 0
        self._ended = 0
        self._failed = False
        self._progress = trio.Event()
        # What others sent and these accounts have received: to be written, and to be told.
        self._from_others: dict[tuple[int, str], int] = {}
        self._untold: dict[tuple[int, str], int] = {}
        self._written = trio.Event()

    def move(self, userid: int, conv: str, received: int, *, own: bool = False) -> None:
        """An account has received a conversation up to a seq. Never blocks; a cursor never moves back.

        `own`: the message there is the account's own, so nobody is waiting to hear of it.
        """
        identity = (userid, conv)
        if not own and conv[0] == "d":
            self._from_others[identity] = max(received, self._from_others.get(identity, 0))
        if received > self._moves.get(identity, 0):
            self._moves[identity] = received
            self._moved.set()

    async def flush(self) -> None:
        """Wait until every move so far is in the database. Raises `Unavailable`; cancelling is safe."""
        wanted = self._begun + 1 if self._moves else self._begun
        while self._ended < wanted:
            self._hurry.set()
            await self._progress.wait()
            if self._failed:
                raise Unavailable

    async def write_rest(self) -> None:
        """Write every move so far without `run`, which may have ended. Raises `Unavailable`; cancelling is safe."""
        for (userid, conv), seq in self._in_hand.items():
            self.move(userid, conv, seq)
        await self._write(self._moves)

    async def run(self, *, task_status: trio.TaskStatus[None] = trio.TASK_STATUS_IGNORED) -> None:
        """Write the moves, until cancelled. Where the database is away they are kept and tried again."""
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self._tell)
            task_status.started()
            await self._work()

    async def _work(self) -> None:
        while True:
            await self._moved.wait()
            with trio.move_on_after(_RETRY if self._failed else _PAUSE):
                await self._hurry.wait()
            self._moved, self._hurry = trio.Event(), trio.Event()
            moves, self._moves = self._moves, {}
            news, self._from_others = self._from_others, {}
            self._in_hand = moves
            self._begun += 1
            try:
                with as_unavailable("write receipts"):
                    await self._write(moves)
                self._failed = False
                self._untold.update(news)
                self._written.set()
            except Unavailable:
                self._failed = True
                for (userid, conv), seq in moves.items():
                    self.move(userid, conv, seq, own=(userid, conv) not in news)
            self._in_hand = {}
            self._ended = self._begun
            self._progress.set()
            self._progress = trio.Event()

    async def _tell(self) -> None:
        while True:
            await self._written.wait()
            self._written = trio.Event()
            news, self._untold = self._untold, {}
            if news and self.tell is not None:
                self.tell((userid, conv, seq) for (userid, conv), seq in news.items())
                await trio.sleep(_TELL_PAUSE)

    async def _write(self, moves: dict[tuple[int, str], int]) -> None:
        if moves:
            await self._log.move_cursors([(userid, conv, seq) for (userid, conv), seq in moves.items()])
