"""What somebody said of memberships and blocks, and the database is still to be asked about.

A hint may come late, twice, or after its opposite: who believed it could let somebody read what is not his any more.
So it says only where to look, and what is read there counts (services/relationships.py).
"""

from __future__ import annotations

import trio

__all__ = ["Doubts"]


class Doubts:
    """Holds each doubt once: at most one for each user and group that a hint names."""

    def __init__(self) -> None:
        self._memberships: set[tuple[int, int]] = set()
        self._apart: set[int] = set()
        self._raised = trio.Event()

    def membership(self, userid: int, groupid: int) -> None:
        """Whether a user is in a group is to be found out. Never blocks."""
        self._memberships.add((userid, groupid))
        self._raised.set()

    def apart(self, userid: int) -> None:
        """From whom a user is apart is to be found out. Never blocks."""
        self._apart.add(userid)
        self._raised.set()

    async def wait(self) -> None:
        """Wait until there is a doubt. Cancelling is safe."""
        await self._raised.wait()

    def take(self) -> tuple[set[tuple[int, int]], set[int]]:
        """All doubts there are: (user, group) memberships, and users who may be apart from others."""
        taken = self._memberships, self._apart
        self._memberships, self._apart, self._raised = set(), set(), trio.Event()
        return taken
