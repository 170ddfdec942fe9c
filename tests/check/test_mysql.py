"""`check` on a MariaDB: with settings that are weak on purpose, with too few rights and too many, and on none."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import attrs
import pytest
import trio

from tests.services.certificates import Authority
from trio_chat import Settings
from trio_chat.check.finding import Finding, Level
from trio_chat.check.mysql import Facts, check_mysql, check_transit, judge
from trio_chat.check.mysql_rights import NEEDED, Rights, read_grants
from trio_chat.store.mysql import MySQL
from trio_chat.store.mysql_options import parse_url
from trio_chat.store.schema import migrate, newest
from trio_chat.verify.programs.mariadb import MariaDB

USER = "checked"


@pytest.fixture(scope="module")
def migrated(mariadb: MariaDB) -> Iterator[str]:
    """A database with our schema, and a user who has the rights that are needed and no others."""
    name = "checked_db"
    mariadb.create_database(name)
    allow(mariadb, name, ", ".join(NEEDED))

    async def make() -> None:
        async with MySQL.from_url(url(mariadb, name), timeout=20).open() as database:
            await migrate(database)

    trio.run(make)  # which shows that NEEDED is enough
    yield name
    mariadb.drop_database(name)
    mariadb.sql(f"DROP USER {USER}")


def allow(mariadb: MariaDB, database: str, rights: str, place: str = "") -> None:
    mariadb.sql(
        f"CREATE OR REPLACE USER {USER} IDENTIFIED BY 'pw'; GRANT {rights} ON {place or f'`{database}`.*'} TO {USER}"
    )


def url(mariadb: MariaDB, database: str) -> str:
    return f"mysql://{USER}:pw@127.0.0.1:{mariadb.port}/{database}"


async def look(address: str, **settings: Any) -> list[Finding]:
    options = parse_url(address, timeout=3, pool=8)
    return await check_mysql(options, Settings(database=address, **settings))


def bad(findings: list[Finding]) -> dict[Level, str]:
    """What is not as it should be; at most one finding of each level."""
    found = [each for each in findings if each.level is not Level.OK]
    assert len({each.level for each in found}) == len(found), found
    return {each.level: f"{each.says} | {each.do}" for each in found}


@contextlib.contextmanager
def globally(mariadb: MariaDB, **settings: str | int) -> Iterator[None]:
    """With these settings of the server, for the while."""
    before = {name: mariadb.sql(f"SELECT @@GLOBAL.{name}")[0][0] for name in settings}

    def put(values: dict[str, str | int]) -> None:
        for name, value in values.items():
            mariadb.sql(f"SET GLOBAL {name} = {value if str(value).isdecimal() else repr(value)}")

    put(dict(settings))
    try:
        yield
    finally:
        put(dict(before))


async def test_all_is_well(mariadb: MariaDB, migrated: str) -> None:
    findings = await look(url(mariadb, migrated))
    assert bad(findings) == {}
    says = " | ".join(each.says for each in findings)
    for text in (
        "MariaDB",
        f"version {newest()}",
        "on this database only",
        "on disk",
        "connections are allowed",
        "clock",
    ):
        assert text in says


@pytest.mark.parametrize(
    ("setting", "value", "level", "text"),
    [
        ("innodb_flush_log_at_trx_commit", 0, Level.PROBLEM, "database server or its machine crashes"),
        ("innodb_flush_log_at_trx_commit", 2, Level.WARNING, "SET GLOBAL innodb_flush_log_at_trx_commit = 1"),
        ("max_connections", 12, Level.WARNING, "1 node with 2 x 8 connections"),
        ("max_allowed_packet", 1 << 20, Level.PROBLEM, "SET GLOBAL max_allowed_packet = 16777216"),
        ("read_only", 1, Level.PROBLEM, "read-only"),
    ],
)
async def test_a_weak_setting_is_told(
    mariadb: MariaDB, migrated: str, setting: str, value: int, level: Level, text: str
) -> None:
    with globally(mariadb, **{setting: value}):
        findings = bad(await look(url(mariadb, migrated)))
    assert list(findings) == [level]
    assert text in findings[level]


async def test_nodes_that_are_alive_are_counted(mariadb: MariaDB, migrated: str) -> None:
    mariadb.sql(
        "INSERT INTO Node (name, bus) VALUES ('one', 'redis://h'), ('two', 'redis://h'), ('three', 'redis://h')",
        migrated,
    )
    try:
        with globally(mariadb, max_connections=50):
            assert "3 nodes" in bad(await look(url(mariadb, migrated), bus="redis://h"))[Level.WARNING]
            assert bad(await look(url(mariadb, migrated), bus="redis://h", store_connections=4)) == {}
    finally:
        mariadb.sql("DELETE FROM Node", migrated)


def test_nodes_that_cannot_hear_each_other() -> None:
    for bus in ("local:", "redis://h/0"):
        facts = attrs.evolve(GOOD, nodes={"other": bus})
        findings = list(judge(facts, Settings(database="mysql://me:pw@h/d", bus="local:", node="one")))
        assert "'other'" in bad(findings)[Level.WARNING]
        assert bad(list(judge(facts, Settings(database="mysql://me:pw@h/d", bus="local:", node="other")))) == {}


async def test_rights(mariadb: MariaDB, migrated: str) -> None:
    try:
        few = ", ".join(right for right in NEEDED if right not in {"ALTER", "CREATE VIEW"})
        allow(mariadb, migrated, few)
        assert "lacks ALTER, CREATE VIEW" in bad(await look(url(mariadb, migrated)))[Level.PROBLEM]
        allow(mariadb, migrated, "ALL")
        assert bad(await look(url(mariadb, migrated))) == {}
        allow(mariadb, migrated, "ALL", "*.*")
        assert "ALL PRIVILEGES" in bad(await look(url(mariadb, migrated)))[Level.WARNING]
        allow(mariadb, migrated, "ALL")
        mariadb.sql(f"GRANT FILE, SUPER ON *.* TO {USER}; GRANT SELECT ON mysql.* TO {USER}")
        assert "FILE, SUPER" in bad(await look(url(mariadb, migrated)))[Level.WARNING]
    finally:
        allow(mariadb, migrated, ", ".join(NEEDED))


async def test_a_database_of_another_kind(mariadb: MariaDB, migrated: str, mysql_database: str) -> None:
    address = f"mysql://root@127.0.0.1:{mariadb.port}/{mysql_database}"

    async def says(level: Level) -> str:
        found = [each.says for each in await look(address) if each.level is level]
        return " | ".join(found)

    assert "no schema yet" in await says(Level.NOTE)
    assert "no password" in await says(Level.WARNING)
    mariadb.sql("CREATE TABLE User (id INT PRIMARY KEY) ENGINE=MyISAM", mysql_database)
    problems = await says(Level.PROBLEM)
    assert "tables that trio-chat did not make (user)" in problems
    assert "tables without transactions: User" in problems
    mariadb.sql(f"ALTER DATABASE `{mysql_database}` CHARACTER SET latin1", mysql_database)
    assert "latin1" in await says(Level.WARNING)


async def test_a_server_that_is_not_there(mariadb: MariaDB, migrated: str) -> None:
    (finding,) = await look("mysql://me:hunter2@127.0.0.1:1/d")
    assert finding.level is Level.PROBLEM
    assert "Connection refused" in finding.says
    (finding,) = await look(f"mysql://{USER}:hunter2@127.0.0.1:{mariadb.port}/{migrated}")
    assert finding.level is Level.PROBLEM
    assert "refuses the user" in finding.says
    assert "hunter2" not in finding.says


async def test_the_way_there(mariadb: MariaDB, migrated: str, authority: Authority) -> None:
    far = list(check_transit(parse_url("mysql://me:pw@db.example/d", timeout=3, pool=8)))
    assert "readable on the way" in bad(far)[Level.WARNING]
    unnamed = f"{url(mariadb, migrated)}?ssl=verify-ca&ssl_ca={authority.certificate}"
    assert "certificate is not looked at" in bad(await look(unnamed))[Level.NOTE]


# --- What no server at hand says ---

GOOD = Facts(
    version="8.0.36",
    variables={"max_connections": "151", "max_allowed_packet": "67108864", "innodb_flush_log_at_trx_commit": "1"},
    isolation="READ-COMMITTED",
    charset="utf8mb4",
    rights=Rights(frozenset(), frozenset(NEEDED), (), roles=False),
    clock=0.0,
    trip=0.001,
)


def judged(facts: Facts, **variables: str) -> dict[Level, str]:
    settings = Settings(database="mysql://me:pw@h/d")
    return bad(list(judge(attrs.evolve(facts, variables={**facts.variables, **variables}), settings)))


def test_a_good_mysql_8() -> None:
    assert judged(GOOD) == {}


@pytest.mark.parametrize(
    ("version", "old"),
    [
        ("5.7.44-log", True),
        ("8.4.0", False),
        ("5.5.5-10.5.23-MariaDB", True),
        ("10.6.18-MariaDB", False),
        ("5.5.5-10.11.6-MariaDB", False),
    ],
)
def test_old_versions(version: str, old: bool) -> None:
    assert (list(judged(attrs.evolve(GOOD, version=version))) == [Level.PROBLEM]) is old


@pytest.mark.parametrize(
    ("variables", "level", "text"),
    [
        ({"log_bin": "ON", "sync_binlog": "0"}, Level.WARNING, "sync_binlog"),
        ({"log_bin": "ON", "binlog_format": "STATEMENT"}, Level.PROBLEM, "binlog_format"),
        ({"innodb_doublewrite": "OFF"}, Level.NOTE, "innodb_doublewrite"),
        ({"max_user_connections": "10"}, Level.WARNING, "10"),
        ({"wsrep_on": "ON"}, Level.NOTE, "Galera"),
        ({"super_read_only": "ON"}, Level.PROBLEM, "read-only"),
    ],
)
def test_other_settings(variables: dict[str, str], level: Level, text: str) -> None:
    assert text in judged(GOOD, **variables)[level]


def test_workers_are_nodes() -> None:
    settings = Settings(database="mysql://me:pw@h/d", bus="redis://h", node="one", workers=10)
    for nodes in ({}, {"one/1": "redis://h", "one/2": "redis://h"}):
        assert "10 nodes" in bad(list(judge(attrs.evolve(GOOD, nodes=nodes), settings)))[Level.WARNING]


def test_a_primary_key_for_each_table_is_asked_for() -> None:
    assert judged(GOOD, sql_require_primary_key="ON") == {}
    assert "primary key" in judged(attrs.evolve(GOOD, made=False), sql_require_primary_key="ON")[Level.PROBLEM]


@pytest.mark.parametrize(("ahead", "level"), [(-0.5, None), (2.0, Level.NOTE), (-90.0, Level.WARNING)])
def test_clocks(ahead: float, level: Level | None) -> None:
    assert list(judged(attrs.evolve(GOOD, clock=ahead))) == ([level] if level else [])


@pytest.mark.parametrize(
    ("lines", "everything", "ours", "others"),
    [
        (
            ["GRANT USAGE ON *.* TO `u`@`%` IDENTIFIED BY PASSWORD '*81F5E21E35407D884A6CD4A731AEBFB6AF209E1B'"],
            "",
            "",
            "",
        ),
        (["GRANT ALL PRIVILEGES ON `chat`.* TO `u`@`%`"], "", "ALL PRIVILEGES", ""),
        (["GRANT SELECT, INSERT (a, b) ON `chat`.* TO `u`@`%`"], "", "INSERT SELECT", ""),
        (["GRANT SELECT ON `chat`.`User` TO `u`@`%`"], "", "", ""),
        (["GRANT SELECT ON `c_at`.* TO `u`@`%`", r"GRANT DROP ON `c\_at`.* TO `u`@`%`"], "", "SELECT", "c\\_at"),
        (["GRANT SELECT ON `%`.* TO `u`@`%`"], "", "SELECT", ""),
        (["GRANT CREATE ON `wi``th`.* TO `u`@`%` WITH GRANT OPTION"], "", "", "wi`th"),
        (["GRANT SUPER ON *.* TO `u`@`%` WITH GRANT OPTION"], "GRANT OPTION SUPER", "", ""),
        (["GRANT XA_RECOVER_ADMIN,ROLE_ADMIN ON *.* TO `u`@`%`"], "ROLE_ADMIN XA_RECOVER_ADMIN", "", ""),
        (["GRANT PROXY ON ''@'%' TO 'root'@'localhost' WITH GRANT OPTION", "nonsense"], "", "", ""),
    ],
)
def test_grants_are_read(lines: list[str], everything: str, ours: str, others: str) -> None:
    rights = read_grants(lines, "chat")
    assert (" ".join(sorted(rights.everything)), " ".join(sorted(rights.ours))) == (everything, ours)
    assert (" ".join(rights.others), rights.roles) == (others, False)


def test_a_role_may_bring_rights() -> None:
    rights = read_grants(["GRANT `chatters`@`%` TO `u`@`%`", "GRANT USAGE ON *.* TO `u`@`%`"], "chat")
    assert rights.roles
    assert list(judged(attrs.evolve(GOOD, rights=rights))) == [Level.NOTE]
