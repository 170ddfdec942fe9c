"""What the URL of Redis may say, and that no error repeats its password."""

from __future__ import annotations

import pytest

from trio_chat.bus.redis import RedisBus
from trio_chat.bus.redis_settings import RedisAddress, RedisLimits
from trio_chat.bus.redis_wire import Broken, Heartbeat
from trio_chat.errors import StartupError


@pytest.mark.parametrize(
    ("url", "shown", "user", "password"),
    [
        ("redis://", "redis://localhost:6379/0", None, None),
        ("redis://host", "redis://host:6379/0", None, None),
        ("redis://host:7000/5", "redis://host:7000/5", None, None),
        ("redis://host?db=7", "redis://host:6379/7", None, None),
        ("redis://:p%40ss%2F@[::1]:7000/", "redis://[::1]:7000/0", None, "p@ss/"),
        ("redis://user:pass@host/1", "redis://host:6379/1", "user", "pass"),
        ("rediss://host:7000", "rediss://host:7000/0", None, None),
        ("rediss://host/?ssl_cert_reqs=none", "rediss://host:6379/0", None, None),
    ],
)
def test_urls(url: str, shown: str, user: str | None, password: str | None) -> None:
    address = RedisAddress.parse(url)
    assert str(address) == shown
    assert (address.username, address.password) == (user, password)
    assert password is None or password not in repr(address)
    assert (address.tls is not None) == url.startswith("rediss:")


@pytest.mark.parametrize(
    ("url", "named"),
    [
        ("", "must begin with redis://"),
        ("http://:hunter2@host", "must begin with redis://"),
        ("unix:///run/redis.sock", "must begin with redis://"),
        ("redis://:hunter2@host:many", "wrong host or port"),
        ("redis://:hunter2@host:99999", "wrong host or port"),
        ("redis://:hunter2@[::1", "wrong host or port"),
        ("redis://:hunter2@a..b", "wrong host or port"),
        ("redis://:hun/ter2@host", "wrong host or port"),
        ("redis://:1/hunter2@host", "percent-encode"),
        ("redis://:1?hunter2@host", "percent-encode"),
        ("redis://:1#hunter2@host", "percent-encode"),
        ("redis://:hun@ter2@host", "percent-encode"),
        ("redis://hunter2@host", "a user but no password"),
        ("redis://:hunter2@host/x", "must be a number"),
        ("redis://:hunter2@host/-1", "must be a number"),
        ("redis://:hunter2@host/1?db=2", "twice"),
        ("redis://:hunter2@host/#part", "#fragment"),
        ("redis://:hunter2@host/?max_connections=3", "max_connections"),
        ("redis://:hunter2@host/?ssl_ca_certs=x", "ssl_ca_certs in the Redis URL needs rediss://"),
        ("rediss://:hunter2@host/?ssl_ca_certs=/nowhere/ca.pem", "ssl_ca_certs"),
        ("rediss://:hunter2@host/?ssl_certfile=/nowhere/ca.pem", "ssl_certfile"),
        ("rediss://:hunter2@host/?ssl_keyfile=/nowhere/ca.pem", "ssl_keyfile"),
        ("rediss://:hunter2@host/?ssl_cert_reqs=maybe", "ssl_cert_reqs"),
        ("rediss://:hunter2@host/?ssl_check_hostname=maybe", "ssl_check_hostname"),
        ("rediss://:hunter2@host/?ssl_cert_reqs=none&ssl_cert_reqs=none", "twice"),
    ],
)
def test_a_wrong_url_is_named_without_its_password(url: str, named: str) -> None:
    with pytest.raises(StartupError) as caught:
        RedisBus(url)
    assert named in str(caught.value)
    assert "hun" not in str(caught.value)
    assert "ter2" not in str(caught.value)


def test_an_empty_prefix_is_refused() -> None:
    with pytest.raises(StartupError, match="prefix"):
        RedisBus("redis://host", prefix="")


def test_limits_are_more_than_nothing() -> None:
    with pytest.raises(ValueError, match="publish_bytes"):
        RedisLimits(publish_bytes=0)


def test_a_heartbeat_asks_once_and_then_gives_up() -> None:
    heartbeat = Heartbeat(RedisLimits(ping_seconds=0.5, silence_seconds=1.5))
    assert heartbeat.tick()
    assert not heartbeat.tick()
    heartbeat.heard()
    assert [heartbeat.tick() for _ in range(3)] == [True, False, False]
    with pytest.raises(Broken):
        heartbeat.tick()
