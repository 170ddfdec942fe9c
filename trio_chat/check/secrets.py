"""Where others on the machine or in the network may read what should be secret: looked over at each start too."""

from __future__ import annotations

import stat
from collections.abc import Iterator, Mapping
from pathlib import Path

from trio_chat.bus.redis_settings import RedisAddress
from trio_chat.check import mysql, redis
from trio_chat.check.finding import Finding, Level, warning
from trio_chat.config import Settings, secret_files
from trio_chat.errors import StartupError
from trio_chat.store.mysql_options import parse_url

__all__ = ["check_secrets", "check_transit"]


def check_secrets(flags: Mapping[str, object], environment: Mapping[str, str], file: Path | None) -> Iterator[Finding]:
    """Whether others on this machine see a password; the arguments are those of `config.load`."""
    for name in ("database", "bus"):
        if _has_password(str(flags.get(name, ""))):
            variable = f"TRIO_CHAT_{name.upper()}"
            yield warning(
                name,
                f"everybody on this machine can read the password of --{name} in the list of processes",
                f"{variable} in the environment, {variable}_FILE with a file's name in it, or the file of --config",
            )
    for part, each in secret_files(environment, file):
        if _others_read(each) and (part != "settings" or _has_password(_uncommented(each))):
            yield warning(part, f"everybody on this machine can read the secrets in {each}", f"chmod 600 {each}")


def check_transit(settings: Settings) -> Iterator[Finding]:
    """Whether others in the network see what goes to the database and to Redis. URLs that will not do are passed over."""
    findings: list[Finding] = []
    try:
        if settings.database.startswith("mysql:"):
            options = parse_url(settings.database, timeout=settings.store_timeout, pool=settings.store_connections)
            findings += mysql.check_transit(options)
        if not settings.bus.startswith("local:"):
            findings += redis.check_transit(RedisAddress.parse(settings.bus))
    except StartupError:
        pass  # the start itself will say so
    yield from (each for each in findings if each.level is Level.WARNING)


def _has_password(text: str) -> bool:
    return any("://" in line and ":" in line.partition("://")[2].rpartition("@")[0] for line in text.splitlines())


def _uncommented(file: Path) -> str:
    text = file.read_text(encoding="utf-8", errors="replace")
    return "\n".join(line for line in text.splitlines() if not line.lstrip().startswith("#"))


def _others_read(file: Path) -> bool:
    try:
        return bool(stat.S_IMODE(file.stat().st_mode) & stat.S_IROTH)
    except OSError:
        return False
