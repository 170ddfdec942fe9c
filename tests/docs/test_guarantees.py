"""docs/guarantees.md says which tests show what: they exist, and no scenario is left out."""

from __future__ import annotations

import ast
import functools
import re

import pytest

from tests.docs.pages import ROOT

PAGE = (ROOT / "docs" / "guarantees.md").read_text(encoding="utf-8")

#: A test as the page names it: the file from tests/ on, without its ending, and the function.
_TEST = re.compile(r"`([\w/]+)::(test_\w+)`")


def section(title: str) -> str:
    return PAGE.partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table_rows(text: str) -> list[str]:
    return [line for line in text.splitlines() if line.startswith("|")][2:]


@functools.cache
def functions(path: str) -> set[str]:
    tree = ast.parse((ROOT / "tests" / f"{path}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}


SCENARIOS = table_rows(section("Scenarios"))
FAMILY = table_rows(section("Defects of the C++ family"))
PROMISES = re.split(r"\n### ", "\n" + section("The promises"))[1:]


@pytest.mark.parametrize("test", sorted(set(_TEST.findall(PAGE))), ids="::".join)
def test_a_test_that_is_named_exists(test: tuple[str, str]) -> None:
    path, name = test
    assert name in functions(path)


def test_every_scenario_is_there() -> None:
    numbers = [row.split("|")[1].strip() for row in SCENARIOS]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert len(numbers) >= 23


@pytest.mark.parametrize("row", SCENARIOS + FAMILY, ids=lambda row: row.split("|")[1].strip())
def test_every_row_names_a_test(row: str) -> None:
    assert _TEST.search(row)


def test_every_promise_is_there_and_names_its_tests() -> None:
    assert [promise.partition(".")[0] for promise in PROMISES] == [str(number) for number in range(1, 8)]
    for promise in PROMISES:
        assert "**Shown by**" in promise
        assert "**What could break it**" in promise
        assert _TEST.search(promise)
