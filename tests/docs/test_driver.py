"""The page about the MySQL driver names a test for each trap of trio-mysql."""

from __future__ import annotations

import pytest

from tests.docs.pages import NAMED_TEST, ROOT, section, table_rows

PAGE = next((ROOT / "docs" / "decisions").glob("*-trio-mysql.md"))
TRAPS = table_rows(section(PAGE, "The traps"))


def test_no_trap_is_left_out() -> None:
    assert len(TRAPS) >= 11


@pytest.mark.parametrize("row", TRAPS, ids=lambda row: row.split("|")[1].strip())
def test_every_trap_names_a_test(row: str) -> None:
    assert NAMED_TEST.search(row)
