"""Asking for many at once: who comes while others are being asked for waits, and is asked for with all that came meanwhile.

One alone is asked for at once. So nothing waits for company, and the more come the fewer round trips and commits each of
them costs (the idea is that of a database's group commit).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Sequence
from typing import Generic, TypeVar

import attrs
import outcome
import trio

from trio_chat.errors import RequestError, Unavailable

__all__ = ["Batched"]

Q = TypeVar("Q")
A = TypeVar("A")


@attrs.define(eq=False)
class _Asker(Generic[Q, A]):
    """Somebody's question. `woken` is set when there is an answer, or when he `leads`: it is his turn to ask."""

    question: Q
    leads: bool = False
    gone: bool = False
    answer: outcome.Outcome[A] | None = None
    woken: trio.Event = attrs.field(factory=trio.Event)


class Batched(Generic[Q, A]):
    """Asks for up to `most` at a time, by whoever's turn it is: there is no task of its own.

    `ask` gives the answers in the order of the questions; an answer that is a `RequestError` is raised to the one whose
    it is. Where `ask` itself raises `Unavailable` all hear that; where it raises something else each is asked for alone,
    so that one question cannot spoil the others.
    """

    def __init__(self, ask: Callable[[list[Q]], Awaitable[Sequence[A | RequestError]]], *, most: int = 64) -> None:
        self._ask = ask
        self._most = most
        self._free = True
        self._waiting: deque[_Asker[Q, A]] = deque()

    def __len__(self) -> int:
        """How many wait for their turn."""
        return sum(not asker.gone for asker in self._waiting)

    async def __call__(self, question: Q) -> A:
        """The answer. Raises what `ask` raises.

        Cancelling is safe, and takes effect at once. What is being asked is asked to its end nevertheless, unless it was
        this one's turn to ask: then it is `ask` that is cancelled, and the others' questions are asked again.
        """
        asker: _Asker[Q, A] = _Asker(question)
        if self._free:
            self._free = False
            asker.leads = True
        else:
            self._waiting.append(asker)
            await self._wait(asker)
        if asker.leads:
            await self._lead(asker)
        assert asker.answer is not None
        return asker.answer.unwrap()

    async def _wait(self, asker: _Asker[Q, A]) -> None:
        try:
            await asker.woken.wait()
        except trio.Cancelled:
            asker.gone = True
            if asker.leads:
                self._pass_on()
            raise

    async def _lead(self, leader: _Asker[Q, A]) -> None:
        batch = [leader]
        try:
            await trio.lowlevel.checkpoint()  # those that come in the same moment come along
            while self._waiting and len(batch) < self._most:
                asker = self._waiting.popleft()
                if not asker.gone:
                    batch.append(asker)
            await self._answer(batch)
        finally:
            # Without an answer is who was asked for in vain: the leader was cancelled.
            self._waiting.extendleft(reversed([each for each in batch if each.answer is None and each is not leader]))
            self._pass_on()
            for asker in batch:
                if asker.answer is not None:
                    asker.woken.set()

    def _pass_on(self) -> None:
        """Let the next one ask who waits."""
        while self._waiting:
            following = self._waiting.popleft()
            if not following.gone:
                following.leads = True
                following.woken.set()
                return
        self._free = True

    async def _answer(self, batch: list[_Asker[Q, A]]) -> None:
        try:
            answers = await self._ask([asker.question for asker in batch])
            for asker, answer in zip(batch, answers, strict=True):
                asker.answer = outcome.Error(answer) if isinstance(answer, RequestError) else outcome.Value(answer)
        except Unavailable as error:
            for asker in batch:
                own = Unavailable(error.errmsg)
                own.__cause__ = error
                asker.answer = outcome.Error(own)
        except Exception as error:  # noqa: BLE001 - it is the caller's, and raised there
            if len(batch) == 1:
                batch[0].answer = outcome.Error(error)
            else:
                for asker in batch:
                    await self._answer([asker])
