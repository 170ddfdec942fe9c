"""The fixture for the private nginx. `tests/conftest.py` loads this file as a plugin."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest

from trio_chat.verify.programs.nginx import Nginx

__all__ = ["StartNginx", "start_nginx"]

StartNginx = Callable[[Sequence[tuple[str, int]]], Nginx]


@pytest.fixture
def start_nginx(tmp_path: Path) -> Iterator[StartNginx]:
    """Start an nginx in front of the given nodes, by the shipped configuration; it ends with the test."""
    with contextlib.ExitStack() as running:

        def start(nodes: Sequence[tuple[str, int]]) -> Nginx:
            return running.enter_context(Nginx(tmp_path / "nginx", nodes))

        yield start
