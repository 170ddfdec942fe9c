"""From single runs to medians, and from medians to the table in docs/performance.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import attrs

from bench.generator import Measured
from bench.workloads import Workload

__all__ = ["Result", "as_json", "table", "update_document", "warnings"]

BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"
_PROCESSES = ("server", "database", "redis", "generator")
#: Above this share of the server's CPU the generator may be what is measured; above this share of the machine, others are.
_GENERATOR_SHARE, _FOREIGN_SHARE = 0.5, 0.15


@attrs.frozen
class Result:
    """All runs of one workload on one system."""

    system: str
    title: str
    workload: Workload
    runs: Sequence[Measured]

    @property
    def name(self) -> str:
        return f"{self.system}/{self.workload.name}"

    def count(self, run: Measured) -> int:
        """What the workload counts, in the measured time of a run."""
        return run.acknowledged if self.workload.kind == "direct" else run.deliveries

    def rates(self) -> list[float]:
        return [self.count(run) / run.seconds for run in self.runs]

    def cpu_us(self, process: str) -> float | None:
        """Median CPU microseconds of a process for each thing counted; None where there is no such process."""
        if any(process not in run.cpu for run in self.runs):
            return None
        return self._median(lambda run: run.cpu[process] * 1e6 / max(1, self.count(run)))

    def latency_ms(self, what: str) -> tuple[float, float]:
        """Median over the runs of p50 and p99, for `ack` or `delivery`."""

        def of(run: Measured, index: int) -> float:
            return (run.ack_ns if what == "ack" else run.delivery_ns)[index] / 1e6

        return self._median(lambda run: of(run, 0)), self._median(lambda run: of(run, 1))

    def foreign(self) -> float:
        """The share of the machine that neither the system nor the generator used, but somebody else."""
        return self._median(lambda run: run.cpu["other"] / run.cores_seconds)

    def _median(self, value: Callable[[Measured], float]) -> float:
        return statistics.median(value(run) for run in self.runs)


def table(results: Sequence[Result]) -> str:
    lines = [
        "| system | workload | per second: median (min to max) | send→ack ms p50 / p99 | send→delivery ms p50 / p99 "
        "| CPU µs: server | database | Redis | generator |",
        "|---|---|--:|--:|--:|--:|--:|--:|--:|",
    ]
    for result in results:
        rates = result.rates()
        cpu = [result.cpu_us(process) for process in _PROCESSES]
        cells = [
            result.title,
            result.workload.title,
            f"{_grouped(statistics.median(rates))} ({_grouped(min(rates))} to {_grouped(max(rates))}) {result.workload.unit}",
            "{:.2f} / {:.2f}".format(*result.latency_ms("ack")),
            "{:.2f} / {:.2f}".format(*result.latency_ms("delivery")),
            *("" if microseconds is None else f"{microseconds:.2f}" for microseconds in cpu),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def _grouped(number: float) -> str:
    """Three significant digits: the runs do not agree on more."""
    digits = len(str(int(number)))
    return f"{round(number, 3 - digits) if digits > 3 else number:,.0f}"


def warnings(results: Sequence[Result]) -> list[str]:
    """What makes figures doubtful."""
    found = []
    for result in results:
        server, generator = result.cpu_us("server") or 0.0, result.cpu_us("generator") or 0.0
        if generator > _GENERATOR_SHARE * server:
            found.append(f"{result.name}: the generator used {generator / server:.0%} of the server's CPU time")
        if result.foreign() > _FOREIGN_SHARE:
            found.append(f"{result.name}: other programs used {result.foreign():.0%} of the machine")
    return found


def as_json(results: Sequence[Result], facts: Mapping[str, Any]) -> dict[str, Any]:
    """Everything, each run by itself."""
    return {**facts, "results": [{"name": result.name, **attrs.asdict(result)} for result in results]}


def update_document(document: Path, text: str) -> None:
    """Put the figures between the markers, and leave the words around them alone."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no {BEGIN} and {END}")
    document.write_text(f"{before}{begin}\n{text}\n{end}{after}", encoding="utf-8")
