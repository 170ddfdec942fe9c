"""Many browsers on one node: `python -m bench.websockets`. How much memory idle ones take, how long active ones wait.

Everybody is logged in over a WebSocket. The active ones are pairs of which one sends a message a second. `--update-docs` puts the
figures into docs/performance.md.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import sys
import tempfile
import time
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import trio

from bench.machine import CpuTimes
from bench.population import Account, populate
from trio_chat.verify.programs.process import ServiceProcess, accepts, free_port
from trio_chat.wire.messages import Kind

_DOCS = Path("docs/performance.md")
_BEGIN, _END = "<!-- browsers begin -->\n", "<!-- browsers end -->\n"
_TEXT = "x" * 64

_UPGRADE = (
    b"GET /ws HTTP/1.1\r\nHost: bench\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


class Browser:
    def __init__(self, stream: trio.SocketStream) -> None:
        self._stream = stream
        self._buffer = b""

    @classmethod
    async def log_in(cls, port: int, account: Account) -> Browser:
        browser = cls(await trio.open_tcp_stream("127.0.0.1", port))
        await browser._stream.send_all(_UPGRADE)
        while b"\r\n\r\n" not in browser._buffer:
            browser._buffer += await browser._stream.receive_some()
        browser._buffer = browser._buffer.partition(b"\r\n\r\n")[2]
        await browser.send(Kind.HELLO, version=1)
        await browser.send(Kind.LOGIN, token=account.token)
        while (await browser.receive())["msgid"] != Kind.LOGIN_ACK:
            pass
        return browser

    async def send(self, kind: Kind, **fields: Any) -> None:
        text = json.dumps({"msgid": kind, **fields}).encode()
        size = bytes([0x80 | len(text)]) if len(text) < 126 else b"\xfe" + len(text).to_bytes(2, "big")
        # A mask of zeros leaves the text as it is.
        await self._stream.send_all(b"\x81" + size + bytes(4) + text)

    async def receive(self) -> dict[str, Any]:
        while (frame := self._take()) is None:
            data = await self._stream.receive_some()
            assert data, "the server has ended the connection"
            self._buffer += data
        decoded: dict[str, Any] = json.loads(frame)
        return decoded

    def _take(self) -> bytes | None:
        if len(self._buffer) < 4:
            return None
        size, head = self._buffer[1], 2
        if size == 126:
            size, head = int.from_bytes(self._buffer[2:4], "big"), 4
        if len(self._buffer) < head + size:
            return None
        frame, self._buffer = self._buffer[head : head + size], self._buffer[head + size :]
        return frame


async def measure(port: int, pid: int, accounts: list[Account], active: int, seconds: float) -> list[str]:
    """Lines of the report."""
    before = memory(pid)
    browsers: list[Browser] = []
    limit = trio.CapacityLimiter(50)

    async def enter(account: Account) -> None:
        async with limit:
            browsers.append(await Browser.log_in(port, account))

    async def all_of(some: list[Account]) -> None:
        async with trio.open_nursery() as nursery:
            for account in some:
                nursery.start_soon(enter, account)

    idle = accounts[active:]
    await all_of(idle)
    await trio.sleep(1)
    each = (memory(pid) - before) / max(1, len(idle))
    lines = [f"- {len(idle):,} idle ones, logged in: {each:.1f} KiB of the server's memory each"]

    acknowledged: list[float] = []
    delivered: list[float] = []

    async def sends(me: Account, other: Account) -> None:
        browser = await Browser.log_in(port, me)
        await trio.sleep(me.id % 100 / 100)
        while True:
            began = time.perf_counter()
            await browser.send(Kind.DIRECT, toid=other.id, msg=_TEXT, time=repr(began))
            while (await browser.receive())["msgid"] != Kind.REPLY:
                pass
            acknowledged.append(time.perf_counter() - began)
            await trio.sleep(1)

    async def receives(me: Account) -> None:
        browser = await Browser.log_in(port, me)
        while True:
            frame = await browser.receive()
            if frame["msgid"] == Kind.DIRECT:
                delivered.append(time.perf_counter() - float(frame["time"]))
                await browser.send(Kind.RECEIVED, conv=frame["conv"], seq=frame["seq"])
            elif frame["msgid"] == Kind.PING:
                await browser.send(Kind.PONG)

    async with trio.open_nursery() as nursery:
        for number in range(0, active, 2):
            nursery.start_soon(receives, accounts[number])
            nursery.start_soon(sends, accounts[number + 1], accounts[number])
        await trio.sleep(5)
        acknowledged.clear()
        delivered.clear()
        cpu = CpuTimes.now({"server": [pid], "browsers": [os.getpid()]})
        await trio.sleep(seconds)
        used = CpuTimes.now({"server": [pid], "browsers": [os.getpid()]}).since(cpu)
        nursery.cancel_scope.cancel()
    share = {name: f"{100 * spent / seconds:.0f} %" for name, spent in used.items()}
    lines.append(
        f"- with them {active:,} active ones, {len(acknowledged) / seconds:.0f} messages/s; of one core the server took "
        f"{share['server']}, the browsers (one Python program) {share['browsers']}, everything else {share['other']}"
    )
    for name, times in (("acknowledged", acknowledged), ("delivered", delivered)):
        ordered = sorted(times)
        half, most = ordered[len(ordered) // 2], ordered[len(ordered) * 99 // 100]
        lines.append(
            f"- {name}: half within {half * 1000:.1f} ms, 99 % within {most * 1000:.1f} ms, all within {ordered[-1] * 1000:.0f} ms"
        )
    return lines


def memory(pid: int) -> int:
    """KiB that are resident."""
    return int(Path(f"/proc/{pid}/statm").read_text(encoding="ascii").split()[1]) * os.sysconf("SC_PAGE_SIZE") // 1024


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m bench.websockets", description=__doc__)
    parser.add_argument("--idle", type=int, default=5000)
    parser.add_argument("--active", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--update-docs", action="store_true")
    options = parser.parse_args()
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with tempfile.TemporaryDirectory(prefix="bench-") as place:
        directory = Path(place)
        url = f"sqlite:///{directory / 'chat.db'}"
        accounts = trio.run(populate, url, options.idle + options.active, ()).accounts
        tcp, http = free_port(), free_port()
        command = [
            sys.executable,
            "-m",
            "trio_chat",
            "serve",
            "--tcp",
            f"127.0.0.1:{tcp}",
            "--http",
            f"127.0.0.1:{http}",
        ]
        command += ["--database", url, "--log-level", "warning", "--heartbeat", "600", "--limit", "all=off"]
        with ServiceProcess("server", command, directory=directory, ready=lambda: accepts(http)) as server:
            lines = trio.run(measure, http, server.pid, accounts, options.active, options.seconds)
    today = datetime.now(UTC).date()
    head = f"`python -m bench.websockets`, {today}, SQLite; load average of the machine at the end: {os.getloadavg()[0]:.1f}.\n"
    report = "\n".join([head, *lines, ""])
    print(report)
    if options.update_docs:
        before, _, rest = _DOCS.read_text(encoding="utf-8").partition(_BEGIN)
        _DOCS.write_text(before + _BEGIN + report + _END + rest.partition(_END)[2], encoding="utf-8")
    return 0


if __name__ == "__main__":
    sys.exit(main())
