"""Guessing passwords takes time, and nobody can lock somebody else out by it.

The rule: what others do never delays anybody's first try from where he is; it makes longer the wait after a wrong one. And
a login by token is never delayed. Why it is so, and what is left: docs/decisions/0012-guessing-passwords.md.

What was wrong lately is in the database, so it counts on every node; only a wrong password costs a write.
"""

from __future__ import annotations

import hashlib
import itertools
import math
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import attrs
import trio

from trio_chat.errors import RateLimited, Unavailable
from trio_chat.services.batched import Batched
from trio_chat.services.turns import Turns
from trio_chat.store.guesses import Failure, Guesses, Record

__all__ = ["LoginGuard", "Rule"]

#: So many passwords of one account from one place, and of one place, are checked at a time on a node: what is found out
#: counts for those that wait, and one place's many do not keep the others' waiting.
_OF_PAIR = 4
_OF_PLACE = 8
#: How many accounts are remembered with where they last logged in by password.
_KNOWN = 100_000
#: What does not count any more is removed after so many wrong passwords on this node.
_FORGET_AFTER = 1000
#: So many wrong passwords nobody makes: the limit is off.
_NEVER = 2**31
#: How long the database may take to note a wrong password of somebody who has hung up, in seconds.
_LAST_WORDS = 2.0


@attrs.frozen
class Rule:
    """From the `free`-th wrong password on the next try has to wait: one second, doubling, up to `longest`.

    One wrong password is forgotten every `lasts` seconds.
    """

    free: int
    lasts: int
    longest: int

    def delay(self, record: Record | None) -> int:
        """Milliseconds from the latest wrong password until the next try."""
        if record is None:
            return 0
        over = math.ceil((record.until - record.latest) / (self.lasts * 1000)) - self.free
        return 0 if over < 0 else min(2 ** min(over, 30), self.longest) * 1000

    def failure(self, subject: bytes) -> Failure:
        """A wrong password to be noted. No more are noted than lead to the longest delay: an attack that ends is forgotten."""
        most = self.free + math.ceil(math.log2(self.longest)) + 1
        return Failure(subject, self.lasts * 1000, most * self.lasts * 1000)

    @property
    def applies(self) -> bool:
        return self.free < _NEVER


class LoginGuard:
    """Checks passwords, no faster than the rules allow.

    `guesses` are those of one account from one place, `place_guesses` of one place, `account_guesses` of one account from
    places that it is not known at: from so many on there are delays. At most `waiting` checks wait.
    """

    def __init__(
        self, table: Guesses, *, guesses: int, place_guesses: int, account_guesses: int, longest: int, waiting: int
    ) -> None:
        self._table = table
        # A storm of wrong passwords takes the writer's time once per commit and not once per try.
        self._notes: Batched[list[Failure], None] = Batched(self._write, most=500)
        self._pair = Rule(guesses, 900, longest)
        self._place = Rule(place_guesses, 10, min(60, longest))
        self._account = Rule(account_guesses, 60, longest)
        self._waiting = waiting
        self._pending: Counter[str] = Counter()
        self._of_pair = Turns[tuple[str, str]](_OF_PAIR)
        self._of_place = Turns[str](_OF_PLACE)
        # Where accounts last logged in: there they are not delayed for what others do.
        self._known: dict[tuple[str, str], None] = {}
        self._failures = 0

    @asynccontextmanager
    async def turn(self, place: str) -> AsyncIterator[None]:
        """Have a place's turn for a password hash in the block. Raises `RateLimited`. Cancelling is safe.

        Each place may have as many waiting as there is room left: so the next place always finds some.
        """
        total = self._pending.total()
        if self._pending[place] >= self._waiting - total:
            raise RateLimited(1.0 + total * 0.02, "too many logins at once, try again later", limit="password_checks")
        self._pending[place] += 1
        try:
            async with self._of_place.turn(place):
                yield
        finally:
            self._pending[place] -= 1
            if not self._pending[place]:
                del self._pending[place]

    async def check(
        self, account: str, place: str, is_right: Callable[[], Awaitable[bool]], is_known: Callable[[], Awaitable[bool]]
    ) -> bool:
        """Whether a password is right, as `is_right` finds out. Raises `RateLimited`, `Unavailable`. Cancelling is safe.

        `account` is its id, or what was given where there is none: both are treated alike. `is_known` finds out whether
        the account has a device at this place; it is asked only where that matters.
        """
        subjects = [
            _subject(*key) for key in (("pair", account, place), ("place", "", place), ("account", account, ""))
        ]
        # A turn's mates first: who waits for their outcome takes nobody's room.
        async with self._of_pair.turn((account, place)), self.turn(place):
            refusal = await self._refusal(subjects, own=(account, place) in self._known)
            if refusal is not None and refusal.limit != "guesses" and await is_known():
                refusal = await self._refusal(subjects, own=True)
            if refusal is not None:
                raise refusal
            if await is_right():
                self._remember(account, place)
                return True
            await self._note(subjects)
        return False

    async def _refusal(self, subjects: list[bytes], *, own: bool) -> RateLimited | None:
        """What to say as long as the next try has to wait; with `own` only for what was wrong for this account from here."""
        found = await self._table.read(subjects)
        if not found:
            return None
        pair, of_place, of_account = map(found.get, subjects)
        delays = [("guesses", pair, self._pair.delay(pair))]
        if not own:
            delays.append(("address_guesses", of_place, self._place.delay(of_place)))
            # From one's own latest mistake on: who has made none here is not delayed.
            delays.append(("account_guesses", pair, self._account.delay(of_account)))
        for limit, record, delay in delays:
            if record is not None and (left := record.latest + delay - record.now) > 0:
                text = "too many wrong passwords, try again later"
                return RateLimited(math.ceil(left / 100) / 10, text, limit=limit)
        return None

    async def _note(self, subjects: list[bytes]) -> None:
        """Note a wrong password. Who hangs up while it is checked has made his try nevertheless. Raises `Unavailable`."""
        rules = (self._pair, self._place, self._account)
        failures = [rule.failure(subject) for rule, subject in zip(rules, subjects, strict=True) if rule.applies]
        if failures:
            with trio.move_on_after(_LAST_WORDS, shield=True) as scope:
                await self._notes(failures)
            if scope.cancelled_caught:
                raise Unavailable
        self._failures += 1
        if self._failures % _FORGET_AFTER == 0:
            await self._table.forget()

    async def _write(self, tries: list[list[Failure]]) -> list[None]:
        """Note several wrong passwords in one transaction. Raises `Unavailable`."""
        failures: dict[bytes, Failure] = {}
        for failure in itertools.chain(*tries):
            former = failures.get(failure.subject)
            lasts = failure.lasts + (former.lasts if former else 0)
            failures[failure.subject] = attrs.evolve(failure, lasts=lasts)
        await self._table.add(list(failures.values()))
        return [None] * len(tries)

    def _remember(self, account: str, place: str) -> None:
        known = self._known
        known.pop((account, place), None)
        known[account, place] = None
        if len(known) > _KNOWN:
            del known[next(iter(known))]


def _subject(kind: str, account: str, place: str) -> bytes:
    return hashlib.sha256(f"{kind}\n{place}\n{account}".encode()).digest()[:16]
