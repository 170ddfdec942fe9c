"""A server of the modern dialect that is a function: what it makes of the n-th message, it sends."""

from __future__ import annotations

import contextlib
import json
import socket
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

Frame = dict[str, Any]
#: What a server makes of message `number`: frames for the sender and frames for the receiver.
Behaviour = Callable[[int, Frame], tuple[list[Frame], list[Frame]]]


class FakeServer:
    """One sender, whose token is `sender`, and one receiver, whose token is `receiver`. `received` gets the receipts."""

    def __init__(self, behaviour: Behaviour) -> None:
        self._behaviour = behaviour
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self.received: list[Frame] = []
        self._connections: dict[str, socket.socket] = {}
        self._threads = [threading.Thread(target=self._serve) for _ in range(2)]

    def __enter__(self) -> Self:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        for thread in self._threads:  # the generator has ended, and its connections with it
            thread.join()
        self._listener.close()

    def _serve(self) -> None:
        connection, _ = self._listener.accept()
        with connection, contextlib.suppress(OSError):
            lines = connection.makefile("rb")
            hello, login = json.loads(lines.readline()), json.loads(lines.readline())
            self._connections[login["token"]] = connection
            _send(connection, [{"msgid": 21, "version": hello["version"]}, {"msgid": 2, "errno": 0, "id": 1}])
            if login["token"] == "receiver":
                self.received += [json.loads(line) for line in lines]
                return
            for number, line in enumerate(lines, 1):
                replies, deliveries = self._behaviour(number, json.loads(line))
                _send(connection, replies)
                _send(self._connections["receiver"], deliveries)


def _send(connection: socket.socket, frames: list[Frame]) -> None:
    connection.sendall(b"".join(json.dumps(frame, separators=(",", ":")).encode() + b"\n" for frame in frames))
