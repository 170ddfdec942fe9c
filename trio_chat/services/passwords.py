"""Password hashes, made and checked in threads of their own so that a storm of logins delays no message."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Protocol, TypeVar

import argon2
import trio

from trio_chat.errors import RateLimited

__all__ = ["PasswordHasher", "Passwords"]

T = TypeVar("T")


class PasswordHasher(Protocol):
    """What the accounts need. Both may raise `RateLimited`; cancelling is safe."""

    async def hash(self, password: str) -> str: ...

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether this is the password; with no hash (no such account) False after the same time."""
        ...


class Passwords:
    """argon2id with the parameters that OWASP recommends: 19 MiB, two passes, one lane.

    At most `waiting` requests wait; a further one is `rate_limited`. The machine is shared with so many `processes`.
    """

    def __init__(self, waiting: int, processes: int = 1) -> None:
        self._hasher = argon2.PasswordHasher(time_cost=2, memory_cost=19456, parallelism=1)
        # One core stays free for the messages.
        self._limiter = trio.CapacityLimiter(max(1, ((os.cpu_count() or 1) - 1) // processes))
        self._waiting = waiting
        self._nobody: str | None = None
        self._making = trio.Lock()

    async def hash(self, password: str) -> str:
        """Raises `RateLimited`. Cancelling is safe."""
        return await self._in_thread(lambda: self._hasher.hash(password))

    async def verify(self, hashed: str | None, password: str) -> bool:
        """Whether this is the password; with no hash (no such account) False after the same time.

        Raises `RateLimited`. Cancelling is safe.
        """
        async with self._making:
            if self._nobody is None:
                # Made by the first login, whoever it is: else the first name that nobody has would take twice as long.
                self._nobody = await self.hash("nobody's password")
        return await self._in_thread(lambda: self._verify(hashed, password))

    def _verify(self, hashed: str | None, password: str) -> bool:
        try:
            self._hasher.verify(hashed or self._nobody or "", password)
        except (argon2.exceptions.VerificationError, argon2.exceptions.InvalidHashError):
            return False
        return hashed is not None

    async def _in_thread(self, work: Callable[[], T]) -> T:
        waiting = self._limiter.statistics().tasks_waiting
        if waiting >= self._waiting:
            raise RateLimited(1.0 + waiting * 0.02, "too many logins at once, try again later", limit="password_checks")
        return await trio.to_thread.run_sync(work, limiter=self._limiter)
