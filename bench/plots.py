"""The plots of docs/performance.md, drawn as SVG from the figures; no library is needed for bars and lines."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from xml.sax.saxutils import escape

from bench.goals import GROWTH, system_cpu
from bench.results import TITLES, Results

__all__ = ["bars", "drawings", "lines", "write_plots"]

_COLOURS = {
    "sqlite": "#0b5fa5",
    "mariadb": "#2f8fdd",
    "cluster": "#8cc4f0",
    "workers": "#8cc4f0",
    "ejabberd": "#c2571a",
    "prosody": "#6b4fa0",
    "ngircd": "#4a8f3c",
}
_FONT = 'font-family="sans-serif" font-size="13"'
_WIDTH, _LABELS, _BAR = 820, 215, 16

#: What a bar stands for: its system, its value, and the least and greatest of the runs where they are known.
Bar = tuple[str, float, float, float]


def write_plots(results: Results, directory: Path) -> list[Path]:
    """Draw what there are figures for; the files that were written."""
    directory.mkdir(parents=True, exist_ok=True)
    written = []
    for name, (_, drawing) in drawings(results).items():
        written.append(directory / f"bench-{name}.svg")
        written[-1].write_text(drawing, encoding="utf-8")
    return written


def drawings(results: Results) -> dict[str, tuple[str, str]]:
    """Title and SVG of each plot that there are figures for."""
    chat = {
        "direct-50-1": "direct, 50 pairs, 1 in flight",
        "direct-50-64": "direct, 50 pairs, 64 in flight",
        "group-100-1": "group of 100, 1 in flight: deliveries",
        "group-100-64": "group of 100, 64 in flight: deliveries",
    }
    idle = {"idle": "plain", "idle-tls": "TLS", "idle-websocket": "WebSocket"}
    rates = {title: _spreads(results, workload, "rate") for workload, title in chat.items()}
    cpu = {
        title: [
            (system, cost, cost, cost)
            for system in TITLES
            if (cost := system_cpu(results, f"{system}/{workload}")) is not None
        ]
        for workload, title in chat.items()
    }
    memory = {title: _spreads(results, workload, "kib") for workload, title in idle.items()}
    growth = {what: _costs(results, workloads) for what, workloads in GROWTH.items()}
    drawn = {
        "rates": ("Messages and deliveries per second", bars("Per second (more is better)", rates)),
        "cpu": ("CPU per message", bars("CPU µs each: server, database and Redis together (less is better)", cpu)),
        "idle": ("Memory", bars("KiB for each idle connection (less is better)", memory)),
        "growth": ("Growth", lines("CPU µs for each message, all processes together", growth)),
    }
    return {name: (title, drawing) for name, (title, drawing) in drawn.items() if drawing}


def _spreads(results: Results, workload: str, number: str) -> list[Bar]:
    spreads = {system: results.spread(f"{system}/{workload}", number) for system in TITLES}
    return [(system, *spread) for system, spread in spreads.items() if spread]


def _costs(results: Results, workloads: Sequence[str]) -> dict[str, list[tuple[float, float]]]:
    """For each system the size and the cost of what was measured."""
    return {
        system: [
            (float(workload.rpartition("-")[2]), cost)
            for workload in workloads
            if (cost := system_cpu(results, f"{system}/{workload}")) is not None
        ]
        for system in ("sqlite", "mariadb")
    }


def bars(title: str, panels: Mapping[str, Sequence[Bar]]) -> str:
    """Horizontal bars, a panel for each of `panels`, each with its own scale. Empty where there is nothing to draw."""
    filled = {name: entries for name, entries in panels.items() if entries}
    if not filled:
        return ""
    parts: list[str] = []
    y = 50.0
    room = _WIDTH - _LABELS - 190
    for name, entries in filled.items():
        parts.append(f'<text x="10" y="{y:.0f}" font-weight="bold">{escape(name)}</text>')
        y += 10
        most = max(greatest for _, _, _, greatest in entries) or 1.0
        for system, value, least, greatest in entries:
            middle = y + _BAR / 2
            parts.append(
                f'<text x="{_LABELS - 8}" y="{middle + 4:.1f}" text-anchor="end">{escape(TITLES[system])}</text>'
            )
            parts.append(
                f'<rect x="{_LABELS}" y="{y:.1f}" width="{max(1.0, room * value / most):.1f}" height="{_BAR}" fill="{_COLOURS[system]}"/>'
            )
            if greatest > least:
                parts.append(
                    f'<path d="M{_LABELS + room * least / most:.1f} {middle:.1f}H{_LABELS + room * greatest / most:.1f}" stroke="#222"/>'
                )
            parts.append(
                f'<text x="{_LABELS + room * greatest / most + 8:.1f}" y="{middle + 4:.1f}">{_shown(value)}</text>'
            )
            y += _BAR + 5
        y += 24
    return _svg(title, y - 10, parts)


def lines(title: str, panels: Mapping[str, Mapping[str, Sequence[tuple[float, float]]]]) -> str:
    """A panel for each of `panels`, side by side: sizes to the right on a logarithmic scale, values from 0 upwards."""
    filled = {name: series for name, series in panels.items() if any(len(points) > 1 for points in series.values())}
    if not filled:
        return ""
    parts: list[str] = []
    width, height, top = _WIDTH / len(filled), 180.0, 70.0
    for number, (name, series) in enumerate(filled.items()):
        left, right = number * width + 45, (number + 1) * width - 25
        points = [point for each in series.values() for point in each]
        sizes = sorted({size for size, _ in points})
        most = max(value for _, value in points) * 1.15 or 1.0
        first, last = math.log10(sizes[0]), math.log10(sizes[-1])

        def x(size: float, left: float = left, right: float = right, first: float = first, last: float = last) -> float:
            return left + (right - left) * (math.log10(size) - first) / ((last - first) or 1.0)

        def y(value: float, most: float = most) -> float:
            return top + height * (1 - value / most)

        parts.append(f'<text x="{left:.0f}" y="{top - 15:.0f}" font-weight="bold">{escape(name)}</text>')
        parts.append(f'<path d="M{left:.1f} {top:.1f}V{top + height:.1f}H{right:.1f}" stroke="#888" fill="none"/>')
        parts += [
            f'<text x="{left - 5:.1f}" y="{y(mark) + 4:.1f}" text-anchor="end">{_shown(mark)}</text>'
            for mark in (0.0, most / 2, most / 1.15)
        ]
        parts += [
            f'<text x="{x(size):.1f}" y="{top + height + 18:.1f}" text-anchor="middle">{size:,.0f}</text>'
            for size in sizes
        ]
        for system, each in series.items():
            if len(each) > 1:
                path = "L".join(f"{x(size):.1f} {y(value):.1f}" for size, value in each)
                parts.append(f'<path d="M{path}" stroke="{_COLOURS[system]}" stroke-width="2.5" fill="none"/>')
                parts += [
                    f'<circle cx="{x(size):.1f}" cy="{y(value):.1f}" r="4" fill="{_COLOURS[system]}"/>'
                    for size, value in each
                ]
    for number, system in enumerate(("sqlite", "mariadb")):
        parts.append(
            f'<rect x="{10 + 260 * number}" y="{top + height + 34:.0f}" width="14" height="14" fill="{_COLOURS[system]}"/>'
        )
        parts.append(f'<text x="{30 + 260 * number}" y="{top + height + 46:.0f}">{escape(TITLES[system])}</text>')
    return _svg(title, top + height + 60, parts)


def _svg(title: str, height: float, parts: Sequence[str]) -> str:
    head = f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {_WIDTH} {height:.0f}" {_FONT} fill="#222">'
    ground = f'<title>{escape(title)}</title><rect width="{_WIDTH}" height="{height:.0f}" fill="#fff"/>'
    heading = f'<text x="10" y="24" font-size="15">{escape(title)}</text>'
    return "\n".join([head, ground, heading, *parts, "</svg>", ""])


def _shown(value: float) -> str:
    if value >= 1000:
        digits = len(str(int(value)))
        return f"{round(value, 3 - digits):,.0f}"
    return f"{value:.3g}"
