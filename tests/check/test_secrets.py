"""Secrets that others may read: on the command line, in files, on the way; said by `check` and at each start."""

from __future__ import annotations

from pathlib import Path

import pytest

from trio_chat.__main__ import main
from trio_chat.check.secrets import check_secrets, check_transit
from trio_chat.config import load

PASSWORD = "hunter2"
URL = f"mysql://chat:{PASSWORD}@localhost/chat"


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({"database": URL}, ["database"]),
        ({"bus": f"redis://:{PASSWORD}@localhost/0"}, ["bus"]),
        ({"database": URL, "bus": f"rediss://u:{PASSWORD}@localhost/0"}, ["database", "bus"]),
        ({"database": "sqlite:///a@b:c.db", "bus": "redis://localhost/0"}, []),
        ({"database": "mysql://chat@localhost/chat?unix_socket=/run/x"}, []),
        ({}, []),
    ],
)
def test_the_list_of_processes(flags: dict[str, object], parts: list[str]) -> None:
    findings = list(check_secrets(flags, {"TRIO_CHAT_DATABASE": URL}, None))
    assert [each.part for each in findings] == parts
    assert all("_FILE" in each.do and PASSWORD not in str(each) for each in findings)


@pytest.mark.parametrize(("mode", "told"), [(0o600, False), (0o640, False), (0o644, True)])
def test_files_that_everybody_can_read(tmp_path: Path, mode: int, told: bool) -> None:
    secret, settings, plain = tmp_path / "secret", tmp_path / "with.toml", tmp_path / "without.toml"
    secret.write_text(URL)
    settings.write_text(f'database = "{URL}"\n')
    plain.write_text(f'#database = "{URL}"\nbus = "redis://localhost/0"\n')
    for file in (secret, settings, plain):
        file.chmod(mode)
    findings = list(check_secrets({}, {"TRIO_CHAT_DATABASE_FILE": str(secret)}, settings))
    assert {each.part for each in findings} == ({"database", "settings"} if told else set())
    assert {each.do for each in findings} == ({f"chmod 600 {secret}", f"chmod 600 {settings}"} if told else set())
    assert [each.part for each in check_secrets({}, {"TRIO_CHAT_CONFIG": str(settings)}, None)] == ["settings"] * told
    assert not list(check_secrets({}, {}, plain))
    assert not list(check_secrets({}, {"TRIO_CHAT_BUS_FILE": str(tmp_path / "none")}, None))


@pytest.mark.parametrize(
    ("flags", "parts"),
    [
        ({"database": "mysql://u:p@db.example/d", "bus": "redis://r.example"}, ["database", "bus"]),
        ({"database": "mysql://u:p@db.example/d?ssl=verify", "bus": "rediss://r.example"}, []),
        ({"database": "mysql://u:p@127.0.0.1/d", "bus": "redis://localhost"}, []),
        ({"database": "mysql://u:p@db.example/d?unix_socket=/run/x", "bus": "rediss://r?ssl_cert_reqs=none"}, ["bus"]),
        ({"database": "mysql://u:p@db.example/"}, []),
    ],
)
def test_on_the_way(flags: dict[str, str], parts: list[str]) -> None:
    findings = list(check_transit(load(flags, {})))
    assert [each.part for each in findings] == parts


def test_serve_says_so_at_its_start(capsys: pytest.CaptureFixture[str]) -> None:
    """One line each, and the password in none of them."""
    port = f"mysql://chat:{PASSWORD}@localhost:1/chat"
    assert main(["serve", "--database", port, "--tcp", "127.0.0.1:0", "--http", "off"]) == 2
    said = capsys.readouterr()
    assert said.err.count("list of processes") == 1
    assert PASSWORD not in said.out + said.err
