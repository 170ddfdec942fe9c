"""Certificates for the tests' TLS: an authority of their own, and servers that it vouches for. Made by openssl."""

from __future__ import annotations

import subprocess
from pathlib import Path

import attrs

from trio_chat.verify.programs.process import ServiceError, find_program

__all__ = ["Authority", "Certificate"]


@attrs.frozen
class Certificate:
    """The files of a server's certificate and its private key, in PEM."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority in `directory`; `certificate` is what clients trust."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._key = directory / "ca-key.pem"
        self.certificate = directory / "ca.pem"
        # From Python 3.13 on an authority without this extension is not trusted.
        subject = ("-subj", "/CN=trio-chat tests", "-addext", "keyUsage=critical,keyCertSign")
        self._openssl("req", "-x509", *_NEW_KEY, "-keyout", self._key, "-out", self.certificate, "-days", "2", *subject)

    def issue(self, name: str, *alternatives: str) -> Certificate:
        """A certificate for `name`, and for `alternatives` like "DNS:localhost" or "IP:127.0.0.1" (default: the name)."""
        made = Certificate(self._directory / f"{name}.pem", self._directory / f"{name}-key.pem")
        names = ",".join(alternatives or [f"DNS:{name}"])
        self._openssl(
            *("req", "-x509", *_NEW_KEY, "-keyout", made.key, "-out", made.certificate, "-days", "2"),
            *("-subj", f"/CN={name}", "-addext", f"subjectAltName={names}", "-addext", "basicConstraints=CA:FALSE"),
            *("-CA", self.certificate, "-CAkey", self._key),
        )
        return made

    def _openssl(self, *arguments: str | Path) -> None:
        done = subprocess.run(
            [find_program("openssl"), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
        if done.returncode:
            raise ServiceError(f"openssl failed:\n{done.stderr}")


#: Elliptic curves: quick to make.
_NEW_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")
