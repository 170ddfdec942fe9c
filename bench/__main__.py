"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import resource
import shlex
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.campaign import Campaign
from bench.crowd_parts import crowd_parts
from bench.generator import BenchmarkError
from bench.growth_parts import growth_parts
from bench.machine import machine_facts
from bench.parts import Part, message_parts
from bench.peers import Ejabberd, Ngircd, Prosody
from bench.plots import write_plots
from bench.report import text, update_document
from bench.results import Results
from bench.systems import ClusterSystem, MariaDBSystem, SQLiteSystem, System, WorkersSystem
from bench.workloads import FULL, QUICK, Sizes
from trio_chat.logs import configure
from trio_chat.verify.programs.process import ServiceError

_DOCS = Path(__file__).resolve().parent.parent / "docs"
_DOCUMENT, _IMAGES = _DOCS / "performance.md", _DOCS / "img"
_RESULTS = Path(__file__).with_name("results.json")
_SYSTEMS: Sequence[type[System]] = (
    SQLiteSystem,
    MariaDBSystem,
    ClusterSystem,
    WorkersSystem,
    Ejabberd,
    Prosody,
    Ngircd,
)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, keep, print, and return the exit status: 0 done, 1 something failed, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    file: Path | None = options.json or (None if options.quick else _RESULTS)
    results = Results.read(file) if file else Results()
    failed: list[str] = []
    if not options.report:
        wanted = _wanted(parser, options)
        configure("console", "error")
        try:
            failed = _measure(results, file, options, wanted)
        except (BenchmarkError, ServiceError) as error:
            print(f"bench: {error}", file=sys.stderr)
            return 1
        except KeyboardInterrupt:
            return 130
    print(text(results))
    if options.report:
        write_plots(results, _IMAGES)
        update_document(_DOCUMENT, text(results))
    for line in failed:
        print(f"bench: {line}", file=sys.stderr)
    return 1 if failed else 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description="Measure the server, and ejabberd, prosody and ngIRCd beside it. Figures are called SYSTEM/WORKLOAD: "
        "mariadb/direct-50-1 and so on; --list shows them.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small and short: shows that it works, the figures say nothing"
    )
    parser.add_argument("--list", action="store_true", help="show the figures' names and end")
    parser.add_argument(
        "--only", action="append", metavar="TEXT", help="only figures with this in their name (repeatable)"
    )
    parser.add_argument(
        "--without", action="append", metavar="TEXT", help="no figures with this in their name (repeatable)"
    )
    parser.add_argument("--runs", type=_count, metavar="N", help="how often each is measured (default 3)")
    parser.add_argument(
        "--json",
        type=Path,
        metavar="FILE",
        help="add the figures to this file (default bench/results.json; --quick: none)",
    )
    parser.add_argument(
        "--report", action="store_true", help="measure nothing: make docs/performance.md and its plots of the file"
    )
    return parser


def _count(word: str) -> int:
    if int(word) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(word)


def _parts(sizes: Sizes) -> list[Part]:
    return [*message_parts(sizes), *crowd_parts(), *growth_parts(sizes)]


def _wanted(parser: argparse.ArgumentParser, options: argparse.Namespace) -> set[str]:
    """The names of the figures to take."""
    systems = [system(Path()) for system in _SYSTEMS]
    names = [
        f"{system.name}/{workload}"
        for part in _parts(QUICK if options.quick else FULL)
        for system in systems
        if part.only(system)
        for workload in part.workloads
        if workload.startswith(tuple(system.workloads))
    ]
    if options.list:
        print("\n".join(sorted(names)))
        parser.exit(0)
    wanted = {
        name
        for name in names
        if (not options.only or any(word in name for word in options.only))
        and not any(word in name for word in options.without or [])
    }
    if not wanted:
        parser.error(f"--only: there is no {' or '.join(options.only or [])}")
    return wanted


def _measure(results: Results, file: Path | None, options: argparse.Namespace, wanted: set[str]) -> list[str]:
    """Take the figures; what could not be measured, in words."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    sizes = QUICK if options.quick else FULL
    runs = options.runs or (1 if options.quick else 3)
    with tempfile.TemporaryDirectory(prefix="bench-") as place, ExitStack() as stack:
        # The short form shows that the benchmark works; it changes nothing on the machine.
        campaign = Campaign(Path(place), sizes, runs, wanted, results, file, installs=not options.quick)
        campaign.run(_SYSTEMS, _parts(sizes), stack)
        results.facts = {
            "command": shlex.join(["python", "-m", "bench", *(["--quick"] if options.quick else [])]),
            "date": time.strftime("%Y-%m-%d"),
            "runs": runs,
            "machine": machine_facts(),
            "versions": results.facts.get("versions", {}) | campaign.versions(),
        }
        if file:
            results.write(file)
    return campaign.failed


if __name__ == "__main__":
    sys.exit(main())
