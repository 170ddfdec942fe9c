"""What the pages say about commands, settings, code and each other is true."""

from __future__ import annotations

import json
import os
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.docs import settings_table
from tests.docs.pages import NAMED_TEST, PAGES, ROOT, Block, blocks, functions
from trio_chat.__main__ import _parser, _settings
from trio_chat.config import load

_LINK = re.compile(r"\[[^\]]*\]\(([^)#\s]+)[^)]*\)")
_LOGGED = re.compile(r"\d{4}-\d\d-\d\d \d\d:")  # structlog, as it is where nobody has configured it
_RELATION = re.compile(r"\s*(?:&&|\|\||;|\|)\s*")


def commands(block: Block) -> Iterator[list[str]]:
    """The arguments of each call of trio-chat in a block of shell commands, `VARIABLE=…` before it left out."""
    text = block.text.replace("\\\n", " ")
    for line in text.splitlines():
        if block.language == "console" and not line.startswith(("$ ", "# ")):
            continue  # what the command prints
        for command in _RELATION.split(line.removeprefix("$ ").removeprefix("# ")):
            words = shlex.split(command, comments=True)
            if words[-1:] == ["&"]:
                words.pop()
            while words and re.match(r"[A-Z_]+=", words[0]):
                words.pop(0)
            if words and Path(words[0]).name == "trio-chat":
                yield words[1:]
            elif words[1:3] == ["-m", "trio_chat"]:
                yield words[3:]


CALLS = [(block, call) for block in blocks("console", "sh") for call in commands(block)]


@pytest.mark.parametrize(("block", "call"), CALLS, ids=str)
def test_a_command_line_is_understood(block: Block, call: list[str]) -> None:
    if "<" in call:
        call = call[: call.index("<")]
    options = _parser().parse_args(call)
    if call[0] == "serve":
        options.config = options.config and ROOT / "deploy" / options.config.name
        _settings(options)


@pytest.mark.parametrize("block", list(blocks("console", "sh")), ids=str)
def test_exported_variables_are_settings(block: Block) -> None:
    for line in block.text.splitlines():
        if line.startswith("export "):
            load({}, dict(word.split("=", 1) for word in shlex.split(line)[1:]))


def test_there_are_command_lines() -> None:
    assert {call[0] for _, call in CALLS} >= {"serve", "client"}


@pytest.mark.parametrize("block", list(blocks("python")), ids=str)
def test_python_runs(block: Block, tmp_path: Path) -> None:
    """Each block is a program; what it prints stands in its comments `# prints: …`, in order."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error"}
    done = subprocess.run(
        [sys.executable, "-c", block.text],
        cwd=tmp_path,
        env=environment,
        capture_output=True,
        text=True,
        timeout=50,
        check=False,
    )
    assert done.returncode == 0, f"{block}\n{done.stderr}"
    printed = [line for line in done.stdout.splitlines() if not _LOGGED.match(line)]
    assert printed == re.findall(r"# prints: (.*)", block.text)


@pytest.mark.parametrize("block", list(blocks("toml")), ids=str)
def test_a_settings_file_is_understood(block: Block, tmp_path: Path) -> None:
    file = tmp_path / "settings.toml"
    file.write_text(block.text, encoding="utf-8")
    load({}, {}, file)
    assert tomllib.loads(block.text), "shows nothing"


@pytest.mark.parametrize("block", list(blocks("json")), ids=str)
def test_json_is_json(block: Block) -> None:
    for line in block.text.splitlines():
        json.loads(line)


def test_the_table_of_settings_is_up_to_date() -> None:
    assert settings_table.in_page() == settings_table.table(), "run: python -m tests.docs.settings_table"


@pytest.mark.parametrize("page", [*PAGES, ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md"], ids=lambda page: page.name)
def test_links_lead_somewhere(page: Path) -> None:
    for target in _LINK.findall(page.read_text(encoding="utf-8")):
        if not target.startswith(("http://", "https://")):
            assert (page.parent / target).exists(), f"{page.name} links to {target}"


_NAMED = sorted({named for page in PAGES for named in NAMED_TEST.findall(page.read_text(encoding="utf-8"))})


@pytest.mark.parametrize("test", _NAMED, ids="::".join)
def test_a_test_that_is_named_exists(test: tuple[str, str]) -> None:
    path, name = test
    assert name in functions(path)


def test_every_decision_is_listed() -> None:
    listed = (ROOT / "docs" / "architecture.md").read_text(encoding="utf-8")
    for page in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        assert re.match(r"\d{4}-[a-z0-9-]+\.md$", page.name)
        assert f"](decisions/{page.name})" in listed
