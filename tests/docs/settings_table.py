"""The table of settings in docs/operations.md: `python -m tests.docs.settings_table` brings it up to date."""

from __future__ import annotations

import re
from typing import Any

from tests.docs.pages import ROOT
from trio_chat.config import setting_names

__all__ = ["PAGE", "in_page", "table"]

PAGE = ROOT / "docs" / "operations.md"

_MARKED = re.compile(r"(?<=<!-- settings: begin -->\n).*?(?=<!-- settings: end -->)", re.DOTALL)


def table() -> str:
    """All settings as a table in Markdown."""
    rows = ["| setting | default | meaning |", "|---|---|---|"]
    for name, field in setting_names():
        doc = field.metadata["doc"].replace("|", "\\|")
        rows.append(f"| `{name}` | {_shown(field.default)} | {doc} |")
    return "\n".join(rows) + "\n"


def in_page() -> str:
    """The table that the page has."""
    found = _MARKED.search(PAGE.read_text(encoding="utf-8"))
    assert found, f"{PAGE} has lost the marks around its table"
    return found[0]


def _shown(default: Any) -> str:
    if isinstance(default, bool):
        return f"`{str(default).lower()}`"
    if type(default) is tuple:
        return ", ".join(f"`{item}`" for item in default)
    return f"`{default}`" if default not in {"", None} else ""


if __name__ == "__main__":
    PAGE.write_text(_MARKED.sub(lambda _: table(), PAGE.read_text(encoding="utf-8")), encoding="utf-8")
