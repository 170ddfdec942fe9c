"""Parts about being away and being there: offline messages, idle connections, storms of logins."""

from __future__ import annotations

import socket
import ssl
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

import attrs

from bench.certificate import self_signed
from bench.dialects import Client, Native
from bench.generator import Generator, LoggedIn
from bench.machine import CpuTimes, memory_kib
from bench.parts import Context, Figure, Part, Run, measured_run, pairs
from bench.population import PASSWORD
from bench.systems import ClusterSystem, Need, OwnPlace, OwnSystem, Place, SQLiteSystem, System

__all__ = ["crowd_parts"]

#: As many as one client of trio-chat may have in flight before it is read more slowly.
_PIPELINED = 200
_STORM_LOAD = 1000.0
_TLS_AT_A_TIME = 4
#: Connections come from several addresses, each of which has about 28,000 ports.
_ADDRESSES = ("127.0.0.1", "127.0.0.2", "127.0.0.3")


def crowd_parts() -> list[Part]:
    return [
        Part(["store-pipelined", "drain"], _offline, lambda system: system.absent_users),
        Part(["store-one"], _store_one, lambda system: system.absent_users),
        Part(["idle", "reconnect"], _crowd, _is_one_server),
        # What these cost does not depend on the database.
        Part(["idle-websocket"], _idle_websocket, _is_embedded),
        Part(["idle-tls"], _idle_tls, _is_embedded),
        Part(["login-password"], _login_password, _is_own),
        Part(["login-token"], _login_token, _is_own),
    ]


def _is_one_server(system: System) -> bool:
    return not isinstance(system, ClusterSystem)


def _is_own(system: System) -> bool:
    return isinstance(system, OwnSystem) and _is_one_server(system)


def _is_embedded(system: System) -> bool:
    return isinstance(system, SQLiteSystem)


def _offline(system: System, context: Context) -> Iterator[Figure]:
    """Messages are stored for somebody who is away, and then he comes."""
    count = context.sizes.offline
    stores: list[Run] = []
    drains: list[Run] = []
    with (
        system.open(context.directory, Need(2, storing=frozenset({0}))) as place,
        context.generator(system, place.clients, [place.direct(0, 0, 1)]) as generator,
    ):
        generator.login(0, 1)
        for number in range(1, context.runs + 1):
            stores.append(measured_run(generator.store(place.pids, in_flight=_PIPELINED, messages=count)))
            drained = generator.drain(1)
            generator.close(1, 1)
            if drained.messages != count:
                raise AssertionError(f"{drained.messages} of {count} messages waited")
            drains.append({"ms": drained.seconds * 1000})
            context.tell(
                f"{system.name}/store-pipelined and drain {number}/{context.runs}: rate {stores[-1]['rate']:,.5g}, "
                f"ms {drains[-1]['ms']:.1f}"
            )
    yield Figure(system.name, "store-pipelined", f"offline: storing {count:,}, pipelined", "messages", stores)
    yield Figure(system.name, "drain", f"offline: draining {count:,}", "drains", drains)


def _store_one(system: System, context: Context) -> Iterator[Figure]:
    count = context.sizes.one_at_a_time
    with (
        system.open(context.directory, Need(2, storing=frozenset({0}))) as place,
        context.generator(system, place.clients, [place.direct(0, 0, 1)]) as generator,
    ):
        generator.login(0, 1)

        def run() -> Run:
            return measured_run(generator.store(place.pids, in_flight=1, messages=count))

        yield context.repeat(system, "store-one", "offline: storing one at a time", "messages", run)


def _login_run(logins: LoggedIn) -> Run:
    return {
        "rate": logins.count / logins.seconds,
        **{f"login_{name}": time / 1e6 for name, time in zip(("p50", "p99", "max"), logins.login_ns, strict=True)},
    }


def _spread(clients: Sequence[Client]) -> list[Client]:
    return [attrs.evolve(client, source=_ADDRESSES[number % len(_ADDRESSES)]) for number, client in enumerate(clients)]


def _crowd(system: System, context: Context) -> Iterator[Figure]:
    """All come one after the other and are idle, some times; then all come at once, some times."""
    count = context.sizes.idle
    with (
        system.open(context.directory, Need(count)) as place,
        context.generator(system, _spread(place.clients)) as generator,
    ):
        (pid,) = place.pids["server"]
        before = memory_kib(pid)

        def idle() -> Run:
            generator.login()
            run = _idle_run(place, before, count, context.sizes.idle_seconds)
            _leave(generator)
            return run

        def reconnect() -> Run:
            logins = generator.login(concurrency=min(count, system.at_once))
            _leave(generator)
            return _login_run(logins)

        if context.wanted(f"{system.name}/idle"):
            yield context.repeat(system, "idle", f"idle: {count:,} connections", "connections", idle)
        if context.wanted(f"{system.name}/reconnect"):
            yield context.repeat(system, "reconnect", f"{count:,} reconnect at once", "logins", reconnect)


def _leave(generator: Generator) -> None:
    generator.close()
    time.sleep(1)  # what is to be done about it shall not be measured with what follows


def _idle_run(place: Place, before: int, count: int, seconds: float) -> Run:
    (pid,) = place.pids["server"]
    time.sleep(min(1.0, seconds))  # what a login leaves to be done
    begin = CpuTimes.now(place.pids)
    time.sleep(seconds)
    after = CpuTimes.now(place.pids)
    spent = after.since(begin)
    return {
        "kib": (memory_kib(pid) - before) / count,
        **{f"percent_{name}": 100 * spent[name] / (after.at - begin.at) for name in place.pids},
    }


def _idle_websocket(system: System, context: Context) -> Iterator[Figure]:
    count = context.sizes.idle
    with system.open(context.directory, Need(count)) as place:
        assert isinstance(place, OwnPlace)
        clients = [
            attrs.evolve(client, port=place.http, steps=Native.websocket(client.steps), pong=Native.websocket_pong)
            for client in _spread(place.clients)
        ]
        (pid,) = place.pids["server"]
        before = memory_kib(pid)
        with context.generator(system, clients) as generator:

            def run() -> Run:
                generator.login()
                idle = _idle_run(place, before, count, context.sizes.idle_seconds)
                _leave(generator)
                return idle

            yield context.repeat(system, "idle-websocket", f"idle: {count:,} WebSockets", "connections", run)


def _idle_tls(system: System, context: Context) -> Iterator[Figure]:
    """The load generator speaks no TLS: this is done here, a few at a time."""
    count = context.sizes.idle
    certificate, key = self_signed(context.directory)
    options = ["--tls-cert", str(certificate), "--tls-key", str(key), "--heartbeat", "600"]
    with system.open(context.directory, Need(count, options=options)) as place:
        (pid,) = place.pids["server"]
        before = memory_kib(pid)
        trust = ssl.create_default_context(cafile=certificate)

        def run() -> Run:
            with ThreadPoolExecutor(_TLS_AT_A_TIME) as threads, ExitStack() as stack:
                for connection in threads.map(lambda client: _tls_login(trust, client), place.clients):
                    stack.enter_context(connection)
                return _idle_run(place, before, count, context.sizes.idle_seconds)

        yield context.repeat(system, "idle-tls", f"idle: {count:,} over TLS", "connections", run)


def _tls_login(trust: ssl.SSLContext, client: Client) -> ssl.SSLSocket:
    plain = socket.create_connection(("127.0.0.1", client.port), timeout=20.0)
    secure = trust.wrap_socket(plain, server_hostname="localhost")
    (step,) = client.steps
    secure.sendall(step.send)
    answer = b""
    while step.expect not in answer:
        more = secure.recv(65536)
        if not more:
            raise ConnectionError("the server closed a connection during its login")
        answer += more
    return secure


def _login_password(system: System, context: Context) -> Iterator[Figure]:
    count = context.sizes.password_logins
    yield from _storm(
        system, context, "login-password", count, f"{count:,} logins by password, under load", password=True
    )


def _login_token(system: System, context: Context) -> Iterator[Figure]:
    count = context.sizes.logins
    yield from _storm(system, context, "login-token", count, f"{count:,} logins by token, under load", password=False)


def _storm(
    system: System, context: Context, workload: str, count: int, title: str, *, password: bool
) -> Iterator[Figure]:
    """Logins, fifty at a time, while 50 pairs chat at 1,000 messages a second: `delivery_p99` is theirs."""
    sizes = context.sizes
    chatting = 2 * min(50, sizes.rate_pairs)
    with system.open(context.directory, Need(chatting + count)) as place:
        assert isinstance(place, OwnPlace)
        clients = place.clients[chatting:]
        if password:
            clients = [
                attrs.evolve(client, steps=Native.password(account.id, PASSWORD))
                for client, account in zip(clients, place.population.accounts[chatting:], strict=True)
            ]
        links = pairs(place, chatting // 2)
        quiet, storming = context.directory / "quiet", context.directory / "storming"
        for folder in (quiet, storming):
            folder.mkdir()
        with (
            Generator(system.generator, quiet, place.clients[:chatting], links) as chat,
            Generator(system.generator, storming, _spread(clients)) as storm,
            ThreadPoolExecutor(1) as threads,
        ):
            chat.login()

            def run() -> Run:
                load = threads.submit(
                    lambda: chat.load(place.pids, rate=_STORM_LOAD, warmup=sizes.warmup, measured=sizes.measured)
                )
                done: list[LoggedIn] = []
                while not load.done():
                    done.append(storm.login())
                    storm.close()
                longest = max(done, key=lambda logins: logins.login_ns[-1])
                seconds = sum(logins.seconds for logins in done)
                logins = LoggedIn(sum(logins.count for logins in done), seconds, longest.login_ns)
                return {**_login_run(logins), "delivery_p99": load.result().delivery_ns[1] / 1e6}

            yield context.repeat(system, workload, title, "logins", run)
