"""A private Redis: its own folder and port, nothing on disk, with a password and TLS where a test wants them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import redis

from tests.services.process import ServiceError, ServiceProcess, find_program, free_port

__all__ = ["Certificates", "Redis"]


class Certificates:
    """An authority and a certificate for 127.0.0.1 and localhost, made by openssl in `directory`."""

    def __init__(self, directory: Path) -> None:
        directory.mkdir(parents=True, exist_ok=True)
        self.authority = directory / "ca.pem"
        self.certificate = directory / "server.pem"
        self.key = directory / "server.key"
        key = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-days", "2"]
        self._openssl(
            "req", "-x509", *key, "-subj", "/CN=test authority", "-keyout", directory / "ca.key", "-out", self.authority
        )
        self._openssl(
            *("req", "-x509", *key, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"),
            *("-addext", "basicConstraints=critical,CA:FALSE"),
            *("-CA", self.authority, "-CAkey", directory / "ca.key", "-keyout", self.key, "-out", self.certificate),
        )

    @staticmethod
    def _openssl(*arguments: str | Path) -> None:
        done = subprocess.run(
            [find_program("openssl"), *arguments], capture_output=True, text=True, timeout=20, check=False
        )
        if done.returncode:
            raise ServiceError(f"openssl failed: {done.stderr}")


class Redis(ServiceProcess):
    """A Redis server in `directory` on 127.0.0.1:`port`; its `url` has the password.

    With `certificates` it speaks TLS only. For faults: `pause` and `resume`, `kill` and `start`, `restart`, and `client`
    for everything that Redis can do to itself.
    """

    def __init__(
        self,
        directory: Path,
        *,
        password: str = "",
        certificates: Certificates | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.password = password
        self.certificates = certificates
        self._config = directory / "redis.conf"
        super().__init__(
            "redis", [find_program("redis-server"), self._config], directory=directory, ready=self._answers
        )

    @property
    def url(self) -> str:
        user = f":{self.password}@" if self.password else ""
        if self.certificates is None:
            return f"redis://{user}127.0.0.1:{self.port}/0"
        return f"rediss://{user}127.0.0.1:{self.port}/0?ssl_ca_certs={self.certificates.authority}"

    def launch(self) -> None:
        # In a file and not on the command line, which everybody on the machine can read.
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = ["bind 127.0.0.1", f'dir "{self.directory}"', 'save ""', "appendonly no", "maxclients 1000"]
        if self.password:
            lines.append(f'requirepass "{self.password}"')
        if self.certificates is None:
            lines.append(f"port {self.port}")
        else:
            lines += [
                "port 0",
                f"tls-port {self.port}",
                f'tls-cert-file "{self.certificates.certificate}"',
                f'tls-key-file "{self.certificates.key}"',
                f'tls-ca-cert-file "{self.certificates.authority}"',
                "tls-auth-clients no",
            ]
        self._config.write_text("\n".join(lines) + "\n")
        super().launch()

    @contextlib.contextmanager
    def client(self) -> Iterator[redis.Redis]:
        """A redis-py client of its own, blocking: to look at the server and to make it do something."""
        client = redis.Redis.from_url(self.url, socket_timeout=5.0)
        try:
            yield client
        finally:
            client.close()

    def _answers(self) -> bool:
        with self.client() as client, contextlib.suppress(redis.RedisError):
            return bool(client.ping())
        return False
