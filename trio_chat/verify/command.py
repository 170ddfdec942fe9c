"""`trio-chat verify`: load a server, break it, and check that it kept its promises; or check a history again.

The exit status is 0 where every promise was kept, 1 at a violation, 2 where the run could not be made.
"""

from __future__ import annotations

import argparse
import contextlib
import secrets
import sys
import tempfile
from collections.abc import Awaitable, Callable, Sequence
from functools import partial
from pathlib import Path

from trio_chat.errors import StartupError
from trio_chat.verify.checker import check
from trio_chat.verify.history import BadHistory, Record, read_lines, to_line
from trio_chat.verify.link import parse_address
from trio_chat.verify.plan import draw_plan
from trio_chat.verify.programs.process import ServiceError
from trio_chat.verify.report import Report
from trio_chat.verify.run import CannotVerify, Outcome, run
from trio_chat.verify.setups import SERVER, Setup, cluster, embedded, target
from trio_chat.verify.stats import summarize

__all__ = ["add_arguments", "main", "verify"]

EXAMPLES = """\
examples:
  trio-chat verify                                    a private node on SQLite, killed again and again
  trio-chat verify --nodes 3 --database mysql         a private cluster; every part of it is broken in turn
  trio-chat verify --seed 7 --seconds 600             the plan of load and faults that seed 7 gives, for 10 minutes
  trio-chat verify --target 127.0.0.1:6000            a running server (it makes accounts there); you break it
  trio-chat verify --history run.jsonl                keep the history of the run
  trio-chat verify --check run.jsonl                  check it once more
"""

RunTrio = Callable[[Callable[[], Awaitable[Outcome]]], Outcome]


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare the command line of `main`."""
    parser.formatter_class = argparse.RawDescriptionHelpFormatter
    parser.epilog = EXAMPLES
    parser.add_argument("--seconds", type=_positive, default=60.0, help="how long the load lasts; default 60")
    parser.add_argument("--clients", type=_clients, default=12, help="connections at once; default 12")
    parser.add_argument("--seed", type=int, help="draws the plan of load and faults; default: a new one, which is told")
    parser.add_argument("--nodes", type=int, default=1, metavar="N", help="nodes of the private cluster; default 1")
    parser.add_argument(
        "--database",
        choices=["sqlite", "mysql"],
        help="mysql: the nodes stand behind nginx, on MariaDB and Redis, which are started too; default sqlite for one node",
    )
    parser.add_argument(
        "--target",
        metavar="HOST:PORT,…",
        help="a server that is running (tls://HOST:PORT: over TLS), or the nodes of one; its faults are yours to make",
    )
    parser.add_argument("--history", metavar="FILE", type=Path, help="write the history of the run there")
    parser.add_argument("--check", metavar="FILE", type=Path, help="run nothing: check the history in this file")
    parser.add_argument("--json", action="store_true", help="the report as JSON")


def _positive(text: str) -> float:
    seconds = float(text)
    if not 1 <= seconds <= 1e6:
        raise argparse.ArgumentTypeError("is 1 or more")
    return seconds


def _clients(text: str) -> int:
    clients = int(text)
    if not 2 <= clients <= 10_000:
        raise argparse.ArgumentTypeError("is 2 or more")
    return clients


def main(options: argparse.Namespace, run_trio: RunTrio) -> int:
    """Run the command; `run_trio` is `trio.run`. Raises `StartupError` where that cannot be done."""
    if options.check is not None:
        report = _check(options.check)
    else:
        try:
            report = verify(options, run_trio)
        except (ServiceError, CannotVerify) as error:
            raise StartupError(str(error)) from None
    print(report.as_json() if options.json else report.as_text())
    return 1 if report.violations else 0


def verify(options: argparse.Namespace, run_trio: RunTrio, program: Sequence[str] = SERVER) -> Report:
    """Make the run. Raises `ServiceError`, `CannotVerify`, `StartupError`."""
    seed = secrets.randbelow(1_000_000) if options.seed is None else options.seed
    with _set_up(options, program) as setup:
        print(f"verifying {setup.about}; seed {seed}", file=sys.stderr)
        plan = draw_plan(seed, clients=options.clients, seconds=options.seconds, kinds=setup.kinds)
        outcome = run_trio(partial(run, setup, plan, options.seconds))
        kept: Path | None = None
        if outcome.violations:
            kept = setup.keep() or Path(tempfile.mkdtemp(prefix="trio-chat-verify-"))
            _write(kept / "history.jsonl", outcome.records)
        if options.history is not None:
            _write(options.history, outcome.records)
    return Report(setup.about, seed, options.clients, summarize(outcome.records), outcome.violations, kept)


def _set_up(options: argparse.Namespace, program: Sequence[str]) -> contextlib.AbstractContextManager[Setup]:
    if options.target is not None:
        try:
            return contextlib.nullcontext(target([parse_address(text) for text in options.target.split(",")]))
        except ValueError as error:
            raise StartupError(f"--target {options.target}: {error}") from None
    if options.nodes < 1:
        raise StartupError("--nodes: is 1 or more")
    database = options.database or ("sqlite" if options.nodes == 1 else "mysql")
    if database == "mysql":
        return cluster(options.nodes, program)
    if options.nodes > 1:
        raise StartupError("several nodes need --database mysql: SQLite is for one")
    return embedded(program)


def _write(file: Path, records: list[Record]) -> None:
    try:
        with file.open("wb") as out:
            out.writelines(to_line(record) + b"\n" for record in records)
    except OSError as error:
        raise StartupError(f"the history cannot be written: {error}") from None


def _check(file: Path) -> Report:
    try:
        with file.open("rb") as lines:
            records = list(read_lines(lines))
    except (OSError, BadHistory) as error:
        raise StartupError(f"{file}: {error}") from None
    clients = max((record.connection for record in records if hasattr(record, "connection")), default=0)
    return Report(f"the history in {file}", None, clients, summarize(records), check(records))
