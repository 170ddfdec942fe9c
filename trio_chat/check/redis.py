"""A Redis server, looked over: does it answer and how fast, who else may use it, and does it bear a burst."""

from __future__ import annotations

import re
import ssl
import time
from collections.abc import Iterator
from typing import Any

import attrs
import hiredis
import trio

from trio_chat.bus.redis_publisher import Stream
from trio_chat.bus.redis_settings import RedisAddress, RedisLimits
from trio_chat.bus.redis_wire import INCOMPLETE, Answers, Broken, command, describe
from trio_chat.check.finding import Finding, note, ok, problem, warning
from trio_chat.check.settings import is_local

__all__ = ["Facts", "check_redis", "check_transit", "judge"]

_PART = "bus"
_OLDEST = (6, 0)
_PINGS = 5
#: The least that Redis should let a subscriber fall behind, in bytes: what a burst of a busy cluster takes.
_BURST = 8 << 20


@attrs.frozen(kw_only=True)
class Facts:
    """What Redis said; None where it does not let this user see it. `trip` is a round trip, in seconds."""

    info: dict[str, str] | None
    config: dict[str, str] | None
    trip: float


async def check_redis(address: RedisAddress) -> list[Finding]:
    """Look at the server; what goes wrong is a finding too. Cancelling is safe."""
    try:
        facts = await _ask(address)
    except (OSError, trio.BrokenResourceError, trio.TooSlowError, Broken, hiredis.HiredisError) as error:
        return [
            problem(
                _PART,
                f"{address} cannot be used: {describe(error)}; the nodes hear of each other only by looking into the "
                "database, once per `sweep`",
                "check that it runs, and host, port, user and password in the bus URL",
            ),
            *check_transit(address),
        ]
    return [*judge(facts, address), *check_transit(address)]


async def _ask(address: RedisAddress) -> Facts:
    limits = RedisLimits()
    tcp = await address.connect(limits)
    try:
        with trio.fail_after(limits.handshake_seconds + 2):
            stream: Stream = tcp
            if address.tls is not None:
                stream = trio.SSLStream(tcp, address.tls, server_hostname=address.host)
                await stream.do_handshake()
            session = _Session(stream)
            if address.password is not None:
                user = [address.username.encode()] if address.username else []
                await session.call(b"AUTH", *user, address.password.encode())
            trips = []
            for _ in range(_PINGS):
                began = time.monotonic()
                await session.call(b"PING")
                trips.append(time.monotonic() - began)
            # A subscriber may not do this, the publisher has to: on the channel that no node listens to.
            await session.call(b"PUBLISH", b"trio-chat:%d:check" % address.db, b"")
            info = await session.permitted(b"INFO")
            config = await session.permitted(b"CONFIG", b"GET", b"*")
    finally:
        await trio.aclose_forcefully(tcp)  # a TLS stream's own close waits for the other side
    return Facts(
        info=None
        if info is None
        else dict(re.findall(r"^(\w+):(.*?)\r?$", info.decode(errors="replace"), re.MULTILINE)),
        config=None if config is None else _pairs(config),
        trip=min(trips),
    )


def _pairs(flat: list[bytes]) -> dict[str, str]:
    words = [word.decode(errors="replace") for word in flat]
    return dict(zip(words[::2], words[1::2], strict=False))


@attrs.define
class _Session:
    """One command after the other."""

    _stream: Stream
    _answers: Answers = attrs.field(factory=Answers)

    async def call(self, *words: bytes) -> Any:
        """Raises `hiredis.ReplyError` where Redis refuses, `Broken` where it hangs up."""
        await self._stream.send_all(command(*words))
        while (answer := self._answers.next()) is INCOMPLETE:
            data = await self._stream.receive_some(65536)
            if not data:
                raise Broken("it closed the connection")
            self._answers.feed(bytes(data))
        if isinstance(answer, hiredis.ReplyError):
            raise answer
        return answer

    async def permitted(self, *words: bytes) -> Any:
        """The same; None where this user may not."""
        try:
            return await self.call(*words)
        except hiredis.ReplyError:
            return None


def judge(facts: Facts, address: RedisAddress) -> Iterator[Finding]:
    """What the facts mean for the nodes."""
    info, config = facts.info or {}, facts.config
    yield from _server(info, facts.trip, address)
    if config is None:
        yield note(
            _PART,
            "this user may not read Redis's settings, which is well; they were not looked at",
            "look at client-output-buffer-limit, bind and protected-mode yourself",
        )
    else:
        yield from _exposure(config, address)
        yield from _burst(config.get("client-output-buffer-limit", ""))
    if address.password is None and not is_local(address.host):
        yield warning(
            _PART,
            f"{address} lets everybody in who reaches it: he can pretend that messages have arrived, and cut nodes off",
            "requirepass, or better a user with +@connection +@pubsub and the channels trio-chat:*",
        )


def _server(info: dict[str, str], trip: float, address: RedisAddress) -> Iterator[Finding]:
    version = info.get("valkey_version") or info.get("redis_version", "")
    name = info.get("server_name", "redis").capitalize()
    yield ok(_PART, f"{address} answers in {trip * 1000:.1f} ms: {name} {version or 'of unknown version'}")
    found = re.match(r"(\d+)\.(\d+)", info.get("redis_version", ""))
    if found and tuple(map(int, found.groups())) < _OLDEST:
        yield problem(
            _PART,
            f"Redis {version} is older than {'.'.join(map(str, _OLDEST))}, the oldest that is supported",
            "a newer one",
        )
    if info.get("role") in {"slave", "replica"}:
        yield problem(
            _PART, "it is a replica: what is published there reaches nobody on the primary", "the URL of the primary"
        )
    if trip > 0.01:
        yield note(
            _PART,
            f"{trip * 1000:.0f} ms from here to Redis: messages to other nodes take that much longer",
            "a Redis nearer to the nodes",
        )


def _exposure(config: dict[str, str], address: RedisAddress) -> Iterator[Finding]:
    # Addresses with a "-" before them are optional.
    bound = [each.lstrip("-") for each in config.get("bind", "").split()]
    everywhere = not bound or any(each in {"*", "0.0.0.0", "::", "::*"} for each in bound)  # noqa: S104 - to look for it
    if everywhere and address.password is None:
        if config.get("protected-mode") == "no":
            yield problem(
                _PART,
                "Redis listens on all addresses, without a password, and protected-mode is off: who reaches it owns it",
                "requirepass and `bind` in redis.conf, and a firewall",
            )
        else:
            yield note(
                _PART, "Redis has no password; protected-mode keeps it to this machine", "requirepass in redis.conf"
            )
    elif address.password is None:
        yield note(
            _PART, "Redis has no password: every program that reaches it may use it", "requirepass in redis.conf"
        )


def _burst(setting: str) -> Iterator[Finding]:
    found = re.search(r"\bpubsub (\d+) (\d+) (\d+)", setting)
    if found is None:
        return
    hard, soft, seconds = map(int, found.groups())
    name = f"client-output-buffer-limit pubsub {hard} {soft} {seconds}"
    if hard == 0:
        yield note(
            _PART, f"{name}: a node that stands still makes Redis grow without bound", "pubsub 33554432 8388608 60"
        )
    elif min(hard, soft or hard) < _BURST:
        yield warning(
            _PART,
            f"{name}: Redis cuts nodes off in a burst, which then look into the database",
            f"CONFIG SET client-output-buffer-limit 'pubsub {max(hard, 4 * _BURST)} {_BURST} 60'",
        )
    else:
        yield ok(_PART, f"a node may fall {hard >> 20} MiB behind before Redis cuts it off")


def check_transit(address: RedisAddress) -> Iterator[Finding]:
    if address.tls is None:
        if not is_local(address.host):
            yield warning(
                _PART,
                f"messages and the password cross the network readable on the way to {address}",
                "rediss:// in the bus URL",
            )
    elif address.tls.verify_mode is ssl.CERT_NONE:
        yield warning(
            _PART,
            "the certificate of Redis is not verified: whoever stands between can read and forge everything",
            "ssl_ca_certs=FILE, and leave ssl_cert_reqs=none out",
        )
    elif not address.tls.check_hostname:
        yield note(_PART, "the name in Redis's certificate is not looked at", "leave ssl_check_hostname=false out")
