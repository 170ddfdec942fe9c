"""The verdict: the checker of `trio-chat verify` on the history, and what only a look inside can tell."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tests.simulation.classic import ClassicDevice
from tests.simulation.modern import ModernDevice
from tests.simulation.world import World
from trio_chat.router import Router
from trio_chat.verify.checker import check
from trio_chat.verify.courses import chart
from trio_chat.verify.facts import Promises, gather
from trio_chat.verify.history import to_line

__all__ = ["inside", "judge", "left_behind"]


def judge(world: World, devices: Sequence[ModernDevice | ClassicDevice]) -> Iterator[str]:
    """What the history shows to be wrong."""
    settings = world.plan.settings
    promises = Promises(
        presence=4.0,
        node_death=2 * settings.lease + 3,
        answer=15.0,
        parting=0.0 if world.plan.nodes == 1 else 4.0,
        settled=6.0,
    )
    for violation in check(world.history, promises):
        shown = "\n".join(f"    {to_line(record).decode()}" for record in violation.excerpt)
        yield f"{violation.rule}: {violation.says}\n{shown}"
    courses = chart(gather(world.history), promises)
    for device in devices:
        if isinstance(device, ClassicDevice):
            yield from device.check(courses)


def inside(world: World, devices: Sequence[ModernDevice | ClassicDevice]) -> Iterator[str]:
    """Where the nodes and the database do not agree, while everybody is there and nothing moves."""
    look = world.cluster.engine.look
    here: dict[tuple[str, int], None] = {}
    for life in world.cluster.lives:
        if life.server is None:
            yield f"{life.name} does not serve"
            continue
        node = life.server.node
        for userid in node.router.accounts:
            here[life.name, userid] = None
        yield from _relations(world, life.name, node.router)
        for name in ("_holes", "_ahead", "_loading", "_unheard"):
            if left := getattr(node.router, name):
                yield f"{life.name}: the router still has {name}: {left}"
        for conv, head in node.router._heads.items():
            ((last,),) = look("SELECT last_seq FROM Conversation WHERE conv = ?", (conv,)) or ((0,),)
            if head != last:
                yield f"{life.name} has delivered {conv} up to {head}, the log ends at {last}"
        for connection in node.connections:
            if connection.lag or connection.own or connection.prefetched:
                yield f"{life.name}: a connection lags behind: {connection.lag}, {connection.own}"
        if node.writer.queued or node.presence.busy:
            yield f"{life.name}: the writer or presence still has work"
    rows = "SELECT n.name, p.userid FROM Presence p JOIN Node n ON n.id = p.node"
    noted = {(str(name), userid) for name, userid in look(rows)}
    if noted != here.keys():
        yield f"Presence has {sorted(noted)}, connected are {sorted(here)}"
    if strays := look("SELECT * FROM Presence WHERE node NOT IN (SELECT id FROM Node)"):
        yield f"Presence on nodes that are no more: {strays}"
    states = dict(look("SELECT id, state FROM User"))
    online = {userid for _, userid in here}
    for userid, state in states.items():
        if (state == "online") != (userid in online):
            yield f"user {userid} is noted as {state}, and is connected to {[n for n, u in here if u == userid]}"
    yield from _seen(world, devices)


def _relations(world: World, name: str, router: Router) -> Iterator[str]:
    """What a node remembers of memberships and blocks, compared with the database."""
    look = world.cluster.engine.look
    for userid, account in router.accounts.items():
        groups = {group for (group,) in look("SELECT groupid FROM GroupUser WHERE userid = ?", (userid,))}
        if groups != account.groups.keys():
            yield f"{name} believes user {userid} to be in {sorted(account.groups)}, and he is in {sorted(groups)}"
        rows = "SELECT userid, other FROM Block WHERE blocked = 1 AND ? IN (userid, other)"
        apart = {user for pair in look(rows, (userid,)) for user in pair} - {userid}
        if apart != account.apart:
            yield f"{name} believes user {userid} to be apart from {sorted(account.apart)}, and it is {sorted(apart)}"


def _seen(world: World, devices: Sequence[ModernDevice | ClassicDevice]) -> Iterator[str]:
    """Everybody is there: so every friend is online to everybody, but to those from whom he is apart."""
    blocks = world.cluster.engine.look("SELECT userid, other FROM Block WHERE blocked = 1")
    apart = {*blocks, *((other, user) for user, other in blocks)}
    for device in devices:
        if isinstance(device, ModernDevice) and device.session is not None:
            for friend, state in device.session.friends.items():
                if (state == "online") == ((device.account.id, friend) in apart):
                    yield f"{device.name} believes user {friend} to be {state}, and everybody is there"


def left_behind(world: World) -> Iterator[str]:
    """What the nodes still have after everybody has left."""
    for life in world.cluster.lives:
        if life.server is None:
            continue
        node, router = life.server.node, life.server.node.router
        for name in (
            "accounts",
            "_groups",
            "_watchers",
            "_states",
            "_heads",
            "_holes",
            "_ahead",
            "_loading",
            "_unheard",
        ):
            if left := getattr(router, name):
                yield f"{life.name}: after everybody left the router has {name}: {left}"
        if node.connections:
            yield f"{life.name}: after everybody left it has {len(node.connections)} connections"
        if node.writer.queued or node.presence.busy or node.receipts._moves:
            yield f"{life.name}: after everybody left there is work"
        if channels := [channel for channel in life.bus._channels if channel not in {"presence", "logins"}]:
            yield f"{life.name}: after everybody left it is subscribed to {channels}"
    online = world.cluster.engine.look("SELECT id, state FROM User WHERE state <> 'offline'")
    if online:
        yield f"after everybody left there are online: {online}"
    if rows := world.cluster.engine.look("SELECT * FROM Presence"):
        yield f"after everybody left Presence has {rows}"
