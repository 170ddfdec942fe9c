"""The settings: three sources and their precedence, and for every mistake one line that says what and where."""

from __future__ import annotations

import json
import math
import os
import re
from pathlib import Path
from typing import Any
from urllib.parse import unquote

import attrs
import pytest

from trio_chat.__main__ import _parser, _settings, main
from trio_chat.config import NO_LIMIT, Address, Limits, Settings, default_database, load, setting_names
from trio_chat.errors import StartupError

NAMES = [name for name, _ in setting_names()]
DEFAULTS: dict[str, Any] = {name: field.default for name, field in setting_names()} | {"database": default_database({})}

#: For each setting what stands in the file, in the environment and on the command line, and what each is read as.
#: Neighbours differ, also the default and the file.
SAMPLES: dict[str, list[tuple[Any, Any]]] = {
    "tcp": [
        (["[::1]:1", "h:2"], (Address("::1", 1), Address("h", 2))),
        ("192.0.2.1:3, h:4", (Address("192.0.2.1", 3), Address("h", 4))),
        (["h:5", "h:6,h:7"], (Address("h", 5), Address("h", 6), Address("h", 7))),
    ],
    "http": [("off", None), ("[::1]:1", Address("::1", 1)), ("h:2", Address("h", 2))],
    "origins": [
        (["https://a.example"], ("https://a.example",)),
        ("http://b:1, https://c", ("http://b:1", "https://c")),
        (["https://d"], ("https://d",)),
    ],
    "ws_compression": [(True, True), ("off", False), (True, True)],
    "database": [(url, url) for url in ("sqlite:///a.db", "mysql://u:p@h:3306/chat", "sqlite:////b/c.db")],
    "bus": [(url, url) for url in ("redis://h:6379/0", "rediss://u:p@h/1", "local:")],
    "node": [(name, name) for name in ("one", "two", "drei ü")],
    "workers": [(2, 2), ("4", 4), ("128", 128)],
    "tls_cert": [(file, Path(file)) for file in ("/a.pem", "b.pem", "/c d.pem")],
    "tls_key": [(file, Path(file)) for file in ("/a.pem", "b.pem", "/c d.pem")],
    "proxy_from": [
        (["192.0.2.1"], ("192.0.2.1",)),
        ("10.0.0.0/8, ::1", ("10.0.0.0/8", "::1")),
        (["2001:db8::/32"], ("2001:db8::/32",)),
    ],
    "proxy_protocol": [(True, True), ("off", False), (True, True)],
    "log_format": [(text, text) for text in ("json", "console", "json")],
    "log_level": [(text, text) for text in ("debug", "warning", "error")],
    "heartbeat": [(5, 5.0), ("0.5", 0.5), ("1e3", 1000.0)],
    "drain": [(0.25, 0.25), ("20", 20.0), ("3", 3.0)],
    "pace": [(0, 0.0), ("0.1", 0.1), ("10", 10.0)],
    "store_timeout": [(1.5, 1.5), ("2", 2.0), ("4", 4.0)],
    "store_connections": [(2, 2), ("16", 16), ("3", 3)],
    "lease": [(0.5, 0.5), ("10", 10.0), ("7", 7.0)],
    "sweep": [(2.5, 2.5), ("3", 3.0), ("4", 4.0)],
    "token_days": [(1, 1.0), ("0.01", 0.01), ("36500", 36500.0)],
    "registration": [("closed", "closed"), ("invitation", "invitation"), ("open", "open")],
    "password_length": [(2, 2), ("8", 8), ("1024", 1024)],
    "limits.frame": [(1024, 1024), ("2048", 2048), ("1000000", 1000000)],
    "limits.message": [(1, 1), ("2", 2), ("16", 16)],
    "limits.outbox": [(65536, 65536), ("70000", 70000), ("80000", 80000)],
    "limits.in_flight": [(1, 1), ("2", 2), ("3", 3)],
    "limits.requests": [(1, 1), ("2", 2), ("3", 3)],
    "limits.queue": [(1, 1), ("2", 2), ("3", 3)],
    "limits.batch": [(1, 1), ("2", 2), ("2000", 2000)],
    "limits.password_checks": [(1, 1), ("2", 2), ("3", 3)],
    "limits.logins": [(1, 1), ("2", 2), ("3", 3)],
    "limits.members": [(0, 0), ("1", 1), ("2", 2)],
    "limits.history": [(1, 1), ("2", 2), ("3", 3)],
    "limits.search": [(0, 0), ("2", 2), ("3", 3)],
    "limits.handshakes": [(1, 1), ("2", 2), ("3", 3)],
    "limits.handshake_seconds": [(0.5, 0.5), ("2", 2.0), ("3", 3.0)],
    "limits.connections": [(1, 1), ("2", 2), ("3", 3)],
    "limits.address_connections": [(1, 1), ("2", 2), ("3", 3)],
    "limits.login_seconds": [(1, 1), ("2", 2), ("3", 3)],
    "limits.memory": [(1048576, 1048576), ("1048577", 1048577), ("1048578", 1048578)],
    "limits.frames_per_second": [(1, 1), ("2", 2), ("3", 3)],
    "limits.bytes_per_second": [(1024, 1024), ("1025", 1025), ("1026", 1026)],
    "limits.deliveries_per_second": [(1, 1), ("2", 2), ("3", 3)],
    "limits.friends": [(1, 1), ("2", 2), ("3", 3)],
    "limits.groups": [(1, 1), ("2", 2), ("3", 3)],
    "limits.group_members": [(1, 1), ("2", 2), ("3", 3)],
    "limits.guesses": [(1, 1), ("2", 2), ("3", 3)],
    "limits.address_guesses": [(1, 1), ("2", 2), ("3", 3)],
    "limits.account_guesses": [(1, 1), ("2", 2), ("3", 3)],
    "limits.guess_delay": [(1, 1), ("2", 2), ("3", 3)],
    "limits.burst": [(1, 1), ("2", 2), ("3", 3)],
}

NO_NUMBER = ["", "many", "1,5", "0x10", [], {}, True]
NO_TIME = [*NO_NUMBER, "0", 0, -1, "nan", "inf", math.inf, math.nan]
NO_COUNT = [*NO_NUMBER, 1.5, "1.5", "inf", "9" * 5000]
NO_TEXT = [5, True, [], {}, ""]

#: For each setting what it does not accept. Flags and the environment get those that are texts.
WRONG: dict[str, list[Any]] = {
    "tcp": [
        "",
        "6000",
        "host",
        ":6000",
        "h:",
        "h:65536",
        "h:-1",
        "h:port",
        "h:1,,h:2",
        "h:1,",
        6000,
        [],
        [6000],
        [[]],
        {},
    ],
    "http": ["on", "8000", "OFF", "h:1,h:", *NO_TEXT],
    "origins": ["", "*", "chat.example", "https://", "https://a/", "https://a,", "ftp://a", 5, True, {}, [5]],
    "ws_compression": ["", "maybe", "2", 1, 0, [], {}],
    "database": ["chat.db", "sqlite:chat.db", "sqlite://chat.db", "postgres://h/d", "mysql:h", *NO_TEXT],
    "bus": ["redis", "redis:h", "amqp://h", *NO_TEXT],
    "node": ["n" * 256, "two\nlines", "\x1b[2J", *NO_TEXT],
    "workers": [*NO_COUNT, 0, 129],
    "tls_cert": NO_TEXT,
    "tls_key": NO_TEXT,
    "proxy_from": ["", "nginx", "10.0.0.1/8", "10.0.0.0/33", "::1,", 5, True, {}, [5]],
    "proxy_protocol": ["", "maybe", "2", 1, 0, [], {}],
    "log_format": ["xml", "JSON", *NO_TEXT],
    "log_level": ["trace", "INFO", *NO_TEXT],
    "heartbeat": NO_TIME,
    "drain": NO_TIME,
    "pace": [*NO_NUMBER, -1, "-0.01", "nan", "inf", 10.5],
    "store_timeout": NO_TIME,
    "store_connections": [*NO_COUNT, 1, 0, -1],
    "lease": [*NO_TIME, 0.4, "10.1"],
    "sweep": NO_TIME,
    "token_days": [*NO_TIME, 36501],
    "registration": ["", "never", 1, True],
    "password_length": [*NO_COUNT, 1025],
    "limits.frame": [*NO_COUNT, 1023],
    "limits.message": [*NO_COUNT, 0],
    "limits.outbox": [*NO_COUNT, 65535],
    "limits.in_flight": [*NO_COUNT, 0],
    "limits.requests": [*NO_COUNT, 0],
    "limits.queue": [*NO_COUNT, 0],
    "limits.batch": [*NO_COUNT, 0, 2001],
    "limits.password_checks": [*NO_COUNT, 0],
    "limits.logins": [*NO_COUNT, 0],
    "limits.members": [*NO_COUNT, -1],
    "limits.history": [*NO_COUNT, 0],
    "limits.search": [*NO_COUNT, -1],
    "limits.handshakes": [*NO_COUNT, 0],
    "limits.handshake_seconds": NO_TIME,
    "limits.connections": [*NO_COUNT, 0],
    "limits.address_connections": [*NO_COUNT, 0],
    "limits.login_seconds": [*NO_COUNT, 0],
    "limits.memory": [*NO_COUNT, 1048575],
    "limits.frames_per_second": [*NO_COUNT, 0],
    "limits.bytes_per_second": [*NO_COUNT, 1023],
    "limits.deliveries_per_second": [*NO_COUNT, 0],
    "limits.friends": [*NO_COUNT, 0],
    "limits.groups": [*NO_COUNT, 0],
    "limits.group_members": [*NO_COUNT, 0],
    "limits.guesses": [*NO_COUNT, 0],
    "limits.address_guesses": [*NO_COUNT, 0],
    "limits.account_guesses": [*NO_COUNT, 0],
    "limits.guess_delay": [*NO_COUNT, 0],
    "limits.burst": [*NO_COUNT, 0],
}


def toml(value: object) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{name} = {toml(item)}" for name, item in value.items()) + "}"
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    return json.dumps(value)


def write(path: Path, settings: dict[str, Any]) -> Path:
    """A settings file with these settings."""
    plain = [f"{name} = {toml(value)}" for name, value in settings.items() if not name.startswith("limits.")]
    limits = [
        f"{name.removeprefix('limits.')} = {toml(value)}"
        for name, value in settings.items()
        if name.startswith("limits.")
    ]
    path.write_text("\n".join([*plain, "[limits]", *limits, ""]))
    return path


def variable(name: str) -> str:
    return "TRIO_CHAT_" + name.upper().replace(".", "_")


def flag(name: str) -> str:
    """The flag as an error names it."""
    return f"--limit {name.removeprefix('limits.')}" if name.startswith("limits.") else "--" + name.replace("_", "-")


def arguments(name: str, value: Any) -> list[str]:
    """The setting on a command line."""
    if name.startswith("limits."):
        return ["--limit", f"{name.removeprefix('limits.')}={value}"]
    if value is True:
        return [flag(name)]
    return [argument for text in (value if isinstance(value, list) else [value]) for argument in (flag(name), text)]


def value_of(settings: Settings, name: str) -> Any:
    for part in name.split("."):
        settings = getattr(settings, part)
    return settings


def refusal(*args: Any, **kwargs: Any) -> str:
    """The error that `load` ends with: one line."""
    try:
        settings = load(*args, **kwargs)
    except StartupError as error:
        text = str(error)
    else:
        pytest.fail(f"accepted from {args}: {settings}")
    assert text.isprintable(), "one line"
    return text


def shown(value: object) -> str:
    return ascii(value)[:40]


@pytest.fixture(autouse=True)
def _clean_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in [*os.environ]:
        if name.startswith("TRIO_CHAT_") or name == "STATE_DIRECTORY":
            monkeypatch.delenv(name)


# -- what is accepted, and which source wins ------------------------------------------------------------------------------


def test_the_tables_here_know_every_setting() -> None:
    assert list(SAMPLES) == list(WRONG) == NAMES
    for name, samples in SAMPLES.items():
        values = [DEFAULTS[name], *(value for _, value in samples)]
        assert all(values[index] != values[index + 1] for index in range(3)), f"{name}: neighbours differ"


def test_without_any_source_everything_has_its_default() -> None:
    settings = load({}, {})
    assert {name: value_of(settings, name) for name in NAMES} == DEFAULTS
    assert settings.tcp == (Address("127.0.0.1", 6000),)
    assert settings.http == Address("127.0.0.1", 8000)
    assert settings.bus == "local:"
    assert settings == load({}, {"PATH": "/bin", "TRIO_CHATTY": "x", "trio_chat_tcp": "x"}), (
        "other variables are others'"
    )


def test_settings_can_be_made_without_any_argument() -> None:
    assert Settings() == attrs.evolve(load({}, {}), database="")
    assert Settings(limits=Limits(frame=2000)).limits.frame == 2000


@pytest.mark.parametrize("name", NAMES)
def test_a_flag_goes_before_the_environment_and_the_environment_before_the_file(name: str, tmp_path: Path) -> None:
    (in_file, of_file), (in_environment, of_environment), (in_flags, of_flags) = SAMPLES[name]
    file = write(tmp_path / "chat.toml", {name: in_file})
    environment, flags = {variable(name): in_environment}, {name: in_flags}

    def effective(*args: Any) -> Any:
        settings = load(*args)
        others = [other for other in NAMES if other != name]
        assert [value_of(settings, other) for other in others] == [DEFAULTS[other] for other in others]
        return value_of(settings, name)

    assert effective({}, {}, file) == of_file
    assert effective({}, environment, file) == of_environment
    assert effective(flags, environment, file) == of_flags
    assert effective(flags, {}, file) == of_flags
    assert effective(flags, environment) == of_flags
    assert effective({}, environment) == of_environment


@pytest.mark.parametrize("name", NAMES)
def test_the_command_line_has_every_setting(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (in_file, of_file), (in_environment, of_environment), (in_flags, of_flags) = SAMPLES[name]

    def effective(*line: str) -> Any:
        return value_of(_settings(_parser().parse_args(["serve", *line])), name)

    file = str(write(tmp_path / "chat.toml", {name: in_file}))
    assert effective() == DEFAULTS[name]
    assert effective("--config", file) == of_file
    monkeypatch.setenv(variable(name), in_environment)
    assert effective("--config", file) == of_environment
    assert effective("--config", file, *arguments(name, in_flags)) == of_flags
    assert effective(*arguments(name, in_flags)) == of_flags


def test_all_at_once(tmp_path: Path) -> None:
    file = write(tmp_path / "chat.toml", {name: samples[0][0] for name, samples in SAMPLES.items()})
    environment = {variable(name): samples[1][0] for name, samples in SAMPLES.items()}
    flags = {name: samples[2][0] for name, samples in SAMPLES.items()}
    for args, index in (({}, {}, file), 0), (({}, environment, file), 1), ((flags, environment, file), 2):
        settings = load(*args)
        assert {name: value_of(settings, name) for name in NAMES} == {
            name: samples[index][1] for name, samples in SAMPLES.items()
        }


def test_the_environment_may_name_the_file_and_a_flag_another(tmp_path: Path) -> None:
    one = write(tmp_path / "one.toml", {"node": "one"})
    two = write(tmp_path / "two.toml", {"node": "two"})
    assert load({}, {"TRIO_CHAT_CONFIG": str(one)}).node == "one"
    assert load({}, {"TRIO_CHAT_CONFIG": str(one)}, two).node == "two"


@pytest.mark.parametrize("name", NAMES)
def test_a_file_may_hold_the_value_of_any_variable(name: str, tmp_path: Path) -> None:
    """It stands where the variable stands: before the settings' file, behind the flags."""
    (in_file, _), (in_environment, of_environment), (in_flags, of_flags) = SAMPLES[name]
    secret = tmp_path / "secret"
    for end in ("", "\n", "\r\n"):
        secret.write_bytes(f"{in_environment}{end}".encode())
        environment = {f"{variable(name)}_FILE": str(secret)}
        file = write(tmp_path / "chat.toml", {name: in_file})
        assert value_of(load({}, environment, file), name) == of_environment
        assert value_of(load({name: in_flags}, environment, file), name) == of_flags


def test_a_file_for_a_variable_that_is_of_no_use(tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    environment = {"TRIO_CHAT_DATABASE_FILE": str(secret)}
    assert refusal({}, environment) == f"TRIO_CHAT_DATABASE_FILE {secret}: No such file or directory"
    secret.write_bytes(b"\xff")
    assert refusal({}, environment) == f"TRIO_CHAT_DATABASE_FILE {secret}: it is not a text in UTF-8"
    secret.write_text(f"postgres://u:{SECRET}@h/d\n")
    said = refusal({}, environment)
    assert said.startswith("TRIO_CHAT_DATABASE_FILE: ")
    assert SECRET not in said
    secret.write_text("\n")
    assert refusal({}, environment).startswith("TRIO_CHAT_DATABASE_FILE: ")
    assert "leave out one" in refusal({}, environment | {"TRIO_CHAT_DATABASE": "sqlite:///x.db"})
    assert refusal({}, {"TRIO_CHAT_NOPE_FILE": str(secret)}) == "TRIO_CHAT_NOPE_FILE: there is no such setting"
    assert refusal({}, {"TRIO_CHAT_CONFIG_FILE": str(secret)}) == "TRIO_CHAT_CONFIG_FILE: there is no such setting"


def test_an_empty_file_is_a_file(tmp_path: Path) -> None:
    file = tmp_path / "empty.toml"
    file.write_text("")
    assert load({}, {}, file) == load({}, {})


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("true", True),
        ("TRUE", True),
        ("yes", True),
        ("on", True),
        ("1", True),
        ("false", False),
        ("No", False),
        ("0", False),
    ],
)
def test_the_environment_says_yes_in_several_ways(text: str, value: bool) -> None:
    assert load({}, {"TRIO_CHAT_PROXY_PROTOCOL": text}).proxy_protocol is value


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        ("h:1", [("h", 1)]),
        ("h:1,i:2", [("h", 1), ("i", 2)]),
        (" h:1 , i:2 ", [("h", 1), ("i", 2)]),
        ("[::]:6000,192.0.2.1:6000", [("::", 6000), ("192.0.2.1", 6000)]),
        (["h:1"], [("h", 1)]),
        (["h:1", "[fe80::1%eth0]:0"], [("h", 1), ("fe80::1%eth0", 0)]),
        (["h:1,i:2", "j:3"], [("h", 1), ("i", 2), ("j", 3)]),
    ],
    ids=shown,
)
def test_addresses_in_a_list_or_in_one_text(value: object, expected: list[tuple[str, int]], tmp_path: Path) -> None:
    addresses = tuple(Address(*address) for address in expected)
    assert load({"tcp": value}, {}).tcp == addresses
    assert load({}, {}, write(tmp_path / "chat.toml", {"tcp": value})).tcp == addresses
    if isinstance(value, str):
        assert load({}, {"TRIO_CHAT_TCP": value}).tcp == addresses
    for address in addresses:
        assert Address.parse(str(address)) == address


# -- the default database -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("state_directory", "path"),
    [
        ("/var/lib/trio-chat", "/var/lib/trio-chat/trio-chat.db"),
        ("/var/lib/one:/var/lib/two", "/var/lib/one/trio-chat.db"),
        ("/with blank/and 100%25?#", "/with blank/and 100%25?#/trio-chat.db"),
    ],
)
def test_a_service_keeps_its_data_where_systemd_says(state_directory: str, path: str) -> None:
    url = load({}, {"STATE_DIRECTORY": state_directory}).database
    assert url == default_database({"STATE_DIRECTORY": state_directory})
    assert url.startswith("sqlite:////")
    assert unquote(url.removeprefix("sqlite:///")) == path


def test_the_process_environment_is_meant_where_none_is_given(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("STATE_DIRECTORY", str(tmp_path))
    assert unquote(default_database()) == f"sqlite:///{tmp_path.resolve()}/trio-chat.db"
    assert load({}).database == default_database()


def test_otherwise_the_data_is_in_the_users_data_directory(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr("platformdirs.user_data_dir", lambda name, **_: str(tmp_path / name))
    for environment in ({}, {"STATE_DIRECTORY": ""}):
        assert unquote(default_database(environment)) == f"sqlite:///{tmp_path.resolve()}/trio-chat/trio-chat.db"


def test_a_database_that_was_named_is_not_replaced() -> None:
    assert load({"database": "sqlite:///x.db"}, {"STATE_DIRECTORY": "/var/lib/x"}).database == "sqlite:///x.db"


# -- mistakes -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_a_wrong_value_is_named_with_the_place_where_it_stands(name: str, tmp_path: Path) -> None:
    for value in WRONG[name]:
        file = write(tmp_path / "chat.toml", {name: value})
        assert refusal({}, {}, file).startswith(f"{name} in {file}: "), value
        if isinstance(value, str):
            assert refusal({}, {variable(name): value}).startswith(f"{variable(name)}: "), value
            assert refusal({name: value}, {}).startswith(f"{flag(name)}: "), value


def test_a_value_that_loses_is_not_looked_at(tmp_path: Path) -> None:
    file = write(tmp_path / "chat.toml", {"drain": "never"})
    assert load({"drain": "5"}, {"TRIO_CHAT_DRAIN": "never"}, file).drain == 5


@pytest.mark.parametrize(
    ("line", "where"),
    [
        ("--limit frame=", "--limit frame"),
        ("--limit frame=many", "--limit frame"),
        ("--limit nope=1", "--limit nope"),
        ("--drain never", "--drain"),
        ("--tcp 6000", "--tcp"),
        ("--http on", "--http"),
    ],
)
def test_the_program_ends_with_one_line(line: str, where: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", *line.split()]) == 2
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("\n") == 1
    assert err.startswith(f"trio-chat: {where}: ")


def test_a_limit_without_a_value(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--limit", "frame"]) == 2
    assert capsys.readouterr().err == "trio-chat: --limit frame: is NAME=VALUE\n"


GUARDS = {field.name for field in attrs.fields(Limits) if "off" in field.metadata}


def lifted(settings: Settings) -> set[str]:
    return {name for name, value in attrs.asdict(settings.limits).items() if value == NO_LIMIT}


def test_limits_are_lifted_all_together_or_one_by_one(tmp_path: Path) -> None:
    assert {"connections", "memory"} < GUARDS
    file = tmp_path / "all.toml"
    file.write_text('[limits]\nall = "off"\nmemory = 1048576\n')
    assert lifted(load({}, {}, file)) == GUARDS - {"memory"}
    assert lifted(load({"limits.all": "off"}, {}, file)) == GUARDS
    assert lifted(load({"limits.all": "off", "limits.connections": "7"}, {})) == GUARDS - {"connections"}
    assert lifted(load({}, {"TRIO_CHAT_LIMITS_ALL": "off", "TRIO_CHAT_LIMITS_FRAME": "2000"})) == GUARDS
    assert lifted(load({"limits.memory": "off"}, {})) == {"memory"}


@pytest.mark.parametrize("limit", ["all=on", "all=5", "all=", "frame=off", "queue=off"])
def test_what_a_limit_cannot_be(limit: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Those without which nothing works stay: the size of a frame, the length of a queue."""
    assert main(["serve", "--limit", limit]) == 2
    assert capsys.readouterr().err.startswith(f"trio-chat: --limit {limit.partition('=')[0]}: ")


@pytest.mark.parametrize(
    ("flags", "environment", "file", "where"),
    [
        ({"nope": "1"}, {}, "", "--nope"),
        ({"limits.nope": "1"}, {}, "", "--limit nope"),
        ({"limits": "1"}, {}, "", "--limits"),
        ({}, {"TRIO_CHAT_NOPE": "1"}, "", "TRIO_CHAT_NOPE"),
        ({}, {"TRIO_CHAT_": "1"}, "", "TRIO_CHAT_"),
        ({}, {"TRIO_CHAT_LIMITS": "1"}, "", "TRIO_CHAT_LIMITS"),
        ({}, {"TRIO_CHAT_LIMITS_NOPE": "1"}, "", "TRIO_CHAT_LIMITS_NOPE"),
        ({}, {"TRIO_CHAT_FRAME": "1024"}, "", "TRIO_CHAT_FRAME"),
        ({}, {}, "nope = 1", "nope in FILE"),
        ({}, {}, "frame = 2000", "frame in FILE"),
        ({}, {}, "[limits]\nnope = 1", "limits.nope in FILE"),
        ({}, {}, "[limits]\ndrain = 1", "limits.drain in FILE"),
        ({}, {}, "[server]\ndrain = 1", "server in FILE"),
    ],
)
def test_an_unknown_setting_is_an_error(
    flags: dict[str, str], environment: dict[str, str], file: str, where: str, tmp_path: Path
) -> None:
    path = tmp_path / "chat.toml"
    path.write_text(file)
    assert refusal(flags, environment, path) == f"{where.replace('FILE', str(path))}: there is no such setting"


def test_an_unknown_flag_is_wrong_usage(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--nope", "1"])
    assert caught.value.code == 2
    assert "--nope" in capsys.readouterr().err


@pytest.mark.parametrize(
    "content",
    [b"drain", b"drain = ", b"drain = 1\ndrain = 2", b"\xff", b"drain = 08", b"[limits", b"[limits]\n[limits]"],
)
def test_a_file_that_is_no_toml_is_named(content: bytes, tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_bytes(content)
    assert refusal({}, {}, file).startswith(f"--config {file}: ")
    assert refusal({}, {"TRIO_CHAT_CONFIG": str(file)}).startswith(f"TRIO_CHAT_CONFIG {file}: ")


def test_limits_are_a_section(tmp_path: Path) -> None:
    file = tmp_path / "chat.toml"
    file.write_text("limits = 5")
    assert refusal({}, {}, file) == f"limits in {file}: is a section, [limits]"


def test_a_file_that_cannot_be_read_is_named(tmp_path: Path) -> None:
    missing = tmp_path / "missing.toml"
    assert refusal({}, {}, missing) == f"--config {missing}: No such file or directory"
    assert refusal({}, {"TRIO_CHAT_CONFIG": str(missing)}) == f"TRIO_CHAT_CONFIG {missing}: No such file or directory"
    assert refusal({}, {}, tmp_path) == f"--config {tmp_path}: Is a directory"


@pytest.mark.parametrize(
    ("settings", "limits"),
    [
        ({"store_connections": 2.5}, {}),
        ({"heartbeat": math.inf}, {}),
        ({"database": "chat.db"}, {}),
        ({"http": "on"}, {}),
        ({}, {"frame": 2048.5}),
        ({}, {"batch": 2001}),
        ({}, {"history": 0}),
    ],
)
def test_a_program_that_makes_settings_gets_an_error_too(settings: dict[str, Any], limits: dict[str, Any]) -> None:
    with pytest.raises((ValueError, TypeError)):
        Settings(**settings, limits=Limits(**limits))


def test_settings_do_not_change() -> None:
    settings = load({}, {})
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.drain = 5  # type: ignore[misc]
    with pytest.raises(attrs.exceptions.FrozenInstanceError):
        settings.limits.frame = 5  # type: ignore[misc]


# -- passwords ------------------------------------------------------------------------------------------------------------

SECRET = "hunter2"
#: A password in a place where it belongs or does not, in a URL as it should be or mistyped.
WITH_SECRET: list[Any] = [
    f"postgres://root:{SECRET}@db:3306/chat",
    f"mysql:/root:{SECRET}@db/chat",
    f"mysql//root:{SECRET}@db/chat",
    f"mysql:root:{SECRET}",
    f"root:{SECRET}@db",
    f":{SECRET}@db",
    f"foo://[root:{SECRET}@db",
    f"foo://root:p@ss{SECRET}/@db",
    f"{SECRET}@db",
    f" mysql://root:{SECRET}@db/chat",
    f"mysql:\n//root:{SECRET}@db/chat",
    [f"mysql://root:{SECRET}@db/chat"],
    {"password": SECRET},
    {"url": f"mysql://root:{SECRET}@db/chat"},
]


@pytest.mark.parametrize("value", WITH_SECRET, ids=lambda value: ascii(value).replace(SECRET, "PASSWORD"))
@pytest.mark.parametrize("name", ["database", "bus"])
def test_a_password_is_never_shown(name: str, value: Any, tmp_path: Path) -> None:
    assert SECRET not in refusal({}, {}, write(tmp_path / "chat.toml", {name: value}))
    if isinstance(value, str):
        assert SECRET not in refusal({}, {variable(name): value})
        assert SECRET not in refusal({name: value}, {})


@pytest.mark.parametrize("name", [name for name in NAMES if name not in {"database", "node"}])
def test_nor_in_the_wrong_place(name: str) -> None:
    url = f"mysql://root:{SECRET}@db:3306/chat"
    assert SECRET not in refusal({}, {variable(name): url})
    assert SECRET not in refusal({name: url}, {})


def test_nor_where_settings_are_printed() -> None:
    settings = load({"database": f"mysql://root:{SECRET}@db/chat", "bus": f"redis://:{SECRET}@h/0"}, {})
    assert SECRET in settings.database
    assert SECRET not in repr(settings)
    assert SECRET not in str(settings)


# -- help -----------------------------------------------------------------------------------------------------------------


@pytest.fixture
def help_text(capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("COLUMNS", "10000")
    monkeypatch.setenv("NO_COLOR", "1")
    with pytest.raises(SystemExit) as caught:
        main(["serve", "--help"])
    assert caught.value.code == 0
    return capsys.readouterr().out


def test_the_help_has_every_setting_and_its_default(help_text: str) -> None:
    entries = re.split(r"\n(?=  --)", help_text)
    special = {
        "tcp": "default 127.0.0.1:6000",
        "database": "default trio-chat.db in the user's data directory",
        "node": "default host name and port",
        "origins": "this server's own page always may",
        "tls_cert": "in PEM",
        "tls_key": "default in the same file",
        "proxy_from": "(repeatable)",
        "proxy_protocol": "default off",
        "ws_compression": "default off",
    }
    for name, field in setting_names():
        doc = field.metadata["doc"]
        assert doc
        if name.startswith("limits."):
            assert f"{name.removeprefix('limits.')}: {doc} ({field.default})" in help_text
            continue
        (entry,) = (entry for entry in entries if re.match(rf"  {flag(name)}\s", entry))
        assert doc in entry
        assert special.get(name, f"default {field.default}") in entry
    assert "--config FILE.toml" in help_text
    assert "--limit NAME=VALUE" in help_text
