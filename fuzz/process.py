"""What a server process holds, as the kernel and its own figures say it."""

from __future__ import annotations

import re
import urllib.request
from pathlib import Path

import attrs

__all__ = ["Held", "held"]


@attrs.frozen
class Held:
    """Resident memory in MiB; open descriptors, threads and Trio tasks; connections, and accounts that are online."""

    memory: float
    descriptors: int
    threads: int
    tasks: int
    connections: int
    accounts: int

    def __str__(self) -> str:
        return (
            f"{self.memory:.1f} MiB, {self.descriptors} descriptors, {self.threads} threads, {self.tasks} tasks, "
            f"{self.connections} connections, {self.accounts} accounts"
        )

    def back_to(self, before: Held) -> bool:
        """Whether nothing but memory is more than it was."""
        return (
            self.descriptors <= before.descriptors
            and self.threads <= before.threads
            and self.tasks <= before.tasks
            and self.connections <= before.connections
            and self.accounts <= before.accounts
        )


def held(pid: int, http: tuple[str, int]) -> Held:
    """Look at a process; `http` is where its metrics are."""
    proc = Path(f"/proc/{pid}")
    status = dict(line.split(":", 1) for line in (proc / "status").read_text().splitlines())
    with urllib.request.urlopen(f"http://{http[0]}:{http[1]}/metrics", timeout=30) as page:
        metrics = page.read().decode()

    def metric(name: str) -> int:
        found = re.findall(rf"^trio_chat_{name}(?:{{[^}}]*}})? (\S+)$", metrics, re.MULTILINE)
        return int(sum(float(value) for value in found))

    return Held(
        memory=int(status["VmRSS"].split()[0]) / 1024,
        descriptors=len(list((proc / "fd").iterdir())),
        threads=int(status["Threads"]),
        tasks=metric("tasks"),
        connections=metric("connections"),
        accounts=metric("accounts_online"),
    )
