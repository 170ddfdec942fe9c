"""A certificate for one run, signed by itself."""

from __future__ import annotations

import subprocess
from pathlib import Path

from trio_chat.verify.programs.process import find_program

__all__ = ["self_signed"]


def self_signed(directory: Path) -> tuple[Path, Path]:
    """Certificate and key for `localhost`, in PEM files in `directory`."""
    certificate, key = directory / "certificate.pem", directory / "key.pem"
    command = [find_program("openssl"), "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-nodes", "-days", "2", "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"]
    subprocess.run([*command, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    return certificate, key
