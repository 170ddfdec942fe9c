"""The pages under test, and the fenced blocks in them."""

from __future__ import annotations

import ast
import functools
import re
from collections.abc import Iterator
from pathlib import Path

import attrs

__all__ = ["NAMED_TEST", "PAGES", "ROOT", "Block", "blocks", "functions", "section", "table_rows"]

ROOT = Path(__file__).parents[2]
PAGES = [ROOT / "README.md", ROOT / "SECURITY.md", *sorted((ROOT / "docs").rglob("*.md"))]

#: A test as the pages name it: the file from tests/ on, without its ending, and the function.
NAMED_TEST = re.compile(r"`([\w/]+)::(test_\w+)`")

_FENCED = re.compile(r"^```(\w+)[^\n]*\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@attrs.frozen
class Block:
    """A fenced block: its language, its text, and where it stands."""

    language: str
    text: str
    page: Path
    line: int

    def __str__(self) -> str:
        return f"{self.page.relative_to(ROOT)}:{self.line}"


def blocks(*languages: str, pages: list[Path] = PAGES) -> Iterator[Block]:
    """All blocks in one of these languages, in order."""
    for page in pages:
        text = page.read_text(encoding="utf-8")
        for found in _FENCED.finditer(text):
            if found[1] in languages:
                yield Block(found[1], found[2], page, text.count("\n", 0, found.start()) + 1)


def section(page: Path, title: str) -> str:
    """What stands under a heading of the second level."""
    return page.read_text(encoding="utf-8").partition(f"\n## {title}\n")[2].partition("\n## ")[0]


def table_rows(text: str) -> list[str]:
    """The rows of the table in a text, its head left out."""
    return [line for line in text.splitlines() if line.startswith("|")][2:]


@functools.cache
def functions(path: str) -> set[str]:
    """The functions of a file of tests, named as in `NAMED_TEST`."""
    tree = ast.parse((ROOT / "tests" / f"{path}.py").read_text(encoding="utf-8"))
    return {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)}
