"""Does the server keep what it has committed? Settings under which it may not, told to the operator at the start."""

from __future__ import annotations

from collections.abc import Mapping

import structlog

from trio_chat.store.mysql_driver import Connection
from trio_chat.store.mysql_protocol import ServerError

__all__ = ["warn_of_weak_durability", "weaknesses"]

log = structlog.get_logger(__name__)

_SETTINGS = ("innodb_flush_log_at_trx_commit", "log_bin", "sync_binlog")
_CRASH = "the database server or its machine crashes or loses power"
_POWER = "the database's machine crashes or loses power"


def weaknesses(settings: Mapping[str, str]) -> list[tuple[str, str, str]]:
    """The settings that are too weak: name, value, and when acknowledged messages may be lost under it."""
    found = []
    flush = settings.get("innodb_flush_log_at_trx_commit", "1")
    if flush in {"0", "2"}:  # MariaDB's 3 is stronger than 1
        found.append(("innodb_flush_log_at_trx_commit", flush, _CRASH if flush == "0" else _POWER))
    if settings.get("log_bin", "OFF").upper() in {"ON", "1"} and (sync := settings.get("sync_binlog", "1")) != "1":
        found.append(("sync_binlog", sync, f"{_POWER}, or a replica takes its place"))
    return found


async def warn_of_weak_durability(connection: Connection) -> None:
    """One line in the log for each. Raises `ConnectionLost`; cancelling closes the connection."""
    names = ", ".join(f"'{name}'" for name in _SETTINGS)
    try:
        result = await connection.execute(f"SHOW GLOBAL VARIABLES WHERE Variable_name IN ({names})", ())
    except ServerError as error:
        log.debug("the database does not tell how durable it is", error=str(error))
        return
    for setting, value, when in weaknesses({str(name): str(value) for name, value in result.rows}):
        log.warning(
            "acknowledged messages may be lost",
            when=when,
            setting=setting,
            value=value,
            remedy=f"SET GLOBAL {setting} = 1, and the same in the database's configuration file",
        )
