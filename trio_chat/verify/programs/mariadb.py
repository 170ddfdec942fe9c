"""A private MariaDB: its own data folder, unix socket and TCP port."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
from collections.abc import Sequence
from pathlib import Path

from trio_chat.verify.programs.process import ServiceError, ServiceProcess, find_program, free_port

__all__ = ["MariaDB"]

#: Durable as in production, small and quick to start otherwise.
OPTIONS = (
    "--skip-name-resolve",
    "--skip-log-bin",
    "--innodb-flush-log-at-trx-commit=1",
    "--innodb-buffer-pool-size=16M",
    "--innodb-log-file-size=16M",
    "--innodb-fast-shutdown=2",
    "--performance-schema=OFF",
    "--max-connections=200",
)


class MariaDB(ServiceProcess):
    """A MariaDB server in `directory`, for `root` without a password on `host`:`port` and on `socket`.

    The first start makes the data folder; `restart`, or `kill` and `start`, keep the data. `options` are added to ours,
    the later one wins. For faults: `pause` and `resume`, `kill`, and `sql` to set variables or kill connections.
    """

    def __init__(
        self, directory: Path, *, options: Sequence[str] = (), host: str = "127.0.0.1", port: int | None = None
    ) -> None:
        self.host = host
        self.port = port or free_port()
        self.data = directory / "data"
        self.socket = directory / "mariadb.sock"
        if len(os.fsencode(self.socket)) > 100:
            raise ServiceError(f"{self.socket} is too long for a unix socket; use a shorter temporary folder")
        self.as_user = ["--user=root"] if os.geteuid() == 0 else []
        command = [
            find_program("mariadbd", "mysqld"),
            "--no-defaults",
            *self.as_user,
            f"--datadir={self.data}",
            f"--socket={self.socket}",
            f"--pid-file={directory / 'mariadb.pid'}",
            f"--bind-address={host}",
            f"--port={self.port}",
            *OPTIONS,
            *options,
        ]
        super().__init__("mariadb", command, directory=directory, ready=self._greets, start_timeout=30.0)

    def launch(self) -> None:
        if not self.data.exists():
            self._install()
        super().launch()

    def url(self, database: str, **options: str) -> str:
        """The URL of `database` over TCP; `options` become its query, for example `unix_socket=str(server.socket)`."""
        query = "&".join(f"{name}={value}" for name, value in options.items())
        return f"mysql://root@{self.host}:{self.port}/{database}" + (f"?{query}" if query else "")

    def create_database(self, name: str) -> None:
        self.sql(f"CREATE DATABASE `{name}` CHARACTER SET utf8mb4")

    def admit(self, addresses: str) -> None:
        """Let `root` in from there too, as MariaDB writes addresses: "198.18.0.0/255.254.0.0"."""
        self.sql(f"CREATE OR REPLACE USER root@'{addresses}'; GRANT ALL ON *.* TO root@'{addresses}'")

    def drop_database(self, name: str) -> None:
        self.sql(f"DROP DATABASE IF EXISTS `{name}`")

    def sql(self, statements: str, database: str = "") -> list[list[str]]:
        """Run SQL as root in a client of its own; the rows as text. Raises `ServiceError` with what the client said."""
        program = find_program("mariadb", "mysql")
        client = [program, "--no-defaults", f"--socket={self.socket}", "--user=root", "-N", "-B"]
        done = subprocess.run(
            [*client, "-e", statements, *([database] if database else [])],
            capture_output=True,
            text=True,
            timeout=20,
            check=False,
        )
        if done.returncode:
            raise ServiceError(f"mariadb client: {done.stderr.strip()}")
        return [line.split("\t") for line in done.stdout.splitlines()]

    def _greets(self) -> bool:
        # A greeting on the unix socket, not only a bound port: it listens before it serves.
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
            probe.settimeout(0.5)
            try:
                probe.connect(os.fspath(self.socket))
                return len(probe.recv(5)) == 5
            except OSError:
                return False

    def _install(self) -> None:
        done = subprocess.run(
            [
                find_program("mariadb-install-db", "mysql_install_db"),
                "--no-defaults",
                *self.as_user,
                f"--datadir={self.data}",
                "--auth-root-authentication-method=normal",
                "--skip-name-resolve",
                "--skip-test-db",
                "--innodb-buffer-pool-size=16M",
                "--innodb-log-file-size=16M",
            ],
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        if done.returncode:
            shutil.rmtree(self.data, ignore_errors=True)
            raise ServiceError(f"mariadb-install-db failed:\n{done.stdout}{done.stderr}")
