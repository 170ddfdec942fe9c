"""Noticing that the server is gone although the connection looks alive: pure."""

from __future__ import annotations

from trio_chat.client.errors import ConnectionLost

__all__ = ["Liveness"]


class Liveness:
    """The silence of the server, measured in heartbeats.

    A server must greet within the time given. After that, two heartbeats without a frame make the client ask (PING);
    one more without an answer, and the connection is given up. `deadline` says when `check` is due.
    """

    def __init__(self) -> None:
        self.deadline: float | None = None
        self._greeted = False
        self._asked = False

    def connected(self, now: float, patience: float) -> None:
        """A connection is open; the greeting must come within `patience` seconds."""
        self._greeted = self._asked = False
        self.deadline = now + patience

    def lost(self) -> None:
        self.deadline = None

    def heard(self, now: float, heartbeat: float) -> None:
        """A frame came."""
        self._greeted, self._asked = True, False
        self.deadline = now + 2 * heartbeat

    def check(self, now: float, heartbeat: float) -> bool:
        """Says whether to ask for a sign of life now. Raises `ConnectionLost` where there was none for too long."""
        if self.deadline is None or now < self.deadline:
            return False
        if not self._greeted:
            raise ConnectionLost("the server does not answer the greeting; is it a trio-chat server?")
        if self._asked:
            raise ConnectionLost("the server shows no sign of life")
        self._asked = True
        self.deadline = now + heartbeat
        return True
