"""The server as a process of its own, and a line to it that is slow or breaks."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import sqlite3
import subprocess
import sys
import threading
import time
from pathlib import Path
from typing import Any

from tests.services.certificates import Certificate

__all__ = ["Line", "Server", "free_port"]


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Server:
    """`python -m trio_chat serve` on a SQLite file; `kill` and `start` as often as one likes."""

    def __init__(self, folder: Path, *origins: str, tls: Certificate | None = None, registration: str = "open") -> None:
        self.database = folder / "chat.db"
        self.port = free_port()
        self.tcp = free_port()
        self.origins = origins
        self.tls = tls
        self.registration = registration
        self._log = folder / "server.log"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def address(self) -> str:
        return f"http{'s' if self.tls else ''}://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Returns when it accepts connections."""
        command = [
            sys.executable,
            "-m",
            "trio_chat",
            "serve",
            "--tcp",
            f"127.0.0.1:{self.tcp}",
            "--http",
            f"127.0.0.1:{self.port}",
        ]
        command += ["--database", f"sqlite:///{self.database}"]
        command += ["--registration", self.registration]
        for origin in self.origins:
            command += ["--origins", origin]
        if self.tls is not None:
            command += ["--tls-cert", str(self.tls.certificate), "--tls-key", str(self.tls.key)]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log)
        deadline = time.monotonic() + 20
        while self._process.poll() is None and time.monotonic() < deadline:
            with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1):
                return
            time.sleep(0.05)
        self.kill()
        raise AssertionError(self._log.read_text())

    def kill(self) -> None:
        """SIGKILL, in the middle of whatever it does."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def stop(self) -> None:
        """Let it drain."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(15)
            self._process = None

    def account(self, name: str, password: str) -> dict[str, Any]:
        """A new account that is logged in: {id, name, token}, as the page keeps it."""
        with socket.create_connection(("127.0.0.1", self.tcp), 10) as connection, connection.makefile("rw") as lines:
            answers = []
            for fields in (
                {"msgid": 20, "version": 1, "client": "a test"},
                {"msgid": 4, "name": name, "password": password},
                {"msgid": 1, "name": name, "password": password},
            ):
                lines.write(json.dumps(fields) + "\n")
                lines.flush()
                answers.append(json.loads(lines.readline()))
        assert not any(answer.get("errno") for answer in answers), answers
        return {key: answers[-1][key] for key in ("id", "name", "token")}

    def invite(self, *options: str) -> str:
        """What `trio-chat invite` prints."""
        command = [sys.executable, "-m", "trio_chat", "invite", "--database", f"sqlite:///{self.database}", *options]
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=30).stdout.strip()

    def stored(self, conv: str) -> list[str]:
        """The texts of a conversation's log."""
        with contextlib.closing(sqlite3.connect(self.database)) as database:
            return [row[0] for row in database.execute("SELECT msg FROM Message WHERE conv = ? ORDER BY seq", (conv,))]


class Line:
    """A TCP proxy to the server, in a thread: each chunk takes `delay` seconds, `mute` swallows what the server says,
    `cut` breaks all connections and refuses new ones until `mend`.
    """

    def __init__(self, target: int) -> None:
        self.delay = 0.0
        self.mute = False
        self.port = free_port()
        self._target = target
        self._up = True
        self._writers: set[asyncio.StreamWriter] = set()
        self._loop = asyncio.new_event_loop()
        self._started = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        assert self._started.wait(5)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def cut(self) -> None:
        asyncio.run_coroutine_threadsafe(self._cut(), self._loop).result(5)

    def mend(self) -> None:
        self._up = True
        self.mute = False

    def close(self) -> None:
        self.cut()
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(5)

    async def _cut(self) -> None:
        self._up = False
        for writer in self._writers:
            writer.transport.abort()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            self._loop.run_until_complete(self._serve())
        finally:
            self._loop.close()

    async def _serve(self) -> None:
        self._end = asyncio.Event()
        server = await asyncio.start_server(self._connected, "127.0.0.1", self.port)
        self._started.set()
        await self._end.wait()
        server.close()
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _connected(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._writers.add(writer)
        try:
            if not self._up:
                return
            there_reader, there_writer = await asyncio.open_connection("127.0.0.1", self._target)
            try:
                back = asyncio.create_task(self._pass(there_reader, writer, from_server=True))
                await self._pass(reader, there_writer, from_server=False)
                back.cancel()
            finally:
                there_writer.transport.abort()
        except OSError:
            pass  # the server is not there: neither is the line
        finally:
            self._writers.discard(writer)
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, from_server: bool) -> None:
        with contextlib.suppress(OSError):
            while data := await reader.read(65536):
                if self.delay:
                    await asyncio.sleep(self.delay)
                if from_server and self.mute:
                    continue
                writer.write(data)
                await writer.drain()
        writer.close()  # what is still to be written is written
