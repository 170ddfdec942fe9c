"""How findings are shown, and what the settings and files give rise to."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import attrs
import pytest

from trio_chat import Address, Settings
from trio_chat.check.files import check_place, check_private, filesystem
from trio_chat.check.finding import Finding, Level, as_json, as_text, note, ok, problem, warning
from trio_chat.check.settings import check_settings, is_local
from trio_chat.config import load

MANY = 1_000_000
EVERYWHERE = "0.0.0.0"  # noqa: S104 - nobody listens
OUTSIDE = (Address(EVERYWHERE, 6000),)
SQLITE = Settings(database="sqlite:///chat.db")
MYSQL = Settings(database="mysql://me:pw@h/d")


def found(settings: Settings, descriptors: int = MANY) -> dict[str, Level]:
    """What is not as it should be: what is said, and how bad it is."""
    findings = check_settings(settings, descriptors=descriptors)
    return {f"{each.part}: {each.says}": each.level for each in findings if each.level is not Level.OK}


def one(settings: Settings, text: str, descriptors: int = MANY) -> Level:
    levels = [level for says, level in found(settings, descriptors).items() if text in says]
    assert len(levels) == 1, found(settings, descriptors)
    return levels[0]


def test_the_default_settings_are_as_they_should_be() -> None:
    assert found(SQLITE) == {}


@pytest.mark.parametrize(
    ("changes", "level", "says"),
    [
        ({"tcp": OUTSIDE}, Level.WARNING, "readable on 0.0.0.0:6000"),
        ({"proxy_from": ("10.0.0.0/8",)}, Level.WARNING, "2^24 addresses of 10.0.0.0/8 can say with a PROXY header"),
        ({"proxy_from": ("2001:db8::/48",)}, Level.WARNING, "2^80"),
        ({"proxy_from": ("::/0",)}, Level.PROBLEM, "::/0 is everybody"),
        ({"http": Address("::", 80)}, Level.WARNING, "readable on [::]:80"),
        ({"http": Address("h", 80)}, Level.WARNING, "/metrics"),
        ({"origins": ("https://*.example.org",)}, Level.PROBLEM, "no wildcards"),
        ({"origins": ("http://example.org",)}, Level.WARNING, "http://example.org"),
        ({"bus": "redis://h/0"}, Level.NOTE, "SQLite"),
        ({"database": "mysql://me:pw@h/d"}, Level.NOTE, "the bus is local"),
        ({"database": "mysql://me:pw@h/d", "bus": "redis://h/0"}, Level.NOTE, "clones"),
        ({"log_level": "debug"}, Level.NOTE, "debug"),
        ({"tcp": OUTSIDE}, Level.NOTE, "everybody who reaches the server may register"),
        ({"proxy_protocol": True, "registration": "invitation"}, Level.NOTE, "a password may have 1 character"),
    ],
)
def test_a_setting_that_opens_or_confuses_is_told(changes: dict[str, Any], level: Level, says: str) -> None:
    assert one(attrs.evolve(SQLITE, **changes), says) is level


def test_what_is_in_order_is_not() -> None:
    settings = attrs.evolve(
        MYSQL,
        bus="redis://h/0",
        node="one",
        http=None,
        origins=("https://example.org", "http://localhost:3000"),
    )
    assert found(settings) == {}


def test_tls_and_proxies_in_order() -> None:
    settings = attrs.evolve(
        SQLITE,
        tcp=OUTSIDE,
        tls_cert=Path("chat.pem"),
        proxy_from=("10.1.2.3", "172.17.0.0/16", "fd00::/64"),
        proxy_protocol=True,
        registration="closed",
    )
    assert found(settings) == {}


def test_limits_that_are_off() -> None:
    everything = load({"database": "sqlite:///chat.db", "limits.all": "off"}, {})
    assert one(everything, "limits are off (all)") is Level.WARNING
    assert one(everything, "may open 1,000,000 files") is Level.NOTE
    one_of_them = load({"database": "sqlite:///chat.db", "limits.memory": "off"}, {})
    assert one(one_of_them, "limits are off (memory)") is Level.WARNING


def test_connections_need_descriptors() -> None:
    assert one(SQLITE, "50,000 connections", descriptors=50_000) is Level.WARNING
    assert found(SQLITE, descriptors=51_000) == {}


@pytest.mark.parametrize(
    ("host", "local"), [("127.8.9.1", True), ("::1", True), ("localhost", True), (EVERYWHERE, False)]
)
def test_which_hosts_are_this_machine(host: str, local: bool) -> None:
    assert is_local(host) is local


# --- Files ---


def test_a_file_that_others_may_read(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    assert list(check_private("database", file, "secrets")) == []
    file.touch(0o600)
    assert list(check_private("database", file, "secrets")) == []
    file.chmod(0o640)
    (finding,) = check_private("database", file, "secrets")
    assert (finding.level, finding.do) == (Level.WARNING, f"chmod 600 {file}")


MOUNTS = r"""
/dev/sda1 / ext4 rw 0 0
server:/x /mnt/a\040b nfs4 rw 0 0
/dev/sdb1 /mnt/a\040b/local xfs rw 0 0
"""


@pytest.mark.parametrize(
    ("path", "kind"), [("/var/lib", "ext4"), ("/mnt/a b/c", "nfs4"), ("/mnt/a b/local", "xfs"), ("/mnt/a bc", "ext4")]
)
def test_what_file_system_a_path_is_on(path: str, kind: str) -> None:
    assert filesystem(Path(path), MOUNTS) == kind


def test_a_database_over_the_network_is_a_problem(tmp_path: Path) -> None:
    bad = list(check_place("database", tmp_path, f"server:/x {tmp_path} nfs rw 0 0"))
    good = list(check_place("database", tmp_path, f"/dev/sda1 {tmp_path} ext4 rw 0 0"))
    assert [each.level for each in bad[:-1]] == [Level.PROBLEM]
    assert len(good) == 1
    assert "free in" in good[0].says


def test_little_room_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for free, level in {50 << 20: Level.PROBLEM, 500 << 20: Level.WARNING, 2 << 30: Level.OK}.items():
        monkeypatch.setattr("shutil.disk_usage", lambda _, free=free: attrs.make_class("Usage", ["free"])(free))
        (finding,) = check_place("database", tmp_path, "")
        assert finding.level is level


# --- How it is shown ---

FINDINGS = [ok("a", "fine"), note("a", "so so", "look"), warning("b", "weak", "set it"), problem("c", "broken")]


def test_findings_as_text() -> None:
    assert as_text(FINDINGS).splitlines() == [
        "ok       a              fine",
        "note     a              so so",
        "                        do: look",
        "warning  b              weak",
        "                        do: set it",
        "problem  c              broken",
        "1 problem, 1 warning, 1 note",
    ]


def test_findings_as_json() -> None:
    shown = json.loads(as_json(FINDINGS))
    assert shown["findings"][1] == {"level": "note", "part": "a", "says": "so so", "do": "look"}
    assert shown["counts"] == {"problem": 1, "warning": 1, "note": 1, "ok": 1}
    assert as_json([Finding(Level.OK, "a", "é")])
