"""A node of trio-chat as operators run it: a process of its own."""

from __future__ import annotations

import json
import socket
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trio_chat import Address, Settings
from trio_chat.verify.programs.network import ADDRESSES, Cable, Network
from trio_chat.verify.programs.process import ServiceError, ServiceProcess, free_port
from trio_chat.wire.messages import Kind

__all__ = ["ChatNode"]

#: What a proxy on this machine says before a client's first byte.
PROXY_HEADER = b"PROXY TCP4 127.0.0.1 127.0.0.1 1 1\r\n"


class ChatNode(ServiceProcess):
    """`python -m trio_chat serve`, by the settings that all nodes of a cluster share; on 127.0.0.1, or in a `network`.

    There it is reached by the cable `entrance`, which may be another than the one by which it reaches the services.

    Its log is JSON, one event a line. It is ready when it answers HELLO. With `proxied` it stands behind a proxy that
    says who the client is; `options` are further flags, `program` is what they are given to. For faults: `kill`, `pause` and `resume`, `terminate` and `wait`, `restart`.
    """

    def __init__(
        self,
        directory: Path,
        name: str,
        settings: Settings,
        *options: str,
        proxied: bool = False,
        network: Network | None = None,
        entrance: Cable | None = None,
        program: Sequence[str] = (sys.executable, "-m", "trio_chat"),
    ) -> None:
        host = "127.0.0.1" if network is None else (entrance or network.cable).inside
        self.address = Address(host, free_port())
        self.proxied = proxied
        command = [*program, "serve", "--tcp", str(self.address), "--http", "off", "--node", name]
        command += ["--database", settings.database, "--bus", settings.bus]
        command += ["--lease", str(settings.lease), "--sweep", str(settings.sweep)]
        command += ["--log-format", "json", "--log-level", "debug", *options]
        if proxied:
            command.append("--proxy-protocol")
        if network is not None:
            if proxied:  # nginx is outside of the network
                command += ["--proxy-from", ADDRESSES]
            command = network.command(command)
        super().__init__(name, command, directory=directory, ready=self._greets, start_timeout=30.0, stop_timeout=20.0)

    def events(self) -> list[dict[str, object]]:
        """What it has logged so far; the last line may be on its way."""
        lines = self.log_text().split("\n")[:-1]
        return [json.loads(line) for line in lines if line.startswith("{")]

    def wait_logged(self, event: str, *, within: float = 10.0) -> dict[str, object]:
        """Wait until it has logged an event, and return the last such. Raises `ServiceError`."""
        deadline = time.monotonic() + within
        while True:
            found = [each for each in self.events() if each["event"] == event]
            if found:
                return found[-1]
            if time.monotonic() > deadline:
                raise ServiceError(f"{self.name} did not log {event!r}:\n{self.log_text()}")
            time.sleep(0.02)

    def _greets(self) -> bool:
        hello = json.dumps({"msgid": int(Kind.HELLO), "version": 1}).encode() + b"\n"
        try:
            with socket.create_connection(self.address, 0.5) as probe:
                probe.settimeout(2.0)
                probe.sendall(PROXY_HEADER + hello if self.proxied else hello)
                answer = json.loads(probe.makefile("rb").readline())
                return isinstance(answer, dict) and answer["msgid"] == int(Kind.HELLO_ACK)
        except (OSError, ValueError, KeyError):
            return False
