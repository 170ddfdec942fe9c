"""The command line of the benchmark."""

from __future__ import annotations

import argparse
import json
import shlex
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

from bench.generator import BenchmarkError, Measured, build_generator, generate
from bench.machine import machine_facts, versions
from bench.report import Result, as_json, table, update_document, warnings
from bench.systems import MariaDBSystem, SQLiteSystem, System, connect_links
from bench.workloads import FULL, QUICK, Workload, workloads
from trio_chat.logs import configure
from trio_chat.verify.programs.process import ServiceError

DOCUMENT = Path(__file__).resolve().parent.parent / "docs" / "performance.md"
SYSTEMS = (SQLiteSystem.name, MariaDBSystem.name)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print, and return the exit status: 0 done, 1 the server or a service failed, 2 wrong usage."""
    parser = _parser()
    options = parser.parse_args(arguments)
    sizes = QUICK if options.quick else FULL
    chosen = [
        (system, workload)
        for system in SYSTEMS
        for workload in workloads(sizes)
        if not options.only or any(word in f"{system}/{workload.name}" for word in options.only)
    ]
    if not chosen:
        parser.error(f"--only: there is no {' or '.join(options.only)}")
    if options.profile and len(chosen) > 1:
        parser.error("--profile needs an --only that leaves one workload")
    configure("console", "warning")
    runs = options.runs or (1 if options.quick or options.profile else 3)
    try:
        results = _measure(chosen, runs, options.profile)
    except (BenchmarkError, ServiceError) as error:
        print(f"bench: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130
    facts = {
        "command": _command(options),
        "date": time.strftime("%Y-%m-%d"),
        "runs": runs,
        "machine": machine_facts(),
        "versions": versions(with_services=any(system == MariaDBSystem.name for system, _ in chosen)),
    }
    text = _text(results, facts)
    print(text)
    if options.json:
        options.json.write_text(json.dumps(as_json(results, facts), indent=1) + "\n", encoding="utf-8")
    if options.update_docs:
        update_document(DOCUMENT, text)
    return 0


def _parser() -> argparse.ArgumentParser:
    names = ", ".join(workload.name for workload in workloads(FULL))
    parser = argparse.ArgumentParser(
        prog="python -m bench",
        description=f"Measure the server. Workloads: {names}, each on {' and '.join(SYSTEMS)}: sqlite/direct-1 and so on.",
    )
    parser.add_argument(
        "--quick", action="store_true", help="small and short: shows that it works, the figures say nothing"
    )
    parser.add_argument(
        "--only", action="append", metavar="NAME", help="only workloads with this in their name (repeatable)"
    )
    parser.add_argument("--runs", type=_count, metavar="N", help="how often each is measured (default 3)")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write each run's figures there")
    parser.add_argument("--update-docs", action="store_true", help="put the figures into docs/performance.md")
    parser.add_argument(
        "--profile", type=Path, metavar="FILE", help="run the server under cProfile, which writes there"
    )
    return parser


def _command(options: argparse.Namespace) -> str:
    """What somebody else would type for the same figures: without the names of his files."""
    words = ["python", "-m", "bench", *(["--quick"] if options.quick else [])]
    for name in options.only or []:
        words += ["--only", name]
    if options.runs:
        words += ["--runs", str(options.runs)]
    return shlex.join(words) + (" (under cProfile)" if options.profile else "")


def _count(text: str) -> int:
    if int(text) < 1:
        raise argparse.ArgumentTypeError("at least 1")
    return int(text)


def _measure(chosen: Sequence[tuple[str, Workload]], runs: int, profile: Path | None) -> list[Result]:
    results = []
    with tempfile.TemporaryDirectory(prefix="bench-") as place, ExitStack() as stack:
        directory = Path(place)
        program = build_generator(directory)
        systems: dict[str, System] = {}
        for number, (name, workload) in enumerate(chosen, 1):
            if name not in systems:
                systems[name] = _start(name, directory, stack)
            system = systems[name]
            label = f"[{number}/{len(chosen)}] {name}/{workload.name}"
            measured = list(_runs(system, workload, runs, program, directory, label, profile))
            results.append(Result(name, system.title, workload, measured))
    return results


def _start(name: str, directory: Path, stack: ExitStack) -> System:
    if name == SQLiteSystem.name:
        return SQLiteSystem()
    system = MariaDBSystem(directory)
    stack.enter_context(system.started())
    return system


def _runs(
    system: System, workload: Workload, runs: int, program: Path, place: Path, label: str, profile: Path | None
) -> Iterator[Measured]:
    for number in range(1, runs + 1):
        progress = _Progress(f"{label} run {number}/{runs}")
        with (
            tempfile.TemporaryDirectory(prefix="run-", dir=place) as directory,
            system.running(Path(directory), workload, profile and profile.resolve()) as running,
            connect_links(running, workload) as links,
        ):
            measured = generate(program, links, workload.in_flight, workload.sizes, running.pids, progress.show)
        progress.finish(measured)
        yield measured


class _Progress:
    """A line on standard error, written over while it changes where that is a terminal."""

    def __init__(self, label: str) -> None:
        self._label = label
        self._terminal = sys.stderr.isatty()
        self._last = (time.monotonic(), 0, 0)

    def show(self, _sent: int, acknowledged: int, delivered: int) -> None:
        if not self._terminal:
            return
        now = time.monotonic()
        then, acknowledged_then, delivered_then = self._last
        passed = max(0.001, now - then)
        self._last = (now, acknowledged, delivered)
        rate = f"{(acknowledged - acknowledged_then) / passed:,.0f} messages/s"
        print(
            f"\r{self._label}: {rate}, {(delivered - delivered_then) / passed:,.0f} deliveries/s\033[K",
            end="",
            file=sys.stderr,
        )
        sys.stderr.flush()

    def finish(self, run: Measured) -> None:
        rate = f"{run.acknowledged / run.seconds:,.0f} messages/s, {run.deliveries / run.seconds:,.0f} deliveries/s"
        checked = f"all {run.sent:,} sent were acknowledged and delivered in order"
        start, end = ("\r", "\033[K") if self._terminal else ("", "")
        print(f"{start}{self._label}: {rate}; {checked}{end}", file=sys.stderr, flush=True)


def _text(results: Sequence[Result], facts: dict[str, object]) -> str:
    machine, found = facts["machine"], facts["versions"]
    assert isinstance(machine, dict)
    assert isinstance(found, dict)
    lines = [
        f"`{facts['command']}`, {facts['date']}, runs of each: {facts['runs']}.",
        "",
        *(f"- {name}: {value}" for name, value in machine.items()),
        "- versions: " + ", ".join(f"{name} {value}" for name, value in found.items()),
        "",
    ]
    if doubts := warnings(results):
        lines += ["Doubtful:", "", *(f"- {doubt}" for doubt in doubts), ""]
    return "\n".join([*lines, table(results)])


if __name__ == "__main__":
    sys.exit(main())
