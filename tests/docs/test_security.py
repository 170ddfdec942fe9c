"""SECURITY.md names what `trio-chat check` says, and leaves none of its warnings out of the operator's sight."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, section, table_rows

PAGE = ROOT / "SECURITY.md"
ROWS = table_rows(section(PAGE, "A checklist"))
CODE = " ".join(path.read_text(encoding="utf-8") for path in (ROOT / "trio_chat" / "check").glob("*.py"))
#: What is said, as it stands in the code: in parts, and over lines.
SAID = re.sub(r'"\s+f?"', "", CODE)


def test_the_rows_are_numbered() -> None:
    assert [row.split("|")[1].strip() for row in ROWS] == [str(number + 1) for number in range(len(ROWS))]
    assert len(ROWS) >= 12


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row.split("|")[1].strip())
def test_check_says_what_the_page_says_that_it_says(row: str) -> None:
    for text in re.findall(r"`([^`]+)`", row.split("|")[3]):
        assert text in SAID
