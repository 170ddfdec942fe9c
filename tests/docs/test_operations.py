"""docs/operations.md names events of the log: there are such."""

from __future__ import annotations

import re

import pytest

from tests.docs.pages import ROOT, section, table_rows

PAGE = ROOT / "docs" / "operations.md"
EVENTS = [event for row in table_rows(section(PAGE, "Logs")) for event in re.findall(r"`([^`]+)`", row.split("|")[1])]
SOURCE = "\n".join(path.read_text(encoding="utf-8") for path in (ROOT / "trio_chat").rglob("*.py"))


@pytest.mark.parametrize("event", EVENTS)
def test_an_event_that_is_worth_watching_is_logged(event: str) -> None:
    beginning = event.removesuffix("…")
    ending = "" if event.endswith("…") else '"'
    assert f'"{beginning}{ending}' in SOURCE


def test_there_are_events() -> None:
    assert len(EVENTS) >= 10
