"""The schema of a database, as `migrate` would find it; nothing is changed."""

from __future__ import annotations

from trio_chat.check.finding import Finding, note, ok, problem, warning
from trio_chat.errors import StartupError
from trio_chat.store.schema import MigrationSession, newest, refuse_foreign_tables

__all__ = ["check_schema"]

_PART = "database"


async def check_schema(session: MigrationSession, *, sqlite: bool) -> list[Finding]:
    """Raises what the session raises."""
    listing = (
        "SELECT 1 FROM sqlite_master WHERE name = 'SchemaVersion'"
        if sqlite
        else "SELECT 1 FROM information_schema.tables WHERE table_schema = DATABASE() AND table_name = 'SchemaVersion'"
    )
    found = await session.execute(listing)
    rows = (await session.execute("SELECT version, goal, done FROM SchemaVersion")).rows if found.rows else []
    if not rows:
        try:
            await refuse_foreign_tables(session, sqlite=sqlite)
        except StartupError as error:
            return [problem(_PART, str(error))]
        return [note(_PART, "there is no schema yet: the first start makes it")]
    version, _, done = rows[0]
    if version > newest():
        return [
            problem(
                _PART,
                f"the schema is version {version}, this program knows versions up to {newest()}",
                "the newer trio-chat that made it",
            )
        ]
    if done:
        return [
            warning(
                _PART, f"a change of the schema stopped after {done} statements", "a start of trio-chat finishes it"
            )
        ]
    if version < newest():
        return [
            note(
                _PART,
                f"the schema is version {version}; the next start makes it {newest()}",
                "a backup before that start",
            )
        ]
    return [ok(_PART, f"the schema is version {version}, the newest")]
