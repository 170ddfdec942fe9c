"""From figures to tables, plots and goals."""

from __future__ import annotations

import itertools
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from bench.goals import GOALS, GROWTH, growth_ratio
from bench.parts import Figure
from bench.plots import write_plots
from bench.report import BEGIN, END, text, update_document, warnings
from bench.results import TITLES, Results

CPU = {"cpu_server": 10.0, "cpu_database": 4.0, "cpu_redis": 1.0, "cpu_generator": 2.0}


def figure(system: str, workload: str, **numbers: float) -> Figure:
    runs = [{name: value * factor for name, value in numbers.items()} for factor in (0.9, 1.0, 1.2)]
    return Figure(system, workload, workload, "messages", runs)


@pytest.fixture
def results() -> Results:
    found = Results(facts={"command": "python -m bench", "machine": {"memory": "1 GiB"}, "versions": {"Python": "3"}})
    for system, workload in itertools.product(TITLES, ("direct-50-1", "direct-50-64", "group-100-1", "group-100-64")):
        found.add([figure(system, workload, rate=30_000.0, delivery_p50=1.0, delivery_p99=2.0, **CPU)])
    for workloads in GROWTH.values():
        for size, workload in enumerate(workloads):
            found.add([figure("mariadb", workload, **CPU | {"cpu_server": 10.0 + size})])
    found.add([figure("mariadb", "idle", kib=4.0), figure("ejabberd", "idle", kib=40.0)])
    return found


def test_tables(results: Results) -> None:
    page = text(results)
    assert "30,000 (27,000 to 36,000)" in page
    assert "10.00 / 4.00 / 1.00" in page
    assert page.count("1.13") >= len(GROWTH)  # 17 by 15
    assert f"| {GOALS[0].workload} | {GOALS[0].goal} | 30,000/s: 1 times ejabberd | **not** |" in page
    assert "4 KiB | reached" in page
    assert "not measured" in page


def test_growth_ratio(results: Results) -> None:
    assert growth_ratio(results, "mariadb", GROWTH["users online"]) == pytest.approx(17 / 15)
    assert growth_ratio(results, "sqlite", GROWTH["users online"]) is None


def test_plots_are_drawings(results: Results, tmp_path: Path) -> None:
    files = write_plots(results, tmp_path)
    assert {file.name for file in files} == {f"bench-{name}.svg" for name in ("rates", "cpu", "growth", "idle")}
    for file in files:
        assert f"](img/{file.name})" in text(results)
        assert ET.parse(file).getroot().tag == "{http://www.w3.org/2000/svg}svg"  # noqa: S314 (our own)


def test_nothing_measured(tmp_path: Path) -> None:
    assert "not measured" in text(Results())
    assert "bench-" not in text(Results())
    assert write_plots(Results(), tmp_path) == []


def test_doubts() -> None:
    results = Results()
    results.add([figure("sqlite", "a", generator_share=0.2), figure("sqlite", "b", others_share=0.5)])
    results.add([figure("ngircd", "c", generator_share=0.95)])
    assert warnings(results) == [
        "sqlite/b: other programs used 50% of the machine",
        "ngircd/c: the generator used 95% of a core",
    ]


def test_figures_are_kept_and_merged(tmp_path: Path) -> None:
    file = tmp_path / "figures.json"
    one = Results({}, {"date": "today"})
    one.add([figure("sqlite", "a", rate=1.0), figure("sqlite", "b", rate=2.0)])
    one.write(file)
    two = Results.read(file)
    two.add([figure("sqlite", "b", rate=3.0)])
    two.write(file)
    merged = Results.read(file)
    assert merged.median("sqlite/a", "rate") == 1.0
    assert merged.spread("sqlite/b", "rate") == pytest.approx((3.0, 2.7, 3.6))
    assert merged.facts == {"date": "today"}
    assert Results.read(tmp_path / "none.json") == Results()


@pytest.fixture
def document(tmp_path: Path) -> Path:
    file = tmp_path / "performance.md"
    file.write_text(f"Before\n{BEGIN}\nold\n{END}\nAfter\n")
    return file


def test_figures_go_between_the_markers(document: Path) -> None:
    update_document(document, "new")
    assert document.read_text() == f"Before\n{BEGIN}\nnew\n{END}\nAfter\n"


def test_document_without_markers(document: Path) -> None:
    document.write_text("nothing here")
    with pytest.raises(ValueError, match="has no"):
        update_document(document, "new")
