"""A private Redis: its own folder and port, nothing on disk, with a password and TLS where a test wants them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import quote

import attrs
import redis

from trio_chat.verify.programs.process import ServiceProcess, find_program, free_port

__all__ = ["TLS", "Redis"]


@attrs.frozen
class TLS:
    """The files of a server's certificate and its key, and of the authority that its clients trust; in PEM."""

    certificate: Path
    key: Path
    authority: Path


class Redis(ServiceProcess):
    """A Redis server in `directory` on `host`:`port`; its `url` has the password, percent-encoded.

    With `tls` it speaks TLS only. For faults: `pause` and `resume`, `kill` and
    `start`, `restart`, and `client` for everything that Redis can do to itself.
    """

    def __init__(
        self,
        directory: Path,
        *,
        password: str = "",
        tls: TLS | None = None,
        host: str = "127.0.0.1",
        port: int | None = None,
    ) -> None:
        self.host = host
        self.port = port or free_port()
        self.password = password
        self.tls = tls
        self._config = directory / "redis.conf"
        super().__init__(
            "redis", [find_program("redis-server"), self._config], directory=directory, ready=self._answers
        )

    @property
    def url(self) -> str:
        user = f":{quote(self.password, safe='')}@" if self.password else ""
        if self.tls is None:
            return f"redis://{user}{self.host}:{self.port}/0"
        return f"rediss://{user}{self.host}:{self.port}/0?ssl_ca_certs={self.tls.authority}"

    def launch(self) -> None:
        # In a file and not on the command line, which everybody on the machine can read.
        self.directory.mkdir(parents=True, exist_ok=True)
        # Who may connect is settled by the address that it listens on.
        lines = [
            f"bind {self.host}",
            "protected-mode no",
            f'dir "{self.directory}"',
            'save ""',
            "appendonly no",
            "maxclients 1000",
        ]
        if self.password:
            lines.append(f'requirepass "{self.password}"')
        if self.tls is None:
            lines.append(f"port {self.port}")
        else:
            lines += [
                "port 0",
                f"tls-port {self.port}",
                f'tls-cert-file "{self.tls.certificate}"',
                f'tls-key-file "{self.tls.key}"',
                f'tls-ca-cert-file "{self.tls.authority}"',
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
