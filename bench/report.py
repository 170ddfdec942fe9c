"""From single runs to medians, and from medians to the tables of docs/performance.md."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from pathlib import Path

from bench.goals import GOALS, GROWTH, growth_ratio, system_cpu
from bench.plots import drawings
from bench.results import TITLES, Results

__all__ = ["BEGIN", "END", "text", "update_document", "warnings"]

BEGIN, END = "<!-- figures begin -->", "<!-- figures end -->"
#: Above this share of a core the generator may be what is measured; above this share of the machine, others are.
_GENERATOR_SHARE, _OTHERS_SHARE = 0.9, 0.15

Cell = Callable[[str], str | None]


def text(results: Results) -> str:
    """All tables, as they stand in the document."""
    parts = [_facts(results), _plots(results), "### Goals", _goals(results), *_tables(results)]
    if doubts := warnings(results):
        parts += ["### Doubtful", "\n".join(f"- {doubt}" for doubt in doubts)]
    return "\n\n".join(part for part in parts if part)


def _facts(results: Results) -> str:
    facts = results.facts
    lines = [f"`{facts.get('command')}`, {facts.get('date')}; each figure is the median of {facts.get('runs')} runs."]
    lines += ["", *(f"- {name}: {value}" for name, value in facts.get("machine", {}).items())]
    versions = ", ".join(f"{name} {value}" for name, value in facts.get("versions", {}).items())
    return "\n".join([*lines, f"- versions: {versions}"])


def _plots(results: Results) -> str:
    """The pictures that there are: `write_plots` draws the same."""
    return "\n".join(f"![{title}](img/bench-{name}.svg)" for name, (title, _) in drawings(results).items())


def _goals(results: Results) -> str:
    lines = ["| what | goal | measured | |", "|---|---|---|---|"]
    for goal in GOALS:
        checked = goal.check(results)
        measured, word = (
            ("not measured", "") if checked is None else (checked[0], "reached" if checked[1] else "**not**")
        )
        lines.append(f"| {goal.workload} | {goal.goal} | {measured} | {word} |")
    return "\n".join(lines)


def _tables(results: Results) -> list[str]:
    def of(number: str, form: str = ",.0f") -> Cell:
        def cell(name: str) -> str | None:
            spread = results.spread(name, number)
            return None if spread is None else "{} ({} to {})".format(*(_number(value, form) for value in spread))

        return cell

    def together(*numbers: str, form: str = ",.2f") -> Cell:
        def cell(name: str) -> str | None:
            values = [results.median(name, number) for number in numbers]
            shown = [format(value, form) for value in values if value is not None]
            return " / ".join(shown) or None

        return cell

    chat, latency = ("direct-", "group-"), ("latency-",)
    cpu = together("cpu_server", "cpu_database", "cpu_redis")
    percent = together("percent_server", "percent_database", "percent_redis", form=".1f")
    tables = [
        ("Messages and deliveries per second", chat, of("rate")),
        ("From send to delivery, ms: p50 / p99", chat, together("delivery_p50", "delivery_p99")),
        ("CPU, µs for each message or delivery: server / database / Redis", chat, cpu),
        ("CPU of the load generator, µs", chat, together("cpu_generator")),
        (
            "At a given rate: from due to delivered, ms: p50 / p99 / p99.9",
            latency,
            together("delivery_p50", "delivery_p99", "delivery_p999"),
        ),
        ("Offline: messages stored per second", ("store-",), of("rate")),
        ("Offline: from send to stored, ms: p50 / p99", ("store-one",), together("ack_p50", "ack_p99")),
        ("Offline: draining, ms", ("drain",), of("ms", ".1f")),
        ("Idle connections: KiB each", ("idle",), of("kib", ".2f")),
        ("Idle connections: CPU of all, % of a core: server / database / Redis", ("idle",), percent),
        ("Logins per second", ("reconnect", "login-"), of("rate")),
        (
            "A login, ms: p50 / p99 / longest",
            ("reconnect", "login-"),
            together("login_p50", "login_p99", "login_max", form=",.1f"),
        ),
        ("Delivery while others log in, ms: p99", ("login-",), of("delivery_p99", ".1f")),
    ]
    rendered = []
    for title, prefixes, cell in tables:
        if table := _pivot(results, prefixes, cell):
            rendered += [f"### {title}", table]
    if growth := _growth(results):
        rendered += ["### Growth: CPU, µs for each message, all processes together", growth]
    return rendered


def _pivot(results: Results, prefixes: Sequence[str], cell: Cell) -> str:
    """Workloads down, systems across; a workload that no system has is left out."""
    workloads = dict.fromkeys(
        figure.workload for figure in results.figures.values() if figure.workload.startswith(tuple(prefixes))
    )
    systems = [system for system in TITLES if any(cell(f"{system}/{workload}") is not None for workload in workloads)]
    lines = ["| workload | " + " | ".join(TITLES[system] for system in systems) + " |", "|---|" + "--:|" * len(systems)]
    for workload in workloads:
        cells = [cell(f"{system}/{workload}") or "" for system in systems]
        if any(cells):
            title = next(
                results.figures[f"{system}/{workload}"].title
                for system in TITLES
                if f"{system}/{workload}" in results.figures
            )
            lines.append(f"| {title} | " + " | ".join(cells) + " |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _growth(results: Results) -> str:
    lines = ["| what grows | system | cost at each size | dearest by cheapest |", "|---|---|---|--:|"]
    for what, workloads in GROWTH.items():
        for system in ("sqlite", "mariadb"):
            costs = [(workload, system_cpu(results, f"{system}/{workload}")) for workload in workloads]
            ratio = growth_ratio(results, system, workloads)
            if ratio is not None:
                shown = ", ".join(
                    f"{results.figures[f'{system}/{workload}'].title.split(' ')[0]}: {cost:.1f}"
                    for workload, cost in costs
                    if cost is not None
                )
                lines.append(f"| {what} | {TITLES[system]} | {shown} | {ratio:.2f} |")
    return "\n".join(lines) if len(lines) > 2 else ""


def _number(number: float, form: str) -> str:
    """Large ones with three significant digits: the runs do not agree on more."""
    digits = len(str(int(number)))
    return format(round(number, 3 - digits) if digits > 3 else number, form)


def warnings(results: Results) -> list[str]:
    """What makes figures doubtful."""
    found = []
    for name, figure in results.figures.items():
        generator = [run["generator_share"] for run in figure.runs if "generator_share" in run]
        others = [run["others_share"] for run in figure.runs if "others_share" in run]
        if generator and (share := statistics.median(generator)) > _GENERATOR_SHARE:
            found.append(f"{name}: the generator used {share:.0%} of a core")
        if others and (share := statistics.median(others)) > _OTHERS_SHARE:
            found.append(f"{name}: other programs used {share:.0%} of the machine")
    return found


def update_document(document: Path, figures: str) -> None:
    """Put the figures between the markers, and leave the words around them alone."""
    before, begin, rest = document.read_text(encoding="utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{document} has no {BEGIN} and {END}")
    document.write_text(f"{before}{begin}\n{figures}\n{end}{after}", encoding="utf-8")
