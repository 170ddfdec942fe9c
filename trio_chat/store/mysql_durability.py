"""Does the server keep what it has committed? Settings under which it may not, told to the operator at the start."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import attrs
import structlog

from trio_chat.store.mysql_driver import Connection
from trio_chat.store.mysql_protocol import ServerError

__all__ = ["SETTINGS", "Weakness", "read_settings", "warn_of_weak_durability", "weaknesses"]

log = structlog.get_logger(__name__)

#: The server's settings that `weaknesses` looks at.
SETTINGS = ("innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog")
_CRASH = "the database server or its machine crashes or loses power"
_POWER = "the database's machine crashes or loses power"
_OFF = frozenset({"OFF", "0"})


@attrs.frozen
class Weakness:
    """A setting that is too weak, its value, what it should be, and when acknowledged messages may be lost under it."""

    setting: str
    value: str
    better: str
    when: str

    @property
    def remedy(self) -> str:
        """What the operator can do."""
        return f"SET GLOBAL {self.setting} = {self.better}, and the same in the database's configuration file"


def weaknesses(settings: Mapping[str, str]) -> list[Weakness]:
    """What is too weak in the server's `settings`, which have those of `SETTINGS` that it told."""
    found = []
    flush = settings.get("innodb_flush_log_at_trx_commit", "1")
    if flush in {"0", "2"}:  # MariaDB's 3 is stronger than 1
        when = _CRASH if flush == "0" else _POWER
        found.append(Weakness("innodb_flush_log_at_trx_commit", flush, "1", when))
    if settings.get("log_bin", "OFF").upper() not in _OFF and (sync := settings.get("sync_binlog", "1")) != "1":
        found.append(Weakness("sync_binlog", sync, "1", f"{_POWER}, or a replica takes its place"))
    return found


async def read_settings(connection: Connection, names: Iterable[str]) -> dict[str, str]:
    """The server's global settings of these names; one that it does not know is left out.

    Raises `ServerError` and `ConnectionLost`. Cancelling closes the connection.
    """
    listed = ", ".join(f"'{name}'" for name in names)
    result = await connection.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({listed})", ())
    return {str(name): str(value) for name, value in result.rows}


async def warn_of_weak_durability(connection: Connection) -> None:
    """One line in the log for each. Raises `ConnectionLost`; cancelling closes the connection."""
    try:
        settings = await read_settings(connection, SETTINGS)
    except ServerError as error:
        log.debug("the database does not tell how durable it is", error=str(error))
        return
    for weak in weaknesses(settings):
        log.warning(
            "acknowledged messages may be lost",
            when=weak.when,
            setting=weak.setting,
            value=weak.value,
            remedy=weak.remedy,
        )
