"""The page's protocol, texts and lists: its modules without a browser, in the Node.js that Playwright brings along."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from playwright._impl._driver import compute_driver_executable

TESTS = sorted((Path(__file__).parent / "core").glob("*.test.mjs"))


@pytest.mark.slow
@pytest.mark.parametrize("path", TESTS, ids=lambda path: path.name.partition(".")[0])
def test_module(path: Path) -> None:
    node, _ = compute_driver_executable()
    done = subprocess.run([node, "--test", path], capture_output=True, text=True, timeout=50, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


def test_there_are_modules() -> None:
    assert TESTS
