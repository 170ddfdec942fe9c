"""`trio-chat check` as an operator calls it."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from trio_chat.__main__ import main


def test_it_reads_the_settings_that_serve_reads(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    file = tmp_path / "trio-chat.toml"
    file.write_text(f'database = "sqlite:///{tmp_path}/there/chat.db"\n[limits]\nconnections = 10\n')
    monkeypatch.setenv("TRIO_CHAT_LOG_LEVEL", "debug")
    assert main(["check", "--config", str(file), "--origins", "https://*.example.org", "--json"]) == 1
    shown = json.loads(capsys.readouterr().out)
    says = " ".join(each["says"] for each in shown["findings"])
    for text in (f"{tmp_path}/there/chat.db is not there yet", "debug", "no wildcards"):
        assert text in says
    assert shown["counts"]["problem"] == 1
    assert not (tmp_path / "there").exists()


def test_without_a_problem_its_status_is_0(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--database", f"sqlite:///{tmp_path}/chat.db", "--limit", "connections=10"]) == 0
    assert "0 problems" in capsys.readouterr().out.splitlines()[-1]


def test_urls_that_will_not_do_are_problems(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--database", "mysql://u:hunter2@h/", "--bus", "redis://u@h"]) == 1
    out = capsys.readouterr().out
    assert "needs a user and a database" in out
    assert "has a user but no password" in out
    assert "hunter2" not in out


def test_a_wrong_setting_is_a_wrong_call(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--lease", "never"]) == 2
    assert "--lease" in capsys.readouterr().err


@pytest.mark.parametrize(("text", "told"), [("mysql://u:p@h/d", True), ("sqlite:///x.db", False)])
def test_a_settings_file_with_a_password_is_private(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], text: str, told: bool
) -> None:
    file = tmp_path / "trio-chat.toml"
    file.write_text(f'# redis://:p@h\ndatabase = "{text}"\n')
    file.chmod(0o644)
    main(["check", "--config", str(file), "--database", f"sqlite:///{tmp_path}/chat.db"])
    assert (f"chmod 600 {file}" in capsys.readouterr().out) is told


def test_workers_need_a_cluster(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["check", "--database", f"sqlite:///{tmp_path}/chat.db", "--workers", "2"]) == 1
    assert "--workers 2 needs MySQL" in capsys.readouterr().out


def test_the_certificate_is_looked_at(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    database = f"sqlite:///{tmp_path}/chat.db"
    assert main(["check", "--database", database, "--tls-cert", f"{tmp_path}/missing.pem"]) == 1
    assert "missing.pem and its key cannot be used: No such file" in capsys.readouterr().out


def test_root_is_told(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main(["check", "--database", f"sqlite:///{tmp_path}/chat.db"])
    assert ("runs as root" in capsys.readouterr().out) is (os.geteuid() == 0)
