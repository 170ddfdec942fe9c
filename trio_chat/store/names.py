"""Who has which name: claims on what names are compared by, so that of two that look alike only one is given out."""

from __future__ import annotations

from collections.abc import Sequence

import attrs

from trio_chat.names import Forms, group_forms, user_forms
from trio_chat.store.contract import Database, Steps, Value
from trio_chat.store.steps import chunks, placeholders, query, rows_of, transaction

__all__ = ["Names", "claim", "find_owner"]

#: The tables whose rows have names: the column that has it, and what claims of it are called.
_TABLES = {"User": ("name", "user", user_forms), "AllGroup": ("groupname", "group", group_forms)}
_PAGE = 500


def claim(kind: str, owner: int, forms: Forms) -> Steps[None]:
    """Claim a new name, `kind` is `user` or `group`. Raises `UniqueViolation` where it, or one like it, is taken."""
    yield (
        f"INSERT INTO NameClaim (kind, form, owner) VALUES {rows_of(3, 1 + len(forms.skeletons))}",
        _rows(kind, owner, forms),
    )


def find_owner(kind: str, forms: Forms) -> Steps[int | None]:
    """Whose name this is, in capitals or not."""
    found = yield "SELECT owner FROM NameClaim WHERE kind = ? AND form = ?", (kind, forms.canonical)
    return found.rows[0][0] if found.rows else None


def _rows(kind: str, owner: int, forms: Forms) -> list[Value]:
    values: list[Value] = [kind, forms.canonical, owner]
    for skeleton in sorted(forms.skeletons):
        values += (f"{kind}-skeleton", skeleton, owner)
    return values


@attrs.frozen
class Names:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    async def claim_all(self) -> int:
        """Claim the names that have no claim: those from before there were claims. Returns how many there were.

        Where two look alike the older has the claim; the younger goes on as ever, under its own name. Several nodes may
        do this at once, and while others serve.
        """
        user_forms("a name")  # reads the table of what looks alike, once and not while somebody waits
        count = 0
        for table in _TABLES:
            while rows := await self._unclaimed(table):
                await self._claim(table, rows)
                count += len(rows)
        return count

    @query
    def _unclaimed(self, table: str) -> Steps[list[tuple[int, str]]]:
        column = _TABLES[table][0]
        found = yield f"SELECT id, {column} FROM {table} WHERE named = 0 ORDER BY id LIMIT {_PAGE:d}", ()
        return [(row[0], row[1]) for row in found.rows]

    @transaction
    def _claim(self, table: str, rows: Sequence[tuple[int, str]]) -> Steps[None]:
        _, kind, forms_of = _TABLES[table]
        values: list[Value] = []
        for owner, name in rows:
            values += _rows(kind, owner, forms_of(name))
        for some in chunks(range(0, len(values), 3), 300):
            part = values[some[0] : some[-1] + 3]
            yield (
                f"{self.database.dialect.insert_ignore} NameClaim (kind, form, owner) VALUES {rows_of(3, len(some))}",
                part,
            )
        ids = [owner for owner, _ in rows]
        yield f"UPDATE {table} SET named = 1 WHERE id IN ({placeholders(len(ids))})", ids
