"""Files, looked over: who may read them, where they lie, and what certificates say."""

from __future__ import annotations

import re
import shutil
import stat
import sys
from collections.abc import Iterator
from pathlib import Path

from trio_chat.check.finding import Finding, ok, problem, warning

__all__ = ["check_place", "check_private", "filesystem"]

#: File systems over a network, on which SQLite's locks or its shared memory do not work, or not always.
_NETWORK = re.compile(
    r"nfs\d?|cifs|smb\w*|9p|afs|ceph|glusterfs|lustre|beegfs|virtiofs|vboxsf|fuse\.(sshfs|gluster\w*|s3\w*)"
)
_LITTLE = 1 << 30
_NONE = 100 << 20


def check_private(part: str, file: Path, what: str) -> Iterator[Finding]:
    """Whether others may read a file that has secrets."""
    try:
        mode = stat.S_IMODE(file.stat().st_mode)
    except OSError:
        return
    if mode & 0o077:
        yield warning(part, f"{file} has {what}, and its mode is {mode:04o}: others may read it", f"chmod 600 {file}")


def check_place(part: str, directory: Path, mounts: str | None = None) -> Iterator[Finding]:
    """Whether a database may lie in a directory. `mounts` is what /proc/self/mounts says; default to read it."""
    kind = filesystem(directory, _mounts() if mounts is None else mounts)
    if _NETWORK.fullmatch(kind):
        yield problem(
            part,
            f"{directory} is on a network file system ({kind}), where SQLite's locks cannot be relied on",
            "a local disk, or MySQL",
        )
    free = shutil.disk_usage(directory).free
    if free < _LITTLE:
        level = problem if free < _NONE else warning
        yield level(part, f"{free >> 20} MiB are free in {directory}", "more room; without any nothing can be stored")
    else:
        yield ok(part, f"{free >> 30} GiB are free in {directory}")


def filesystem(path: Path, mounts: str) -> str:
    """The kind of file system that a path is on, "" where that is not known."""
    best, kind = "", ""
    for line in mounts.splitlines():
        fields = line.split(" ")
        if len(fields) > 2:
            place = re.sub(r"\\(\d{3})", lambda code: chr(int(code[1], 8)), fields[1])
            if path.is_relative_to(place) and len(place) >= len(best):
                best, kind = place, fields[2]
    return kind


def _mounts() -> str:
    if sys.platform != "linux":
        return ""
    return Path("/proc/self/mounts").read_text(encoding="utf-8", errors="replace")
