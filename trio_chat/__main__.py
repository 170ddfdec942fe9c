"""The command line: `trio-chat` and `python -m trio_chat`; the only place that calls `trio.run` for the server."""

from __future__ import annotations

import argparse
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import trio

from trio_chat import __version__
from trio_chat.config import Settings, load, setting_names
from trio_chat.errors import StartupError, startup_error
from trio_chat.signals import Order, Orders, open_orders

if TYPE_CHECKING:
    from trio_chat.serving import Server

__all__ = ["main"]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the program and return its exit status: 0 done, 1 failed, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        status: int = options.run(options)
    except StartupError as error:
        print(f"trio-chat: {error}", file=sys.stderr)
        return 2
    except KeyboardInterrupt:
        return 130
    return status


def _parser() -> argparse.ArgumentParser:
    from trio_chat import invite, operators
    from trio_chat.check import command as check
    from trio_chat.client import script, terminal
    from trio_chat.verify import command as verify

    parser = argparse.ArgumentParser(prog="trio-chat", description="A self-hosted chat server, and clients for it.")
    parser.add_argument("--version", action="version", version=f"trio-chat {__version__}")
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    serve = commands.add_parser(
        "serve",
        help="run the server; without arguments: SQLite, one node, 127.0.0.1:6000",
        description="Run the server. Every setting can also come from TRIO_CHAT_NAME in the environment or from the "
        "TOML file, and with TRIO_CHAT_NAME_FILE from a file that has nothing else in it; a flag goes before the environment, the "
        "environment before the file.",
    )
    serve.set_defaults(run=_serve)
    _add_settings(serve)

    checker = commands.add_parser(
        "check",
        help="look the settings, the database and Redis over, and say what to do",
        description="Look over what the server would run on with the same settings: the settings themselves, the database, "
        "Redis. Nothing is changed.",
    )
    _add_settings(checker)
    check.add_arguments(checker)
    checker.set_defaults(run=lambda options: check.main(options, _settings(options), trio.run))

    inviter = commands.add_parser(
        "invite",
        help="make a code with which somebody can register",
        description="Make a code with which somebody can register where --registration is invitation. It takes the settings of "
        "the server, for its database; servers may be running.",
    )
    _add_settings(inviter)
    invite.add_arguments(inviter)
    inviter.set_defaults(run=_invite)

    operator = commands.add_parser(
        "account",
        help="disable somebody's account, or enable it again",
        description="Disable an account: its logins end on every node within moments, and it cannot log in until it is enabled "
        "again. It takes the settings of the server, for its database; servers may be running.",
    )
    operators.add_arguments(operator)
    _add_settings(operator)
    operator.set_defaults(run=_account)

    # Not for people, and so not in the list: how `serve --workers` starts each of them.
    commands.add_parser("worker").set_defaults(run=_work)

    client = commands.add_parser("client", help="chat in the terminal")
    terminal.add_arguments(client)
    client.set_defaults(run=terminal.main)
    player = commands.add_parser("script", help="play scenarios of several people against a server")
    script.add_arguments(player)
    player.set_defaults(run=script.main)
    verifier = commands.add_parser(
        "verify",
        help="load a server, break it, and check that it kept its promises",
        description="Load a server with clients that write and read, break what it stands on, and check afterwards that "
        "every promise of docs/guarantees.md was kept.",
    )
    verify.add_arguments(verifier)
    verifier.set_defaults(run=lambda options: verify.main(options, trio.run))
    return parser


def _add_settings(command: argparse.ArgumentParser) -> None:
    """Declare the flags of all settings; `_settings` reads them."""
    command.add_argument("--config", metavar="FILE.toml", type=Path, help="read settings from this file")
    limits = []
    for name, field in setting_names():
        doc, metavar = field.metadata["doc"], field.metadata["metavar"]
        if name.startswith("limits."):
            limits.append(f"{name.removeprefix('limits.')}: {doc} ({field.default})")
            continue
        flag = f"--{name.replace('_', '-')}"
        if field.default is False:
            command.add_argument(flag, action="store_const", const=True, help=doc)
        elif type(field.default) is tuple:
            default = "".join(f"; default {each}" for each in field.default)
            command.add_argument(flag, action="append", metavar=metavar, help=doc + default)
        else:
            default = f"; default {field.default}" if field.default not in {"", None} else ""
            command.add_argument(flag, metavar=metavar or name.upper(), help=f"{doc}{default}".replace("%", "%%"))
    command.add_argument(
        "--limit",
        action="append",
        metavar="NAME=VALUE",
        default=[],
        help="set a limit (repeatable): " + "; ".join(limits),
    )


def _settings(options: argparse.Namespace) -> Settings:
    return load(_flags(options), file=options.config)


def _flags(options: argparse.Namespace) -> dict[str, object]:
    """What the command line gives, by the settings' names."""
    flags: dict[str, object] = {}
    for name, _ in setting_names():
        given = getattr(options, name, None)
        if given is not None:
            flags[name] = given
    for limit in options.limit:
        name, equals, value = limit.partition("=")
        if not equals:
            raise StartupError(f"--limit {limit}: is NAME=VALUE")
        flags[f"limits.{name}"] = value
    return flags


def _serve(options: argparse.Namespace) -> int:
    from trio_chat.check.secrets import check_secrets, check_transit
    from trio_chat.logs import configure, tell

    settings = _settings(options)
    configure(settings.log_format, settings.log_level)
    tell([*check_secrets(_flags(options), os.environ, options.config), *check_transit(settings)])
    try:
        if settings.workers > 1:
            trio.run(_supervise, settings)
        else:
            trio.run(_serve_until_signalled, settings)
    except* StartupError as group:
        raise startup_error(group) from None
    return 0


async def _supervise(settings: Settings) -> None:
    from trio_chat.workers.supervisor import Ready, supervise

    def announce(ready: Ready) -> None:
        _announce(settings, ready.addresses, ready.database, ready.pages)

    await supervise(settings, announce)


def _work(_: argparse.Namespace) -> int:
    """One of several workers: what it is to do comes on the standard input, from the supervisor."""
    from trio_chat.logs import configure
    from trio_chat.workers.worker import Assignment, work

    # A terminal sends these to all of them; it is the supervisor who obeys.
    for number in (signal.SIGINT, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    assignment = Assignment.load(sys.stdin.buffer)
    settings = assignment.settings
    configure(settings.log_format, settings.log_level, worker=assignment.number)
    return 0 if trio.run(work, assignment) else 2


def _invite(options: argparse.Namespace) -> int:
    from trio_chat import invite

    return _beside(options, invite.main)


def _account(options: argparse.Namespace) -> int:
    from trio_chat import operators

    return _beside(options, operators.main)


def _beside(options: argparse.Namespace, command: Callable[..., int]) -> int:
    """A command that works on the server's database, beside running servers."""
    from trio_chat.logs import configure
    from trio_chat.server import open_beside

    settings = _settings(options)
    configure(settings.log_format, "warning")
    try:
        return command(options, lambda: open_beside(settings), trio.run)
    except* StartupError as group:
        raise startup_error(group) from None


async def _serve_until_signalled(settings: Settings) -> None:
    """Serve until SIGTERM or SIGINT, then drain; a second signal ends it at once, and so does one while it starts.

    SIGHUP reloads the certificate; where it says that the server's terminal has gone, it is a signal to stop as well.
    """
    from trio_chat.server import open_server

    running: Server | None = None
    stop = trio.Event()

    async def obey(orders: Orders, everything: trio.CancelScope) -> None:
        async for order in orders:
            if order is Order.RELOAD:
                if running is not None:
                    running.reload()
            elif running is None or stop.is_set():
                break
            else:
                stop.set()
        everything.cancel()

    with open_orders() as orders:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(obey, orders, nursery.cancel_scope)
            async with open_server(settings) as server:
                running = server
                _calm_garbage_collection()
                _announce(settings, [str(address) for address in server.addresses], server.database, server.pages)
                await stop.wait()
                # The end of the block drains.
            nursery.cancel_scope.cancel()


def _calm_garbage_collection() -> None:
    """Look through everything seldom: with 10,000 connections that takes a third of a second, in which nobody is served.

    What there is at the start stays for good. What is new is looked at in parts, of which some is gone by then, being
    messages; everything only after half a million objects more (measured in bench/attacks.py, the connections that never log in).
    Larger parts cost memory: what a client had queued that does not read, for example, goes later.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(2_000, 10, 25)


def _announce(settings: Settings, addresses: Sequence[str], database: str, pages: Sequence[str]) -> None:
    if settings.log_format == "json":  # the log says the same
        return
    print(f"trio-chat {__version__}")
    for address in addresses:
        print(f"  listening on {address}")
    if settings.workers > 1:
        print(f"  with         {settings.workers} workers")
    print(f"  data in      {database}")
    program = sys.argv[0] if Path(sys.argv[0]).name == "trio-chat" else f"{sys.executable} -m trio_chat"
    tls = "tls://" if settings.tls_cert else ""
    if not settings.proxy_protocol:  # else only the balancer may connect here
        print(f"  chat with    {program} client {tls}{addresses[0]}")
    for page in pages[:1]:
        print(f"  or open      {page}")
    sys.stdout.flush()


if __name__ == "__main__":
    sys.exit(main())
