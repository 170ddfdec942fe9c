"""What a MySQL or MariaDB user may do, read from SHOW GRANTS. Pure.

Its lines hold password hashes too (MariaDB): nothing of a line is kept but the names of rights.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

import attrs

__all__ = ["NEEDED", "Rights", "read_grants"]

#: What the server needs on its database: to run, and to make and migrate its schema.
NEEDED = ("SELECT", "INSERT", "UPDATE", "DELETE", "CREATE", "ALTER", "INDEX", "DROP", "CREATE VIEW")

_GRANT = re.compile(
    r"GRANT (?P<rights>.+?) ON (?:TABLE )?(?P<place>\*|`(?:[^`]|``)+`|\w+)\.(?P<table>\*|`(?:[^`]|``)+`|\w+) TO "
)
_ROLE = re.compile(r"GRANT (?!.* ON )(?P<roles>.+?) TO ")
_COLUMNS = re.compile(r"\([^)]*\)")


@attrs.frozen
class Rights:
    """Rights on `everything`, on `ours` (our database as a whole), and the names of `others`; `roles` may bring more."""

    everything: frozenset[str]
    ours: frozenset[str]
    others: tuple[str, ...]
    roles: bool

    @property
    def missing(self) -> list[str]:
        """What of `NEEDED` is not there."""
        have = self.everything | self.ours
        return [] if _ALL in have else [right for right in NEEDED if right not in have]


_ALL = "ALL PRIVILEGES"


def read_grants(lines: Iterable[str], database: str) -> Rights:
    """What the lines of SHOW GRANTS allow, seen from `database`. Lines that are not understood count for nothing."""
    everything: set[str] = set()
    ours: set[str] = set()
    others: list[str] = []
    roles = False
    for line in lines:
        found = _GRANT.match(line)
        if found is None:
            roles = roles or _ROLE.match(line) is not None
            continue
        rights = {right.strip().upper() for right in _COLUMNS.sub("", found["rights"]).split(",")} - {"USAGE", ""}
        if "WITH GRANT OPTION" in line:
            rights.add("GRANT OPTION")
        place = found["place"]
        if place == "*":
            everything |= rights
        elif not rights:
            continue
        elif not _matches(_name(place), database):
            others.append(_name(place))
        elif found["table"] == "*":
            ours |= rights
    return Rights(frozenset(everything), frozenset(ours), tuple(others), roles)


def _name(quoted: str) -> str:
    return quoted[1:-1].replace("``", "`") if quoted.startswith("`") else quoted


def _matches(pattern: str, database: str) -> bool:
    """Whether a database's name in a GRANT, where % and _ stand for others unless escaped, means this one."""
    parts = re.findall(r"\\.|.", pattern, re.DOTALL)
    wild = {"%": ".*", "_": "."}
    expression = "".join(wild.get(part) or re.escape(part[-1]) for part in parts)
    return re.fullmatch(expression, database, re.DOTALL) is not None
