"""The terminal client at a terminal: a pseudo-terminal, and keys pressed on it."""

from __future__ import annotations

import os
import pty
import re
import select
import subprocess
import sys
import time
from pathlib import Path

import pytest

from tests.client.conftest import Live

pytestmark = pytest.mark.slow


class Terminal:
    """A client at a terminal of its own."""

    def __init__(self, server: str, state: Path) -> None:
        self._descriptor, there = pty.openpty()
        environment = {**os.environ, "TERM": "xterm", "XDG_STATE_HOME": str(state), "PROMPT_TOOLKIT_NO_CPR": "1"}
        command = [sys.executable, "-m", "trio_chat", "client", server]
        self.process = subprocess.Popen(command, stdin=there, stdout=there, stderr=there, env=environment)
        os.close(there)
        self._seen = ""

    def press(self, keys: str) -> None:
        os.write(self._descriptor, keys.encode())

    def wait_for(self, pattern: str) -> re.Match[str]:
        """Read on to where the output matches; what came before it is passed."""
        deadline = time.monotonic() + 20
        while (found := re.search(pattern, self._seen)) is None:
            readable, _, _ = select.select([self._descriptor], [], [], max(0.0, deadline - time.monotonic()))
            assert readable, f"no {pattern} in {self._seen}"
            self._seen += os.read(self._descriptor, 65536).decode(errors="replace")
        self._seen = self._seen[found.end() :]
        return found

    def leave(self) -> int:
        """Ctrl-D, again where it came between two prompts; returns the exit status."""
        deadline = time.monotonic() + 20
        while True:
            self.press("\x04")
            try:
                return self.process.wait(0.5)
            except subprocess.TimeoutExpired:
                assert time.monotonic() < deadline, "it does not leave"

    def close(self) -> None:
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        os.close(self._descriptor)


def test_what_arrives_does_not_destroy_what_is_being_typed(standing: Live, tmp_path: Path) -> None:
    terminal = Terminal(standing.address, tmp_path)
    try:
        terminal.wait_for("quit leaves")
        terminal.press("reg\t")
        terminal.wait_for("register:")
        terminal.press("typist:pw\r")
        userid = terminal.wait_for(r"registered typist, id (\d+)")[1]
        terminal.press("login:typist\r")
        terminal.wait_for("password:")
        terminal.press("pw\r")
        terminal.wait_for("logged in as typist")
        terminal.press(f"chat:{userid}:half")
        terminal.wait_for("half")
        done = subprocess.run(
            [sys.executable, "-m", "trio_chat", "client", standing.address],
            input=f"register:writer:pw\nlogin:writer:pw\nchat:{userid}:it arrives\n".encode(),
            capture_output=True,
            timeout=40,
            check=True,
        )
        assert not done.stderr
        terminal.wait_for("writer: it arrives")
        terminal.press(" typed\r")
        terminal.press(f"history:{userid}\r")
        terminal.wait_for(rf"\[{userid}\] typist: half typed")
        assert terminal.leave() == 0
    finally:
        terminal.close()
    kept = (tmp_path / "trio-chat" / "history").read_text()
    assert "half typed" in kept
    assert "pw" not in kept
