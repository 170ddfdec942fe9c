"""A private Redis: its own folder and port, nothing on disk, with a password and TLS where a test wants them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import redis

from tests.services.certificates import Authority
from tests.services.process import ServiceProcess, find_program, free_port

__all__ = ["Redis"]


class Redis(ServiceProcess):
    """A Redis server in `directory` on 127.0.0.1:`port`; its `url` has the password, percent-encoded.

    With an `authority` it speaks TLS only, with a certificate of it. For faults: `pause` and `resume`, `kill` and
    `start`, `restart`, and `client` for everything that Redis can do to itself.
    """

    def __init__(
        self,
        directory: Path,
        *,
        password: str = "",
        authority: Authority | None = None,
        port: int | None = None,
    ) -> None:
        self.port = port or free_port()
        self.password = password
        self.authority = authority
        self._certificate = authority.issue("redis", "DNS:localhost", "IP:127.0.0.1") if authority else None
        self._config = directory / "redis.conf"
        super().__init__(
            "redis", [find_program("redis-server"), self._config], directory=directory, ready=self._answers
        )

    @property
    def url(self) -> str:
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.authority is None:
            return f"redis://{user}127.0.0.1:{self.port}/0"
        return f"rediss://{user}127.0.0.1:{self.port}/0?ssl_ca_certs={self.authority.certificate}"

    def launch(self) -> None:
        # In a file and not on the command line, which everybody on the machine can read.
        self.directory.mkdir(parents=True, exist_ok=True)
        lines = ["bind 127.0.0.1", f'dir "{self.directory}"', 'save ""', "appendonly no", "maxclients 1000"]
        if self.password:
            lines.append(f'requirepass "{self.password}"')
        if self.authority is None or self._certificate is None:
            lines.append(f"port {self.port}")
        else:
            lines += [
                "port 0",
                f"tls-port {self.port}",
                f'tls-cert-file "{self._certificate.certificate}"',
                f'tls-key-file "{self._certificate.key}"',
                f'tls-ca-cert-file "{self.authority.certificate}"',
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
