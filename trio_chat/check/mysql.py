"""A MySQL or MariaDB server, looked over: what it is, how it is set, and what its user may do."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Mapping

import attrs
import trio

from trio_chat.check.finding import Finding, note, ok, problem, warning
from trio_chat.check.mysql_rights import Rights, read_grants
from trio_chat.check.schema import check_schema
from trio_chat.check.settings import is_local
from trio_chat.config import Settings
from trio_chat.errors import StartupError
from trio_chat.store.mysql import MySQL, MySQLOptions
from trio_chat.store.mysql_driver import Connection, ConnectionLost
from trio_chat.store.mysql_durability import SETTINGS, read_settings, weaknesses
from trio_chat.store.mysql_protocol import ServerError
from trio_chat.writer import BATCH_CHARACTERS

__all__ = ["Facts", "check_mysql", "check_transit", "judge"]

_PART = "database"
_VARIABLES = (
    *SETTINGS,
    *("binlog_format", "innodb_doublewrite", "max_allowed_packet", "max_connections", "max_user_connections"),
    *("innodb_force_primary_key", "read_only", "sql_require_primary_key", "super_read_only", "wsrep_on"),
)
#: Connections that others need: migrations, a backup, an operator.
_OTHERS = 5
#: A character has 4 bytes at most, and the statement's own text and the other columns need some.
_BATCH_BYTES = BATCH_CHARACTERS * 4 + (1 << 20)


@attrs.frozen(kw_only=True)
class Facts:
    """What a server said. `clock` is how far its clock is ahead of ours, `trip` a round trip, both in seconds.

    `made` says whether our schema is there, and `schema` what is to be said about it; `tables` are those that have
    another engine than InnoDB, `nodes` the names of those that note themselves as alive, each with its bus.
    """

    version: str
    variables: Mapping[str, str]
    isolation: str
    charset: str
    rights: Rights
    clock: float
    trip: float
    tables: tuple[str, ...] = ()
    nodes: Mapping[str, str] = attrs.field(factory=dict)
    made: bool = True
    schema: tuple[Finding, ...] = ()


async def check_mysql(options: MySQLOptions, settings: Settings) -> list[Finding]:
    """Look at the server; what goes wrong is a finding too. Cancelling is safe."""
    database = MySQL(options)
    try:
        with trio.fail_after(max(10.0, options.timeout)):
            async with database.session() as connection:
                facts = await _ask(connection, options.database)
    except StartupError as error:
        return [problem(_PART, str(error)), *check_transit(options)]
    except (ConnectionLost, ServerError, trio.TooSlowError) as error:
        reason = str(error) or "no answer in time"
        return [problem(_PART, f"{database!r} cannot be looked at: {reason}", "see the database's own log")]
    return [
        ok(_PART, f"{options.place} answers in {facts.trip * 1000:.1f} ms: {facts.version}"),
        *check_transit(options),
        *judge(facts, settings),
    ]


async def _ask(connection: Connection, database: str) -> Facts:
    began, asked = time.monotonic(), time.time()
    now = (await connection.execute("SELECT CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)")).rows[0][0] / 1000
    trip = time.monotonic() - began
    isolation = await connection.execute(
        "SHOW SESSION VARIABLES WHERE Variable_name IN ('tx_isolation', 'transaction_isolation')"
    )
    charset = await connection.execute("SELECT @@character_set_database")
    grants = await connection.execute("SHOW GRANTS FOR CURRENT_USER()")
    tables = await connection.execute(
        "SELECT table_name, engine FROM information_schema.tables "
        "WHERE table_schema = DATABASE() AND table_type = 'BASE TABLE'"
    )
    names = {str(name).lower() for name, _ in tables.rows}
    nodes = await connection.execute("SELECT name, bus FROM Node") if "node" in names else None
    return Facts(
        version=connection.version,
        variables=await read_settings(connection, _VARIABLES),
        isolation=str(isolation.rows[0][1]) if isolation.rows else "",
        charset=str(charset.rows[0][0]),
        rights=read_grants((str(row[0]) for row in grants.rows), database),
        clock=now - asked - trip / 2,
        trip=trip,
        tables=tuple(str(name) for name, engine in tables.rows if str(engine).lower() != "innodb"),
        nodes={str(name): str(bus) for name, bus in nodes.rows} if nodes else {},
        made="schemaversion" in names,
        schema=tuple(await check_schema(connection, sqlite=False)),
    )


def check_transit(options: MySQLOptions) -> Iterator[Finding]:
    if options.tls is not None and not options.tls.check_hostname:
        yield note(
            _PART,
            "the name in the database's certificate is not looked at: any server that its authority vouches for will do",
            "ssl=verify, with a certificate for the host's name",
        )
    elif options.tls is None and not options.unix_socket and not is_local(options.host):
        yield warning(
            _PART,
            f"messages and password hashes cross the network readable on the way to {options.place}",
            "ssl=verify, or ssl_ca=FILE, in the database URL",
        )
    if not options.password and not options.unix_socket:
        yield warning(_PART, f"the user {options.user!r} has no password", "ALTER USER … IDENTIFIED BY '…'")


def judge(facts: Facts, settings: Settings) -> Iterator[Finding]:
    """What the facts mean for the server."""
    yield from _version(facts.version)
    yield from facts.schema
    yield from _rights(facts.rights)
    yield from _durability(facts.variables)
    yield from _transactions(facts)
    yield from _nodes(facts.nodes, settings)
    yield _connections(facts, settings)
    yield _packet(facts.variables, settings)
    yield from _ready_to_write(facts)
    yield _clock(facts.clock)


def _version(version: str) -> Iterator[Finding]:
    maria = "mariadb" in version.lower()
    found = re.match(r"(\d+)\.(\d+)", version.removeprefix("5.5.5-") if maria else version)
    release = tuple(map(int, found.groups())) if found else (0, 0)
    oldest = (10, 6) if maria else (8, 0)
    if release < oldest:
        name = "MariaDB" if maria else "MySQL"
        yield problem(
            _PART,
            f"{version} is older than {name} {'.'.join(map(str, oldest))}, the oldest that is supported",
            f"a newer {name}",
        )


def _rights(rights: Rights) -> Iterator[Finding]:
    if rights.missing and rights.roles:
        yield note(
            _PART,
            f"the user's own rights lack {', '.join(rights.missing)}; whether its roles bring them cannot be seen",
            "grant them to the user itself",
        )
    elif rights.missing:
        yield problem(
            _PART,
            f"the user lacks {', '.join(rights.missing)} on the database",
            "GRANT ALL ON the database TO the user, and on nothing else",
        )
    if rights.everything:
        yield warning(
            _PART,
            f"the user may do more than it has to, on the whole server: {_some(sorted(rights.everything))}; "
            "whoever takes over trio-chat has that too",
            "a user for trio-chat alone, with GRANT ALL ON its database and on nothing else",
        )
    elif rights.others:
        yield note(_PART, f"the user may use other databases too: {_some(rights.others)}", "a user for trio-chat alone")
    elif not rights.missing:
        yield ok(_PART, "the user has the rights that are needed, on this database only")


def _some(names: list[str] | tuple[str, ...]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")


def _durability(variables: Mapping[str, str]) -> Iterator[Finding]:
    weak = weaknesses(variables)
    for each in weak:
        says = f"{each.setting} = {each.value}: acknowledged messages may be lost when {each.when}"
        # Promise 1 is about crashes. A loss of power is more than it says, and some insure themselves otherwise.
        lost_in_a_crash = each.setting == "innodb_flush_log_at_trx_commit" and each.value == "0"
        yield (problem if lost_in_a_crash else warning)(_PART, says, each.remedy)
    if variables.get("innodb_doublewrite", "ON").upper() in {"OFF", "0"}:
        yield note(
            _PART,
            "innodb_doublewrite is off: a loss of power may tear a page of 16 KiB",
            "turn it on, unless the storage writes 16 KiB at once or not at all",
        )
    if not weak:
        yield ok(_PART, "a commit is on disk before it is acknowledged")


def _transactions(facts: Facts) -> Iterator[Finding]:
    if facts.isolation.upper().replace(" ", "-") != "READ-COMMITTED":
        yield problem(_PART, f"the server gives its sessions {facts.isolation}", "allow READ COMMITTED")
    logged = facts.variables.get("log_bin", "OFF").upper() not in {"OFF", "0"}
    if logged and facts.variables.get("binlog_format", "ROW").upper() == "STATEMENT":
        yield problem(
            _PART,
            "binlog_format = STATEMENT: InnoDB then refuses every change made with READ COMMITTED",
            "SET GLOBAL binlog_format = ROW, and the same in the database's configuration file",
        )
    if facts.tables:
        yield problem(
            _PART,
            f"tables without transactions: {_some(facts.tables)}",
            "ALTER TABLE … ENGINE=InnoDB for each",
        )
    if facts.charset != "utf8mb4":
        yield warning(
            _PART,
            f"the database's character set is {facts.charset}: ours are set for each column, later ones may not be",
            "ALTER DATABASE … CHARACTER SET utf8mb4",
        )


def _nodes(nodes: Mapping[str, str], settings: Settings) -> Iterator[Finding]:
    local = settings.bus.startswith("local:")
    for name, bus in nodes.items():
        if name not in _own(settings) and (local or bus.startswith("local:")):
            yield warning(
                _PART,
                f"the node {name!r} with the bus {bus} uses this database, and they cannot hear each other; "
                "while it lives a start is refused",
                "the same redis://… for all nodes",
            )


def _own(settings: Settings) -> list[str]:
    """The names of the nodes that these settings make."""
    if settings.workers == 1:
        return [settings.node]
    return [f"{settings.node}/{number}" for number in range(1, settings.workers + 1)]


def _connections(facts: Facts, settings: Settings) -> Finding:
    nodes = len({*facts.nodes, *_own(settings)}) if settings.node else max(settings.workers, len(facts.nodes))
    wanted = nodes * 2 * settings.store_connections + _OTHERS
    limits = [int(facts.variables.get(name, "0")) for name in ("max_connections", "max_user_connections")]
    allowed = min((limit for limit in limits if limit), default=0)
    counted = f"{nodes} node{'s' * (nodes != 1)} with 2 x {settings.store_connections} connections (store_connections)"
    if 0 < allowed < wanted:
        return warning(
            _PART,
            f"max_connections or max_user_connections is {allowed}; {counted} and a few others need {wanted}",
            f"SET GLOBAL max_connections = {wanted} or more, or a smaller store_connections",
        )
    return ok(_PART, f"{allowed or 'any number of'} connections are allowed; {counted} need {wanted}")


def _packet(variables: Mapping[str, str], settings: Settings) -> Finding:
    allowed = int(variables.get("max_allowed_packet", "0"))
    wanted = max(_BATCH_BYTES, settings.limits.message * 2 + (1 << 20))
    if allowed < wanted:
        return problem(
            _PART,
            f"max_allowed_packet = {allowed:,}: a batch of messages may need {wanted:,}, and would fail",
            f"SET GLOBAL max_allowed_packet = {max(1 << 24, wanted)}, and the same in the database's configuration file",
        )
    return ok(_PART, f"a statement may have {allowed:,} bytes, and needs {wanted:,} at most")


def _ready_to_write(facts: Facts) -> Iterator[Finding]:
    on = {name for name, value in facts.variables.items() if value.upper() not in {"OFF", "0"}}
    if on & {"read_only", "super_read_only"}:
        yield problem(_PART, "the server is read-only: a replica?", "the URL of the primary")
    if (required := on & {"sql_require_primary_key", "innodb_force_primary_key"}) and not facts.made:
        yield problem(
            _PART,
            f"{required.pop()} is on: the table that counts migrations has no primary key",
            "turn it off until the schema is made",
        )
    if "wsrep_on" in on:
        yield note(
            _PART,
            "a Galera cluster: nodes of trio-chat that write to different members meet at commit, and try again",
            "the same member in every node's URL",
        )


def _clock(ahead: float) -> Finding:
    says = f"its clock is {abs(ahead):.1f} s {'ahead of' if ahead > 0 else 'behind'} this machine's"
    if abs(ahead) > 60:
        return warning(_PART, f"{says}: messages carry its time", "a time service (NTP) on both")
    if abs(ahead) > 1:
        return note(_PART, f"{says}: bus_delay_seconds is wrong by as much", "a time service (NTP) on both")
    return ok(_PART, "its clock agrees with this machine's")
