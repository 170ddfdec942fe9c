"""Which nodes live and who is connected to them; User.state mirrors it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import attrs

from trio_chat.errors import AccountInUse, Forbidden
from trio_chat.store.contract import Database, Last, Statement, Steps, Value
from trio_chat.store.steps import chunks, placeholders, query, rows_of, transaction

__all__ = ["Entry", "NodeRecord", "PresenceTable", "StateChange"]


@attrs.frozen
class NodeRecord:
    """One life of a node. `beat` rises while it lives; `bus` says which bus it talks on."""

    id: int
    name: str
    bus: str
    beat: int


@attrs.frozen
class StateChange:
    """A user became `online` or `offline`; of two changes of a user the one with the greater `changed` holds."""

    userid: int
    state: str
    changed: int


@attrs.frozen
class Entry:
    """A login of a user; with `exclusive` it has to be his only one."""

    userid: int
    exclusive: bool = False


@attrs.frozen
class PresenceTable:
    """All may raise `Unavailable`; cancelling is safe."""

    database: Database

    @transaction
    def register_node(self, name: str, bus: str) -> Steps[int]:
        """Begin a node's life and return its id."""
        result = yield "INSERT INTO Node (name, bus) VALUES (?, ?)", (name, bus)
        return result.inserted

    @query
    def nodes(self) -> Steps[list[NodeRecord]]:
        result = yield "SELECT id, name, bus, beat FROM Node ORDER BY id", ()
        return [NodeRecord(*row) for row in result.rows]

    @transaction
    def beat(self, node: int) -> Steps[bool]:
        """Show that a node lives. False where the others have taken it for dead."""
        result = yield "UPDATE Node SET beat = beat + 1 WHERE id = ?", (node,)
        return result.changed > 0

    @transaction
    def enter(self, entries: Sequence[Entry], node: int) -> Steps[list[StateChange | AccountInUse | Forbidden | None]]:
        """Note that users are connected to a node; says of each entry what it changed, or why it was refused.

        `AccountInUse` where an exclusive one's user is connected anywhere already: of any number of such logins at once,
        on whatever nodes, one succeeds. `Forbidden` where the operator has disabled the account.
        """
        dialect = self.database.dialect
        users = {entry.userid for entry in entries}
        # The locks on the users' rows order all logins and exits of each account, over all nodes.
        rows = yield (
            f"SELECT id, state, disabled, changed, {dialect.now_ms} FROM User WHERE id IN ({placeholders(len(users))})"
            f" ORDER BY id{dialect.for_update}",
            sorted(users),
        )
        found = {row[0]: row[1:] for row in rows.rows}
        present: set[int] = set()
        if exclusive := sorted({entry.userid for entry in entries if entry.exclusive}):
            rows = yield (
                f"SELECT DISTINCT userid FROM Presence WHERE userid IN ({placeholders(len(exclusive))})",
                exclusive,
            )
            present = {row[0] for row in rows.rows}
        outcomes: list[StateChange | AccountInUse | Forbidden | None] = []
        entered: set[int] = set()
        changes: dict[int, StateChange] = {}
        for userid, exclusively in ((entry.userid, entry.exclusive) for entry in entries):
            state, disabled, changed, now = found[userid]
            outcome: StateChange | AccountInUse | Forbidden | None = None
            if disabled:
                outcome = Forbidden("this account is disabled; ask who runs the server")
            elif exclusively and (userid in present or userid in entered):
                outcome = AccountInUse()
            else:
                if state != "online" and userid not in entered:
                    # Logins are many: what the row will be is known while it is locked, and need not be read again.
                    outcome = changes[userid] = StateChange(userid, "online", max(changed + 1, int(now)))
                entered.add(userid)
            outcomes.append(outcome)
        last: list[Statement] = []
        if entered:
            values = [value for userid in sorted(entered) for value in (userid, node)]
            last.append((f"{dialect.insert_ignore} Presence (userid, node) VALUES {rows_of(2, len(entered))}", values))
        if changes:
            case = f"CASE id {'WHEN ? THEN ? ' * len(changes)}END"
            values = [value for userid, change in changes.items() for value in (userid, change.changed)]
            last.append((
                f"UPDATE User SET state = 'online', changed = {case} WHERE id IN ({placeholders(len(changes))})",
                [*values, *changes],
            ))  # fmt: skip
        if last:
            yield Last(last)
        return outcomes

    @transaction
    def leave(self, userids: Sequence[int], node: int) -> Steps[list[StateChange]]:
        """Note that users are no longer connected to a node; those who are connected nowhere become offline."""
        changes = []
        for some in chunks(sorted(userids), 500):
            changes += yield from self._leave(some, [node])
        return changes

    @transaction
    def clear_nodes(self, nodes: Sequence[int], limit: int) -> Steps[tuple[list[StateChange], bool]]:
        """Remove dead nodes and the presence of at most `limit` of their users; also returns whether that was all."""
        if not nodes:
            return [], True
        found = yield (
            f"SELECT DISTINCT userid FROM Presence WHERE node IN ({placeholders(len(nodes))}) ORDER BY userid LIMIT {limit:d}",
            nodes,
        )
        changes = yield from self._leave([row[0] for row in found.rows], nodes)
        done = len(found.rows) < limit
        if done:
            yield f"DELETE FROM Node WHERE id IN ({placeholders(len(nodes))})", nodes
        return changes, done

    @query
    def users_of(self, node: int) -> Steps[set[int]]:
        result = yield "SELECT userid FROM Presence WHERE node = ?", (node,)
        return {row[0] for row in result.rows}

    @transaction
    def clear_strays(self, limit: int) -> Steps[tuple[list[StateChange], bool]]:
        """Mend what a lost node's disappearance left: presence on nodes that are no more, users online nowhere."""
        gone = yield "SELECT DISTINCT p.node FROM Presence p LEFT JOIN Node n ON n.id = p.node WHERE n.id IS NULL", ()
        nodes = [row[0] for row in gone.rows]
        changes: list[StateChange] = []
        if nodes:
            found = yield (
                f"SELECT DISTINCT userid FROM Presence WHERE node IN ({placeholders(len(nodes))}) LIMIT {limit:d}",
                nodes,
            )
            changes = yield from self._leave(sorted(row[0] for row in found.rows), nodes)
            if len(found.rows) == limit:
                return changes, False
        return changes, True

    def _leave(self, userids: Sequence[int], nodes: Sequence[int]) -> Steps[list[StateChange]]:
        if not userids:
            return []
        users = placeholders(len(userids))
        dialect = self.database.dialect
        online = yield (
            f"SELECT id FROM User WHERE id IN ({users}) AND state = 'online' ORDER BY id{dialect.for_update}",
            userids,
        )
        yield (
            f"DELETE FROM Presence WHERE userid IN ({users}) AND node IN ({placeholders(len(nodes))})",
            [*userids, *nodes],
        )
        still = yield f"SELECT DISTINCT userid FROM Presence WHERE userid IN ({users})", userids
        present = {row[0] for row in still.rows}
        gone = [row[0] for row in online.rows if row[0] not in present]
        return (yield from self._set_state(gone, "offline")) if gone else []

    def _set_state(self, userids: Iterable[int], state: str) -> Steps[list[StateChange]]:
        changes = []
        now = self.database.dialect.now_ms
        for some in chunks(userids, 500):
            users = placeholders(len(some))
            values: list[Value] = [state, *some]
            yield f"UPDATE User SET state = ?, changed = GREATEST(changed + 1, {now}) WHERE id IN ({users})", values
            result = yield f"SELECT id, state, changed FROM User WHERE id IN ({users})", some
            changes += [StateChange(*row) for row in result.rows]
        return changes
