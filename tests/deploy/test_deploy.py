"""The shipped deployment files: they are valid, agree with the server's settings, and say what they promise."""

from __future__ import annotations

import configparser
import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
import yaml

import trio_chat
from tests.services.certificates import Authority
from trio_chat import config
from trio_chat.verify.programs.process import free_port

DEPLOY = Path(__file__).parents[2] / "deploy"
DRAIN = config.load({}, {}).drain


def seconds(text: str) -> float:
    number, unit = re.fullmatch(r"(\d+)(s|m|)", text).groups()  # type: ignore[union-attr]  # no match fails the test
    return float(number) * (60 if unit == "m" else 1)


# compose.yaml; that it has the form of a compose file is checked by `nox -s lint`


@pytest.fixture
def compose() -> dict[str, Any]:
    loaded: dict[str, Any] = yaml.safe_load((DEPLOY / "compose.yaml").read_text(encoding="utf-8"))
    return loaded


NODES = ["node1", "node2"]


def test_compose_publishes_nothing_but_the_chat_port(compose: dict[str, Any]) -> None:
    published = {name: service["ports"] for name, service in compose["services"].items() if "ports" in service}
    assert published == {"nginx": ["6000:6000"]}


def test_compose_lets_a_node_drain(compose: dict[str, Any]) -> None:
    assert all(seconds(compose["services"][node]["stop_grace_period"]) > DRAIN for node in NODES)


def test_compose_checks_the_health_of_all_services(compose: dict[str, Any]) -> None:
    # The nodes have their health check from the image.
    assert {name for name, service in compose["services"].items() if "healthcheck" not in service} == set(NODES)
    assert "HEALTHCHECK" in (DEPLOY / "Dockerfile").read_text(encoding="utf-8")


def test_compose_gives_the_nodes_settings_that_they_take(compose: dict[str, Any]) -> None:
    secrets = (DEPLOY / "env.example").read_text(encoding="utf-8")
    loaded = []
    for node in NODES:
        variables = dict(compose["services"][node]["environment"])
        for name, value in variables.items():
            for secret in re.findall(r"\$\{(\w+):\?[^}]*\}", value):
                assert f"\n{secret}=" in secrets
            variables[name] = re.sub(r"\$\{\w+:\?[^}]*\}", "secret", value)
        loaded.append(config.load({}, variables))
    one, two = loaded
    assert one.proxy_from == (compose["services"]["nginx"]["networks"]["front"]["ipv4_address"],)
    assert one.database == two.database == "mysql://trio_chat:secret@database:3306/trio_chat"
    assert one.bus == two.bus == "redis://:secret@redis:6379/0"
    assert [one.node, two.node] == NODES


def test_compose_and_its_list_of_nodes_agree(compose: dict[str, Any]) -> None:
    nodes = (DEPLOY / "nodes.compose.conf").read_text(encoding="utf-8")
    addresses = [compose["services"][node]["networks"]["front"]["ipv4_address"] for node in NODES]
    assert re.findall(r"(?m)^server (\S+) ", nodes) == [f"{address}:6000" for address in addresses]


# trio-chat.toml


def test_the_example_configuration_is_accepted_as_it_is() -> None:
    assert config.load({}, {}, DEPLOY / "trio-chat.toml") == config.load({}, {})


def test_the_example_configuration_names_every_setting_with_its_default(tmp_path: Path) -> None:
    text = re.sub(r"(?m)^#(\w+ = )", r"\1", (DEPLOY / "trio-chat.toml").read_text(encoding="utf-8"))
    # Two examples for one key are one too many for TOML; the first stays.
    text = re.sub(r'(?m)^database = "mysql.*\n', "", text)
    named = set(re.findall(r"(?m)^(\w+) = ", text))
    assert named == {name.removeprefix("limits.") for name, _ in config.setting_names()}

    (tmp_path / "all.toml").write_text(text, encoding="utf-8")
    loaded = config.load({}, {}, tmp_path / "all.toml")
    defaults = config.load({}, {})
    shown = attrs.evolve(loaded, database=defaults.database, node=defaults.node, tls_cert=None, tls_key=None)
    assert shown == defaults


# trio-chat.service


def unit() -> configparser.RawConfigParser:
    # strict=False: systemd lets a key come twice, and here the last one is as good as any.
    parser = configparser.RawConfigParser(strict=False, delimiters=("=",), comment_prefixes=("#",))
    parser.optionxform = str  # type: ignore[assignment,method-assign]  # the documented way to keep the case of keys
    parser.read(DEPLOY / "trio-chat.service", encoding="utf-8")
    return parser


def test_the_unit_keeps_its_data_where_the_server_looks_and_lets_it_drain() -> None:
    service = unit()["Service"]
    assert service["StateDirectory"] == "trio-chat"  # becomes STATE_DIRECTORY
    assert service["DynamicUser"] == "yes"
    assert seconds(service["TimeoutStopSec"]) > DRAIN
    assert int(service["LimitNOFILE"]) >= 65536


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="only a machine with systemd can judge its units")
def test_systemd_accepts_the_unit_and_finds_it_hardened(tmp_path: Path) -> None:
    text = (DEPLOY / "trio-chat.service").read_text(encoding="utf-8")
    path = tmp_path / "trio-chat.service"
    # It insists that the program exists.
    path.write_text(text.replace("ExecStart=/opt/trio-chat/bin/trio-chat", f"ExecStart={sys.executable}"))
    for command in (["verify"], ["security", "--offline=true", "--threshold=20"]):
        done = subprocess.run(["systemd-analyze", *command, path], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert "trio-chat.service:" not in done.stderr  # a key that it does not know is a warning to it, not an error


# healthcheck.py, as Docker calls it


async def run_healthcheck(port: int, **variables: str) -> tuple[int, str]:
    done = await trio.run_process(
        [sys.executable, DEPLOY / "healthcheck.py"],
        env={**os.environ, "TRIO_CHAT_TCP": f"0.0.0.0:{port}", **variables},
        check=False,
        capture_stderr=True,
    )
    return done.returncode, done.stderr.decode()


@pytest.mark.parametrize(("answer", "status"), [({"msgid": 21, "version": 1}, 0), ({"msgid": 24, "errno": 131}, 1)])
@pytest.mark.parametrize(
    ("variables", "proxied"),
    [
        ({"TRIO_CHAT_PROXY_PROTOCOL": "false"}, False),
        ({"TRIO_CHAT_PROXY_PROTOCOL": "true"}, True),
        ({"TRIO_CHAT_PROXY_FROM": "172.30.60.10"}, False),
        ({"TRIO_CHAT_PROXY_FROM": "172.30.60.10, 127.0.0.0/8"}, True),
    ],
)
async def test_healthcheck_says_hello(
    answer: dict[str, int], status: int, variables: dict[str, str], proxied: bool, nursery: trio.Nursery
) -> None:
    heard = []

    async def node(stream: trio.SocketStream) -> None:
        async with stream:
            received = b""
            async for chunk in stream:
                received += chunk
                if received.endswith(b"}\n"):
                    break
            heard.append(received)
            await stream.send_all(json.dumps(answer).encode() + b"\n")

    listeners = await nursery.start(trio.serve_tcp, node, 0)
    port: int = listeners[0].socket.getsockname()[1]
    returned, error = await run_healthcheck(port, **variables)
    assert returned == status, error
    (received,) = heard
    assert received.startswith(b"PROXY UNKNOWN\r\n") == proxied
    assert json.loads(received.splitlines()[-1])["msgid"] == 20


@pytest.mark.parametrize("proxied", [False, True])
async def test_healthcheck_of_a_server_with_tls(tmp_path: Path, proxied: bool) -> None:
    made = Authority(tmp_path).issue("chat.example")
    variables = {"TRIO_CHAT_TLS_CERT": str(made.certificate), "TRIO_CHAT_TLS_KEY": str(made.key)}
    if proxied:
        variables["TRIO_CHAT_PROXY_FROM"] = "127.0.0.1"
    database = {"database": f"sqlite:///{tmp_path / 'chat.db'}", "tcp": "127.0.0.1:0", "http": "off"}
    async with trio_chat.open_server(config.load(database, variables)) as server:
        returned, error = await run_healthcheck(server.addresses[0].port, **variables)
        assert returned == 0, error


async def test_healthcheck_fails_where_nobody_listens() -> None:
    returned, error = await run_healthcheck(free_port())
    assert returned == 1
    assert "refused" in error
