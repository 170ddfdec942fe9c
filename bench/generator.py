"""The load generator as a process: compiled, given its plan, told what to do, and watched while it does it."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs

from bench.dialects import NUMBER, Client, Link
from bench.machine import CpuTimes
from trio_chat.verify.programs.process import ServiceError

__all__ = ["BenchmarkError", "Drained", "Generator", "LoggedIn", "Measured", "build_generator", "plan"]

_SOURCES = Path(__file__).with_name("loadgen")

#: Told messages sent, done, and deliveries, four times a second.
Progress = Callable[[int, int, int], None]


class BenchmarkError(RuntimeError):
    """The server did not do what it should: the figures would be worth nothing."""


@attrs.frozen
class Measured:
    """One run. Seconds and counts are those of the measured time, `sent` and `delivered` those of all runs so far.

    Latencies are p50, p99, p99.9 and the largest. `cpu` has the CPU seconds of each part of the system, and as `other`
    those of the rest of the machine; `cores_seconds` is what all cores together had to give.
    """

    seconds: float
    done: int
    deliveries: int
    ack_ns: tuple[int, ...]
    delivery_ns: tuple[int, ...]
    cpu: Mapping[str, float]
    cores_seconds: float
    sent: int
    delivered: int


@attrs.frozen
class LoggedIn:
    """How long `count` logins took together, and each of them: p50, p99 and the longest."""

    count: int
    seconds: float
    login_ns: tuple[int, ...]


@attrs.frozen
class Drained:
    messages: int
    seconds: float


def build_generator(directory: Path) -> Path:
    """Compile it with the machine's C compiler. Raises `ServiceError` where there is none."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise ServiceError("the load generator needs a C compiler; on Debian: apt-get install gcc libc6-dev")
    program = directory / "loadgen"
    command = [*compiler.split(), "-O2", "-std=c11", "-o", str(program), *map(str, sorted(_SOURCES.glob("*.c")))]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{' '.join(command)} failed:\n{done.stderr}")
    return program


def plan(clients: Sequence[Client], links: Sequence[Link]) -> bytes:
    """The plan as the generator reads it; loadgen.h says how."""
    words: list[bytes] = [_number(len(clients))]
    for client in clients:
        words += [_text(client.dialect.encode()), _number(client.port), _text(client.source.encode())]
        words += [_text(client.pong), _number(len(client.steps))]
        for step in client.steps:
            words += [_text(step.send), _text(step.expect), _text(step.end)]
    words.append(_number(len(links)))
    for link in links:
        places = [found.start() for found in re.finditer(NUMBER.encode(), link.frame)]
        words += [_number(link.sender), _text(link.done_by.encode()), _number(link.first)]
        words += [_text(link.conv.encode()), _text(link.text), _text(link.frame)]
        words += map(_number, [len(places), *places, len(link.receivers), *link.receivers])
    return b"".join(words)


def _number(number: int) -> bytes:
    return b"%d " % number


def _text(text: bytes) -> bytes:
    return b"%d:%s" % (len(text), text)


class Generator:
    """The process, while it is entered. Its methods raise `BenchmarkError` where a server did not do what it should."""

    def __init__(self, program: Path, directory: Path, clients: Sequence[Client], links: Sequence[Link] = ()) -> None:
        self._file = directory / "plan"
        self._file.write_bytes(plan(clients, links))
        self._command = [os.fspath(program), os.fspath(self._file)]
        self.clients = len(clients)

    def __enter__(self) -> Self:
        self._process = subprocess.Popen(
            self._command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1
        )
        try:
            self._answer("planned")
        except BaseException:
            self._process.kill()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.communicate()
        self._file.unlink(missing_ok=True)

    @property
    def pid(self) -> int:
        return self._process.pid

    def login(self, first: int = 0, count: int | None = None, *, concurrency: int = 50) -> LoggedIn:
        """Log `count` clients in (all that are left), `concurrency` of them at a time."""
        count = self.clients - first if count is None else count
        self._tell(f"login {first} {count} {concurrency}")
        done, taken, *times = map(int, self._answer("logged_in"))
        return LoggedIn(done, taken / 1e9, tuple(times))

    def close(self, first: int = 0, count: int | None = None) -> None:
        count = self.clients - first if count is None else count
        self._tell(f"close {first} {count}")
        self._answer("closed")

    def load(
        self,
        pids: Mapping[str, Sequence[int]],
        *,
        in_flight: int = 0,
        rate: float = 0.0,
        warmup: float,
        measured: float,
        progress: Progress = lambda *_: None,
    ) -> Measured:
        """Load on all links: so many messages `in_flight` on each, or `rate` messages per second in all."""
        self._tell(f"load {in_flight} {rate} {warmup * 1000:.0f} {measured * 1000:.0f}")
        return self._watch(pids, progress)

    def store(self, pids: Mapping[str, Sequence[int]], *, in_flight: int, messages: int) -> Measured:
        """Send so many messages on each link, and wait until they are done."""
        self._tell(f"store {in_flight} {messages}")
        return self._watch(pids, lambda *_: None)

    def drain(self, client: int) -> Drained:
        """Log a client in and let it receive all that waits for it."""
        self._tell(f"drain {client}")
        messages, taken = map(int, self._answer("drained"))
        return Drained(messages, taken / 1e9)

    def _tell(self, line: str) -> None:
        assert self._process.stdin is not None
        self._process.stdin.write(line + "\n")

    def _answer(self, expected: str) -> list[str]:
        word, *rest = self._read()
        if word != expected:
            raise BenchmarkError(f"the load generator said {word} where {expected} was to come")
        return rest

    def _read(self) -> list[str]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise BenchmarkError("the load generator ended without a result")
        if line.startswith("error "):
            raise BenchmarkError(line.strip().removeprefix("error "))
        return line.split()

    def _watch(self, pids: Mapping[str, Sequence[int]], progress: Progress) -> Measured:
        watched = {**pids, "generator": [self.pid]}
        before = after = CpuTimes.now({})
        window = [0, 0, 0]
        latency: dict[str, tuple[int, ...]] = {}
        while True:
            match self._read():
                case ["progress", sent, done, delivered]:
                    progress(int(sent), int(done), int(delivered))
                case ["begin"]:
                    before = CpuTimes.now(watched)
                case ["end", *numbers]:
                    after = CpuTimes.now(watched)
                    window = list(map(int, numbers))
                case ["latency", what, *numbers]:
                    latency[what] = tuple(map(int, numbers))
                case ["done", sent, _, delivered]:
                    return Measured(
                        seconds=window[0] / 1e9,
                        done=window[1],
                        deliveries=window[2],
                        ack_ns=latency["ack"],
                        delivery_ns=latency["delivery"],
                        cpu=after.since(before),
                        cores_seconds=(after.at - before.at) * (os.cpu_count() or 1),
                        sent=int(sent),
                        delivered=int(delivered),
                    )
                case words:
                    raise BenchmarkError(f"the load generator said {' '.join(words)}")
