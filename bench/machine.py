"""What the figures were measured on, and what each process cost: read from /proc, so Linux only."""

from __future__ import annotations

import contextlib
import os
import platform
import sqlite3
import statistics
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path

import attrs

from trio_chat.verify.programs.process import find_program

__all__ = ["CpuTimes", "children", "machine_facts", "memory_kib", "versions"]

_TICK = 1 / os.sysconf("SC_CLK_TCK")
_PACKAGES = ("trio", "msgspec", "attrs", "trio-mysql", "redis", "hiredis")


@attrs.frozen
class CpuTimes:
    """CPU seconds at one moment: of each group of processes that is watched, and of the whole machine.

    `machine` counts what was stolen by the hypervisor too: it was not there for us either.
    """

    processes: Mapping[str, float]
    machine: float
    at: float

    @classmethod
    def now(cls, pids: Mapping[str, Sequence[int]]) -> CpuTimes:
        fields = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
        user, nice, system, _idle, _iowait, irq, softirq, steal = map(int, fields[1:9])
        busy = (user + nice + system + irq + softirq + steal) * _TICK
        spent = {name: sum(map(_process_seconds, group)) for name, group in pids.items()}
        return cls(spent, busy, time.monotonic())

    def since(self, earlier: CpuTimes) -> dict[str, float]:
        """CPU seconds of each process between two moments, and `other`: all the rest of the machine."""
        spent = {name: seconds - earlier.processes[name] for name, seconds in self.processes.items()}
        spent["other"] = max(0.0, self.machine - earlier.machine - sum(spent.values()))
        return spent


def _process_seconds(pid: int) -> float:
    fields = _stat(Path(f"/proc/{pid}/stat"))
    return (int(fields[11]) + int(fields[12])) * _TICK


def children(pid: int) -> list[int]:
    """The processes that a process has started, and that run."""
    found = []
    for file in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # one that has just ended
            if int(_stat(file)[1]) == pid:
                found.append(int(file.parent.name))
    return found


def _stat(file: Path) -> list[str]:
    # The program's name, in parentheses, may contain anything: the fields begin behind the last one.
    return file.read_text(encoding="utf-8", errors="replace").rpartition(")")[2].split()


def memory_kib(pid: int) -> int:
    """What a process has in memory, its part of what it shares counted."""
    lines = _lines(f"/proc/{pid}/smaps_rollup")
    return next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))


def machine_facts() -> dict[str, str]:
    """What decides the figures: processor, memory, kernel, and how long the disk takes to make something durable."""
    model = next(
        (line.partition(":")[2].strip() for line in _lines("/proc/cpuinfo") if line.startswith("model name")),
        platform.machine(),
    )
    memory = next((int(line.split()[1]) for line in _lines("/proc/meminfo") if line.startswith("MemTotal")), 0)
    return {
        "processor": f"{model}, {os.cpu_count()} cores",
        "memory": f"{memory / 2**20:.0f} GiB",
        "kernel": f"{platform.system()} {platform.release()}",
        "disk": f"fsync of 4 KiB in {_fsync_ms():.2f} ms (median), {_filesystem(tempfile.gettempdir())}",
    }


def versions(*, with_services: bool) -> dict[str, str]:
    """Of the server, its interpreter and libraries, and of the databases that were measured with it."""
    found = {"trio-chat": version("trio-chat"), "Python": platform.python_version()}
    found |= {package: version(package) for package in _PACKAGES}
    found["SQLite"] = sqlite3.sqlite_version
    if with_services:
        # They say: mariadbd  Ver 10.11.6-MariaDB-1 for debian, and: Redis server v=7.0.15 sha=0.
        found["MariaDB"] = _program_version("mariadbd", "mysqld").partition("Ver ")[2].split("-")[0]
        found["Redis"] = _program_version("redis-server").partition("v=")[2].split(" ")[0]
    return found


def _program_version(*names: str) -> str:
    return subprocess.run([find_program(*names), "--version"], capture_output=True, text=True, check=True).stdout


def _lines(path: str) -> list[str]:
    return Path(path).read_text(encoding="utf-8", errors="replace").splitlines()


def _filesystem(directory: str) -> str:
    mounts = [line.split() for line in _lines("/proc/self/mounts")]
    place = Path(directory).resolve()
    inside = [(len(mount[1]), mount[2]) for mount in mounts if place.is_relative_to(mount[1])]
    return max(inside)[1] if inside else "unknown file system"


def _fsync_ms(times: int = 50) -> float:
    taken = []
    with tempfile.TemporaryFile() as file:
        for _ in range(times):
            file.write(bytes(4096))
            file.flush()
            begun = time.perf_counter()
            os.fdatasync(file.fileno())
            taken.append(time.perf_counter() - begun)
    return statistics.median(taken) * 1000
