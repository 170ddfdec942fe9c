"""`trio-chat check`: look a configuration and its servers over, and say what to do.

It changes nothing. The exit status is 0 where the server would start and keep its promises, 1 where there is a problem.
"""

from __future__ import annotations

import argparse
import datetime as dt
import os
import resource
from collections.abc import Awaitable, Callable
from functools import partial
from pathlib import Path
from urllib.parse import unquote

from trio_chat.bus.redis_settings import RedisAddress
from trio_chat.check.certificate import check_certificate
from trio_chat.check.finding import Finding, Level, as_json, as_text, note, problem
from trio_chat.check.mysql import check_mysql
from trio_chat.check.redis import check_redis
from trio_chat.check.secrets import check_secrets
from trio_chat.check.settings import check_settings
from trio_chat.check.sqlite import check_sqlite
from trio_chat.config import Settings
from trio_chat.errors import StartupError
from trio_chat.store.mysql_options import parse_url
from trio_chat.workers.supervisor import check as check_workers

__all__ = ["add_arguments", "check", "main"]

EXAMPLES = """\
examples:
  trio-chat check                                     what `serve` without arguments would meet
  trio-chat check --config /etc/trio-chat/trio-chat.toml --integrity
  trio-chat check --json                              for programs

ok: as it should be; note: works as promised, worth knowing; warning: a promise, or what keeps strangers out, is weaker than
it could be; problem: the server will not start, or does not keep a promise (exit status 1)
"""

RunTrio = Callable[[Callable[[], Awaitable[list[Finding]]]], list[Finding]]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the command line of `main` has beside the settings."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument(
        "--integrity", action="store_true", help="read every page of a SQLite file, which takes its time"
    )
    parser.add_argument("--json", action="store_true", help="the findings as JSON")


def main(options: argparse.Namespace, settings: Settings, run_trio: RunTrio) -> int:
    """Run the command; `run_trio` is `trio.run`."""
    findings = run_trio(partial(check, settings, thoroughly=options.integrity))
    findings += check_secrets(vars(options), os.environ, options.config)
    print(as_json(findings) if options.json else as_text(findings))
    return int(any(each.level is Level.PROBLEM for each in findings))


async def check(settings: Settings, *, thoroughly: bool = False) -> list[Finding]:
    """Everything that can be found. Cancelling is safe."""
    descriptors, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    findings = list(check_settings(settings, descriptors=descriptors))
    if os.geteuid() == 0:
        findings.append(
            note(
                "user",
                "this runs as root, who may read and write everything",
                "run it as the user that the server runs as, which should have no rights of its own",
            )
        )
    if settings.workers > 1:
        try:
            check_workers(settings)
        except StartupError as error:
            findings.append(problem("workers", str(error)))
    if settings.tls_cert is not None:
        findings += check_certificate(settings.tls_cert, settings.tls_key, dt.datetime.now(dt.UTC))
    findings += await _database(settings, thoroughly=thoroughly)
    if not settings.bus.startswith("local:"):
        try:
            findings += await check_redis(RedisAddress.parse(settings.bus))
        except StartupError as error:
            findings.append(problem("bus", str(error)))
    return findings


async def _database(settings: Settings, *, thoroughly: bool) -> list[Finding]:
    if settings.database.startswith("sqlite:///"):
        return await check_sqlite(Path(unquote(settings.database.removeprefix("sqlite:///"))), thoroughly=thoroughly)
    try:
        options = parse_url(settings.database, timeout=settings.store_timeout, pool=settings.store_connections)
    except StartupError as error:
        return [problem("database", str(error))]
    return await check_mysql(options, settings)
