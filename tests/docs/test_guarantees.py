"""docs/guarantees.md says which tests show what: no scenario and no promise is left out."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import NAMED_TEST, ROOT, section, table_rows

PAGE = ROOT / "docs" / "guarantees.md"
SCENARIOS = table_rows(section(PAGE, "Scenarios"))
FAMILY = table_rows(section(PAGE, "Defects of the C++ family"))
PROMISES = re.split(r"\n### ", "\n" + section(PAGE, "The promises"))[1:]


def test_every_scenario_is_there() -> None:
    numbers = [row.split("|")[1].strip() for row in SCENARIOS]
    assert numbers == [str(number) for number in range(1, len(numbers) + 1)]
    assert len(numbers) >= 23


@pytest.mark.parametrize("row", SCENARIOS + FAMILY, ids=lambda row: row.split("|")[1].strip())
def test_every_row_names_a_test(row: str) -> None:
    assert NAMED_TEST.search(row)


def test_every_promise_is_there_and_names_its_tests() -> None:
    assert [promise.partition(".")[0] for promise in PROMISES] == [str(number) for number in range(1, 8)]
    for promise in PROMISES:
        assert "**Shown by**" in promise
        assert "**What could break it**" in promise
        assert NAMED_TEST.search(promise)
