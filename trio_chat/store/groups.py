"""Groups and their members."""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence

import attrs

from trio_chat.errors import AlreadyExists, BadRequest, Forbidden, NoSuchGroup, NoSuchUser, NotAMember
from trio_chat.names import group_forms
from trio_chat.store.contract import UNBOUNDED, Database, Steps, UniqueViolation, Value
from trio_chat.store.log import CLOSED
from trio_chat.store.names import claim, find_owner
from trio_chat.store.steps import chunks, placeholders, query, transaction
from trio_chat.wire.conversation import group_conv

__all__ = ["GroupRecord", "Groups", "Member", "inherit"]

#: The first members of a list of groups, for one user of several.
_FIRST_MEMBERS = (
    "SELECT * FROM (SELECT ? AS reader, m.groupid, m.joined, u.id, u.name, u.state, m.grouprole FROM GroupUser m"
    " JOIN User u ON u.id = m.userid WHERE m.groupid IN ({groups}) ORDER BY m.groupid, m.joined, u.id LIMIT {most:d})"
    " AS list{number:d}"
)
#: So many parameters, about, one statement has at most.
_PARAMETERS = 500


@attrs.frozen
class Member:
    """Somebody in a group: `state` is `online` or `offline`, `role` `creator` or `normal`."""

    id: int
    name: str
    state: str
    role: str


@attrs.define
class GroupRecord:
    id: int
    groupname: str
    groupdesc: str
    users: list[Member] = attrs.field(factory=list)


@attrs.frozen
class Groups:
    """All may raise `Unavailable`; cancelling is safe.

    A user is in at most `most_groups`, and a group has at most `most_members`. What a user does at the same time on
    several connections may go over the former by as much.
    """

    database: Database
    most_groups: int = UNBOUNDED
    most_members: int = UNBOUNDED

    @transaction
    def create(self, userid: int, groupname: str, groupdesc: str) -> Steps[int]:
        """Store a new group with its creator in it and return its id.

        Raises `AlreadyExists` where one of that name, or like it, exists, and `Forbidden`.
        """
        now = self.database.dialect.now_ms
        yield from self._check_groups(userid)
        try:
            result = yield (
                "INSERT INTO AllGroup (groupname, groupdesc, named) VALUES (?, ?, 1)",
                (groupname, groupdesc),
            )
            yield from claim("group", result.inserted, group_forms(groupname))
        except UniqueViolation:
            raise AlreadyExists("there is a group of this name already") from None
        groupid = result.inserted
        conv = group_conv(groupid)
        yield f"INSERT INTO Conversation (conv, last_seq, changed) VALUES (?, 0, {now})", (conv,)
        yield (
            f"INSERT INTO GroupUser (groupid, userid, grouprole, joined) VALUES (?, ?, 'creator', {now})",
            (groupid, userid),
        )
        yield "INSERT INTO DeliveryCursor (userid, conv, received, seen) VALUES (?, ?, 0, 0)", (userid, conv)
        return groupid

    @transaction
    def join(self, userid: int, groupid: int) -> Steps[int]:
        """Make a user a member and return the group's last seq: what came before is history to him.

        Who joins a group that everybody has left is its creator. Raises `NoSuchGroup`, `AlreadyExists`, `Forbidden`.
        """
        dialect = self.database.dialect
        yield from self._check_groups(userid)
        conv = group_conv(groupid)
        last_seq = yield from self._lock(conv)
        barred = yield "SELECT 1 FROM Barred WHERE groupid = ? AND userid = ?", (groupid, userid)
        if barred.rows:
            raise Forbidden("you were removed from this group")
        others = yield "SELECT 1 FROM GroupUser WHERE groupid = ? LIMIT 1", (groupid,)
        try:
            yield (
                f"INSERT INTO GroupUser (groupid, userid, grouprole, joined) VALUES (?, ?, ?, {dialect.now_ms})",
                (groupid, userid, "normal" if others.rows else "creator"),
            )
        except UniqueViolation:
            raise AlreadyExists("you are in this group already") from None
        members = yield "SELECT COUNT(*) FROM GroupUser WHERE groupid = ?", (groupid,)
        if members.rows[0][0] > self.most_members:
            raise Forbidden(f"this group has {self.most_members} members, which is the most", limit="group_members")
        again = dialect.upsert("userid, conv", "received = new.received, seen = GREATEST(seen, new.seen)")
        yield (
            f"INSERT INTO DeliveryCursor (userid, conv, received, seen) VALUES (?, ?, ?, ?){again}",
            (userid, conv, last_seq, last_seq),
        )
        return last_seq

    def _check_groups(self, userid: int) -> Steps[None]:
        groups = yield "SELECT COUNT(*) FROM GroupUser WHERE userid = ?", (userid,)
        if groups.rows[0][0] >= self.most_groups:
            raise Forbidden(f"you are in {self.most_groups} groups, which is the most", limit="groups")

    @transaction
    def leave(self, userid: int, groupid: int) -> Steps[None]:
        """End a membership. A creator's role goes to who has been in the group longest.

        Raises `NoSuchGroup`, `NotAMember`.
        """
        yield from self._lock(group_conv(groupid))
        if not (yield from self._end_membership(userid, groupid)):
            raise NotAMember("you are not in this group")

    @transaction
    def remove(self, creator: int, groupid: int, userid: int, barred: bool) -> Steps[bool]:
        """End another one's membership, and say whether he may join again; returns whether he was in the group.

        Raises `NoSuchGroup`, `NotAMember` and `Forbidden` where `creator` is not in the group or not its creator,
        `NoSuchUser`, and `BadRequest` where both are the same.
        """
        yield from self._lock(group_conv(groupid))
        role = yield "SELECT grouprole FROM GroupUser WHERE groupid = ? AND userid = ?", (groupid, creator)
        if not role.rows:
            raise NotAMember("you are not in this group")
        if role.rows[0][0] != "creator":
            raise Forbidden("only the creator of a group removes its members")
        if userid == creator:
            raise BadRequest("userid: is your own id", field="userid")
        there = yield "SELECT 1 FROM User WHERE id = ?", (userid,)
        if not there.rows:
            raise NoSuchUser
        if barred:
            insert = self.database.dialect.insert_ignore
            yield f"{insert} Barred (groupid, userid) VALUES (?, ?)", (groupid, userid)
        else:
            yield "DELETE FROM Barred WHERE groupid = ? AND userid = ?", (groupid, userid)
        return (yield from self._end_membership(userid, groupid))

    def _lock(self, conv: str) -> Steps[int]:
        """Order what follows among the group's messages, joins and departures; returns its last seq.

        Every later seq is a new member's to receive. Raises `NoSuchGroup`.
        """
        head = yield f"SELECT last_seq FROM Conversation WHERE conv = ?{self.database.dialect.for_update}", (conv,)
        if not head.rows:
            raise NoSuchGroup
        last_seq: int = head.rows[0][0]
        return last_seq

    def _end_membership(self, userid: int, groupid: int) -> Steps[bool]:
        found = yield "SELECT grouprole FROM GroupUser WHERE groupid = ? AND userid = ?", (groupid, userid)
        if not found.rows:
            return False
        yield "DELETE FROM GroupUser WHERE groupid = ? AND userid = ?", (groupid, userid)
        now = self.database.dialect.now_ms
        yield (
            f"UPDATE DeliveryCursor SET received = ?, marked = GREATEST(marked, {now}) WHERE userid = ? AND conv = ?",
            (CLOSED, userid, group_conv(groupid)),
        )
        if found.rows[0][0] == "creator":
            yield from inherit(groupid)
        return True

    @query
    def of(self, userids: Sequence[int]) -> Steps[dict[int, list[GroupRecord]]]:
        """The groups of these users, without their members."""
        groups: dict[int, list[GroupRecord]] = {userid: [] for userid in userids}
        found = yield (
            "SELECT m.userid, g.id, g.groupname, g.groupdesc FROM GroupUser m JOIN AllGroup g ON g.id = m.groupid"
            f" WHERE m.userid IN ({placeholders(len(groups))}) ORDER BY m.userid, g.id",
            list(groups),
        )
        for userid, *group in found.rows:
            groups[userid].append(GroupRecord(*group))
        return groups

    @query
    def members(self, lists: Mapping[int, Sequence[int]], most: int) -> Steps[dict[int, dict[int, list[Member]]]]:
        """The members of each user's list of groups, at most so many for each user, the creator of each group first.

        The limit bounds what a login costs, whatever the groups' sizes.
        """
        members: dict[int, dict[int, list[Member]]] = {
            userid: {groupid: [] for groupid in groupids} for userid, groupids in lists.items()
        }
        room = dict.fromkeys(lists, most)
        parts = deque((userid, part) for userid, groupids in lists.items() for part in chunks(groupids, _PARAMETERS))
        while parts:
            selects: list[str] = []
            values: list[Value] = []
            while parts and (not selects or len(values) + len(parts[0][1]) < _PARAMETERS):
                userid, part = parts.popleft()
                selects.append(_FIRST_MEMBERS.format(number=len(selects), groups=placeholders(len(part)), most=most))
                values += (userid, *part)
            rows = yield " UNION ALL ".join(selects) + " ORDER BY reader, groupid, joined, id", values
            for userid, groupid, _, *member in rows.rows:
                if room[userid]:
                    room[userid] -= 1
                    members[userid][groupid].append(Member(*member))
        return members

    @query
    def get(self, groupid: int, members: int) -> Steps[GroupRecord]:
        """One group with at most `members` of its members. Raises `NoSuchGroup`."""
        found = yield "SELECT id, groupname, groupdesc FROM AllGroup WHERE id = ?", (groupid,)
        if not found.rows:
            raise NoSuchGroup
        group = GroupRecord(*found.rows[0])
        rows = yield (
            "SELECT u.id, u.name, u.state, m.grouprole FROM GroupUser m JOIN User u ON u.id = m.userid"
            f" WHERE m.groupid = ? ORDER BY m.joined, u.id LIMIT {members:d}",
            (groupid,),
        )
        group.users.extend(Member(*row) for row in rows.rows)
        return group

    @query
    def by_name(self, groupname: str) -> Steps[int | None]:
        """The id of the group of this name; where there is none, of the one whose name is the same but for capitals."""
        found = yield "SELECT id FROM AllGroup WHERE groupname = ?", (groupname,)
        groupid: int | None = found.rows[0][0] if found.rows else None
        return groupid or (yield from find_owner("group", group_forms(groupname)))

    @query
    def positions(self, groupid: int, members: Sequence[int]) -> Steps[dict[int, tuple[int, int]]]:
        """How far each of these members has received and read the group's conversation."""
        positions = {}
        for some in chunks(members, 500):
            values: list[Value] = [group_conv(groupid), *some]
            found = yield (
                f"SELECT userid, received, seen FROM DeliveryCursor WHERE conv = ? AND userid IN ({placeholders(len(some))})",
                values,
            )
            positions.update({userid: (received, seen) for userid, received, seen in found.rows})
        return positions

    @query
    def membership(self, userid: int, groupid: int) -> Steps[bool]:
        """Whether a user is in a group. Raises `NoSuchGroup`."""
        member = yield "SELECT 1 FROM GroupUser WHERE groupid = ? AND userid = ?", (groupid, userid)
        if member.rows:
            return True
        group = yield "SELECT 1 FROM AllGroup WHERE id = ?", (groupid,)
        if not group.rows:
            raise NoSuchGroup
        return False


def inherit(groupid: int) -> Steps[None]:
    """A group's creator is gone: his role goes to who has been in it longest."""
    heir = yield "SELECT userid FROM GroupUser WHERE groupid = ? ORDER BY joined, userid LIMIT 1", (groupid,)
    for row in heir.rows:
        yield "UPDATE GroupUser SET grouprole = 'creator' WHERE groupid = ? AND userid = ?", (groupid, row[0])
