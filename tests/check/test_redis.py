"""`check` on a Redis: open to all, with a password, with too small a buffer, behind TLS, and on none."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.services.certificates import Authority
from trio_chat.bus.redis_settings import RedisAddress
from trio_chat.check.finding import Finding, Level
from trio_chat.check.redis import Facts, check_redis, judge
from trio_chat.verify.programs.redis import TLS, Redis


def bad(findings: list[Finding]) -> dict[Level, str]:
    """What is not as it should be; at most one finding of each level."""
    found = [each for each in findings if each.level is not Level.OK]
    assert len({each.level for each in found}) == len(found), found
    return {each.level: f"{each.says} | {each.do}" for each in found}


async def look(url: str) -> list[Finding]:
    return await check_redis(RedisAddress.parse(url))


async def test_a_redis_on_this_machine(redis: Redis) -> None:
    findings = await look(redis.url)
    assert list(bad(findings)) == [Level.NOTE]
    assert "no password" in bad(findings)[Level.NOTE]
    assert "answers in" in findings[0].says


async def test_a_small_buffer_and_an_open_door(redis: Redis) -> None:
    with redis.client() as client:
        before = str(client.config_get("client-output-buffer-limit")["client-output-buffer-limit"])
        client.config_set("client-output-buffer-limit", "pubsub 1048576 65536 10")
        # Not bound to all: it says so, which is all that is looked at.
        client.config_set("bind", "127.0.0.1 ::")
        try:
            findings = bad(await look(redis.url))
        finally:
            client.config_set("client-output-buffer-limit", before)
            client.config_set("bind", "127.0.0.1")
    assert "pubsub 1048576 65536 10" in findings[Level.WARNING]
    assert "who reaches it owns it" in findings[Level.PROBLEM]


async def test_a_user_of_its_own(redis: Redis) -> None:
    rights = ["+@connection", "+@pubsub"]
    with redis.client() as client:
        client.acl_setuser("chat", enabled=True, passwords=["+pw"], channels=["trio-chat:*"], categories=rights)
        client.acl_setuser("mute", enabled=True, passwords=["+pw"], categories=rights)
        try:
            findings = bad(await look(redis.url.replace("redis://", "redis://chat:pw@")))
            refused = bad(await look(redis.url.replace("redis://", "redis://chat:hunter2@")))
            mute = bad(await look(redis.url.replace("redis://", "redis://mute:pw@")))
        finally:
            client.acl_deluser("chat", "mute")
    assert list(findings) == [Level.NOTE]
    assert "may not read Redis's settings" in findings[Level.NOTE]
    assert "WRONGPASS" in refused[Level.PROBLEM]
    assert "hunter2" not in refused[Level.PROBLEM]
    assert "NOPERM" in mute[Level.PROBLEM] or "No permissions" in mute[Level.PROBLEM]


async def test_nobody_is_there() -> None:
    findings = bad(await look("redis://127.0.0.1:1/0"))
    assert list(findings) == [Level.PROBLEM]
    assert "Connection refused" in findings[Level.PROBLEM]


async def test_tls_that_is_not_verified(authority: Authority, tmp_path: Path) -> None:
    certificate = authority.issue("redis", "IP:127.0.0.1")
    tls = TLS(certificate.certificate, certificate.key, authority.certificate)
    with Redis(tmp_path, password="pw", tls=tls) as server:
        good = bad(await look(server.url))
        unverified = bad(await look(f"{server.url}&ssl_cert_reqs=none"))
    assert good == {}
    assert "not verified" in unverified[Level.WARNING]


@pytest.mark.parametrize(
    ("info", "config", "url", "level", "text"),
    [
        ({"redis_version": "5.0.14"}, None, "redis://localhost/0", Level.PROBLEM, "older than 6.0"),
        ({"role": "slave"}, None, "redis://localhost/0", Level.PROBLEM, "replica"),
        ({}, {"bind": "", "protected-mode": "yes"}, "redis://localhost/0", Level.NOTE, "protected-mode keeps it"),
        ({}, None, "redis://192.0.2.1/0", Level.WARNING, "lets everybody in"),
        (
            {},
            {"bind": "127.0.0.1", "client-output-buffer-limit": "normal 0 0 0 pubsub 0 0 0"},
            "redis://:pw@h/0",
            Level.NOTE,
            "without bound",
        ),
    ],
)
def test_what_no_server_at_hand_says(
    info: dict[str, str], config: dict[str, str] | None, url: str, level: Level, text: str
) -> None:
    findings = judge(Facts(info=info, config=config, trip=0.001), RedisAddress.parse(url))
    assert any(each.level is level and text in each.says for each in findings)


def test_a_valkey_and_a_long_way() -> None:
    info = {"server_name": "valkey", "redis_version": "7.2.4", "valkey_version": "8.0.1", "role": "master"}
    findings = list(judge(Facts(info=info, config={}, trip=0.05), RedisAddress.parse("redis://:pw@localhost/0")))
    assert "50.0 ms: Valkey 8.0.1" in findings[0].says
    assert [each.level for each in findings[1:]] == [Level.NOTE]
