"""Installing what is compared: Debian's packages, without starting their services."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

__all__ = ["install"]

#: Asked by Debian's packages before they start a service; 101 means that they may not.
_POLICY = Path("/usr/sbin/policy-rc.d")


def install(packages: Sequence[str]) -> str:
    """Install packages where that is possible; in words why it is not, or empty."""
    if not shutil.which("apt-get") or os.geteuid() != 0:
        return (
            f"not installed, and only root on Debian or Ubuntu can do that here: apt-get install {' '.join(packages)}"
        )
    environment = {**os.environ, "DEBIAN_FRONTEND": "noninteractive"}
    command = ["apt-get", "-q", "-y", "--no-install-recommends", "install", *packages]
    with _no_services():
        # What the lists of packages are too old for may be there with newer ones; whether they can be had shows in the next step.
        subprocess.run(["apt-get", "-q", "update"], env=environment, capture_output=True, check=False)
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    return (
        "" if done.returncode == 0 else f"apt-get could not install {' '.join(packages)}: {done.stderr.strip()[-500:]}"
    )


@contextmanager
def _no_services() -> Iterator[None]:
    if _POLICY.exists():
        yield
        return
    _POLICY.write_text("#!/bin/sh\nexit 101\n")
    _POLICY.chmod(0o755)
    try:
        yield
    finally:
        _POLICY.unlink()
