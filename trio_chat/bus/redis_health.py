"""When a connection to Redis is dead, and what to tell people about it."""

from __future__ import annotations

import math
import os
import socket
import ssl

import trio

from trio_chat.bus.redis_settings import RedisLimits

__all__ = ["Broken", "Heartbeat", "describe"]


class Broken(Exception):
    """The connection is of no use any more; the text says why."""


class Heartbeat:
    """Notices a peer that has stopped answering.

    It counts turns of the loop instead of reading a clock: after this process itself has stood still (suspended, or
    busy for seconds) the answers that wait in the socket are read before the peer is called dead.
    """

    def __init__(self, limits: RedisLimits) -> None:
        self._patience = max(1, math.ceil(limits.silence_seconds / limits.ping_seconds))
        self._silent = 0

    def heard(self) -> None:
        """The peer has sent something."""
        self._silent = 0

    def tick(self) -> bool:
        """To be called every `ping_seconds`; True asks for a PING. Raises `Broken` when the peer stayed silent."""
        self._silent += 1
        if self._silent > self._patience:
            raise Broken("no answer to PING in time")
        return self._silent == 1


def describe(error: BaseException) -> str:
    """One short line that says what was wrong, the same for the same cause, without passwords."""
    while True:
        if isinstance(error, BaseExceptionGroup):
            error = error.exceptions[0]
        elif error.__cause__ is not None:
            error = error.__cause__
        else:
            break
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"TLS: {error.verify_message}"
    if isinstance(error, (trio.TooSlowError, TimeoutError)):
        return "no answer in time"
    if isinstance(error, OSError) and not isinstance(error, (ssl.SSLError, socket.gaierror)) and error.errno:
        return os.strerror(error.errno)  # error.strerror may be Trio's own text, with the address once more
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return str(error) or type(error).__name__
