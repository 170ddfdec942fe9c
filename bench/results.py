"""Figures as they are kept: a JSON file to which each run of the benchmark adds or replaces what it has measured."""

from __future__ import annotations

import json
import statistics
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, Self

import attrs

from bench.parts import Figure

__all__ = ["TITLES", "Results"]

#: What the systems are called, in the order of the tables.
TITLES = {
    "sqlite": "trio-chat, SQLite",
    "mariadb": "trio-chat, MariaDB + Redis",
    "cluster": "trio-chat, two nodes",
    "workers": "trio-chat, two workers",
    "ejabberd": "ejabberd",
    "prosody": "prosody",
    "ngircd": "ngIRCd",
}


@attrs.define
class Results:
    """`figures` by their names, and the `facts` of the run that was the last to add some."""

    figures: dict[str, Figure] = attrs.field(factory=dict)
    facts: dict[str, Any] = attrs.field(factory=dict)

    @classmethod
    def read(cls, file: Path) -> Self:
        """What is in the file; nothing where there is none."""
        if not file.exists():
            return cls()
        data = json.loads(file.read_text(encoding="utf-8"))
        figures = [Figure(**figure) for figure in data["figures"]]
        return cls({figure.name: figure for figure in figures}, data["facts"])

    def write(self, file: Path) -> None:
        """A line for each figure, so that two versions can be compared."""
        lines = [json.dumps(_rounded(attrs.asdict(figure)), ensure_ascii=False) for figure in self.figures.values()]
        facts = json.dumps(self.facts, ensure_ascii=False, indent=1)
        text = '{"facts": ' + facts + ',\n"figures": [\n' + ",\n".join(lines) + "\n]}\n"
        partial = file.with_suffix(".partial")
        partial.write_text(text, encoding="utf-8")
        partial.replace(file)

    def add(self, figures: Iterable[Figure]) -> None:
        self.figures.update({figure.name: figure for figure in figures})

    def median(self, name: str, number: str) -> float | None:
        """The median over the runs; None where that was not measured."""
        return self._of(name, number, statistics.median)

    def spread(self, name: str, number: str) -> tuple[float, float, float] | None:
        """Median, minimum and maximum."""
        median = self.median(name, number)
        if median is None:
            return None
        return median, self._of(name, number, min) or 0.0, self._of(name, number, max) or 0.0

    def _of(self, name: str, number: str, of: Callable[[list[float]], float]) -> float | None:
        figure = self.figures.get(name)
        values = [run[number] for run in figure.runs if number in run] if figure else []
        return of(values) if values else None


def _rounded(figure: dict[str, Any]) -> dict[str, Any]:
    runs = [{name: float(f"{value:.5g}") for name, value in run.items()} for run in figure["runs"]]
    return {**figure, "runs": runs}
