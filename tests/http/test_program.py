"""The program as people start it: it says where its page is, and the page is there."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow


def test_the_address_that_is_printed_has_the_page(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "trio_chat", "serve", "--tcp", "127.0.0.1:0", "--http", "127.0.0.1:0"]
    command += ["--database", f"sqlite:///{tmp_path / 'chat.db'}"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True) as program:
        assert program.stdout is not None
        try:
            printed = ""
            while "or open" not in printed:
                line = program.stdout.readline()
                assert line, printed
                printed += line
            found = re.search(r"or open +(http://127\.0\.0\.1:\d+/)", printed)
            assert found, printed
            with urllib.request.urlopen(found[1], timeout=10) as answer:  # noqa: S310 (it begins with http)
                assert b"<html" in answer.read()
            other = subprocess.run(
                [*command[:-4], "--http", found[1][7:-1], "--database", f"sqlite:///{tmp_path / 'other.db'}"],
                capture_output=True,
                text=True,
                timeout=20,
                check=False,
            )
            assert other.returncode == 2
            assert "choose another with --http" in other.stderr
            program.send_signal(signal.SIGTERM)
            assert program.wait(20) == 0
        finally:
            program.kill()
