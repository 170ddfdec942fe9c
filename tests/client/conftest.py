"""A server process for clients that run in another event loop than the tests'."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import attrs
import pytest

from trio_chat.verify.programs.process import free_port


@attrs.define
class Live:
    """A server in a process of its own, on SQLite."""

    directory: Path
    port: int
    process: subprocess.Popen[bytes] | None = None
    flags: tuple[str, ...] = ()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self.port}"

    def start(self) -> None:
        command = [sys.executable, "-m", "trio_chat", "serve", "--tcp", self.address, "--http", "off"]
        command += ["--database", f"sqlite:///{self.directory / 'chat.db'}", *self.flags]
        self.process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 20
        while True:
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                assert time.monotonic() < deadline, "the server does not start"
                assert self.process.poll() is None, "the server has ended"
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        assert self.process is not None
        self.process.kill()
        self.process.wait()

    def stop(self) -> int:
        assert self.process is not None
        self.process.terminate()
        return self.process.wait(20)


@contextmanager
def living(directory: Path, *flags: str) -> Iterator[Live]:
    server = Live(directory, free_port(), flags=flags)
    server.start()
    yield server
    if server.process is not None and server.process.poll() is None:
        server.kill()


@pytest.fixture
def live(tmp_path: Path) -> Iterator[Live]:
    """A server of the test's own, without accounts."""
    with living(tmp_path) as server:
        yield server


@pytest.fixture(scope="module")
def standing(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    """A server that tests share: for those that leave it as they found it, but for accounts of their own."""
    with living(tmp_path_factory.mktemp("standing")) as server:
        yield server
