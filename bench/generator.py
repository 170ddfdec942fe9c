"""The load generator as a process: compiled, given its plan and the logged-in sockets, and watched while it runs."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path

import attrs

from bench.machine import CpuTimes
from bench.workloads import TEXT, Sizes
from trio_chat.verify.programs.process import ServiceError

__all__ = ["BenchmarkError", "Link", "Measured", "build_generator", "generate"]

_SOURCE = Path(__file__).with_name("generator.c")


class BenchmarkError(RuntimeError):
    """The server did not do what it should: the figures would be worth nothing."""


@attrs.frozen
class Link:
    """A conversation under load: one sends, the others receive. The sockets are logged in, and nothing waits in them."""

    sender: socket.socket
    msgid: int
    target_field: str
    target: int
    conv: str
    receivers: Sequence[socket.socket]


@attrs.frozen
class Measured:
    """One run. Seconds and counts are those of the measured time, `sent` and `delivered` those of the whole run.

    Latencies are median, 99th percentile and largest. `cpu` has the CPU seconds of each process, and as `other` those of
    the rest of the machine; `cores_seconds` is what all cores together had to give.
    """

    seconds: float
    acknowledged: int
    deliveries: int
    ack_ns: tuple[int, int, int]
    delivery_ns: tuple[int, int, int]
    cpu: Mapping[str, float]
    cores_seconds: float
    sent: int
    delivered: int


def build_generator(directory: Path) -> Path:
    """Compile it with the machine's C compiler. Raises `ServiceError` where there is none."""
    compiler = os.environ.get("CC") or shutil.which("cc") or shutil.which("gcc") or shutil.which("clang")
    if not compiler:
        raise ServiceError("the load generator needs a C compiler; on Debian: apt-get install gcc libc6-dev")
    program = directory / "generator"
    command = [*compiler.split(), "-O2", "-std=c11", "-o", str(program), str(_SOURCE)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise ServiceError(f"{' '.join(command)} failed:\n{done.stderr}")
    return program


def generate(
    program: Path,
    links: Sequence[Link],
    in_flight: int,
    sizes: Sizes,
    pids: Mapping[str, int],
    progress: Callable[[int, int, int], None],
) -> Measured:
    """Run the load to its end; `pids` are the processes whose CPU time is of interest.

    `progress` is told messages sent, acknowledged, and deliveries, four times a second. Raises `BenchmarkError` where
    anything was lost, repeated, out of order or refused.
    """
    plan = [f"{in_flight} {sizes.warmup * 1000:.0f} {sizes.measured * 1000:.0f} {len(links)}"]
    for link in links:
        receivers = [str(receiver.fileno()) for receiver in link.receivers]
        head = [link.sender.fileno(), link.msgid, link.target_field, link.target, link.conv, TEXT, len(receivers)]
        plan.append(" ".join([*map(str, head), *receivers]))
    sockets = [sock.fileno() for link in links for sock in (link.sender, *link.receivers)]
    with subprocess.Popen(
        [program], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1, pass_fds=sockets
    ) as process:
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            process.stdin.write("\n".join(plan) + "\n")
            process.stdin.close()
            watched = {**pids, "generator": process.pid}
            return _watch(process.stdout, watched, progress)
        finally:
            process.kill()


def _watch(lines: Iterable[str], pids: Mapping[str, int], progress: Callable[[int, int, int], None]) -> Measured:
    before = after = CpuTimes.now({})
    window = (0, 0, 0)
    latency: dict[str, tuple[int, int, int]] = {}
    for line in lines:
        match line.split():
            case ["progress", sent, acknowledged, delivered]:
                progress(int(sent), int(acknowledged), int(delivered))
            case ["begin"]:
                before = CpuTimes.now(pids)
            case ["end", *numbers]:
                after = CpuTimes.now(pids)
                window = _three(numbers)
            case ["latency", what, *numbers]:
                latency[what] = _three(numbers)
            case ["done", sent, _, delivered]:
                return Measured(
                    seconds=window[0] / 1e9,
                    acknowledged=window[1],
                    deliveries=window[2],
                    ack_ns=latency["ack"],
                    delivery_ns=latency["delivery"],
                    cpu=after.since(before),
                    cores_seconds=(after.at - before.at) * (os.cpu_count() or 1),
                    sent=int(sent),
                    delivered=int(delivered),
                )
            case _:
                raise BenchmarkError(line.strip().removeprefix("error "))
    raise BenchmarkError("the load generator ended without a result")


def _three(numbers: Sequence[str]) -> tuple[int, int, int]:
    first, second, third = map(int, numbers)
    return first, second, third
