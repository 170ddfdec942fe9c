"""The programs, as people start them: the terminal client with its input piped, and the scenario player."""

from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from tests.client.conftest import Live

SCENARIOS = sorted((Path(__file__).parent.parent / "scenarios").glob("*.toml"))


def trio_chat(*arguments: str, text: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "trio_chat", *arguments],
        input=text,
        capture_output=True,
        text=True,
        timeout=40,
        check=False,
    )


def test_a_piped_conversation(live: Live) -> None:
    done = trio_chat(
        "client",
        live.address,
        text="register:ann:pw\nregister:ben:pw\nlogin:ann:pw\naddfriend:2\nchat:ben:a: b:c\ncreategroup:g:it is ours\n"
        "groupchat:g:hi\nfriends\ngroups\nhistory:ben\nloginout\nlogin:2:pw\n",
    )
    assert done.stderr == ""
    assert done.returncode == 0
    assert "friend 2 ben, offline" in done.stdout
    assert "group 1 g: it is ours (ann)" in done.stdout
    assert done.stdout.count("[1] ann: a: b:c") == 2  # in the history, and when ben logged in


def test_what_fails_is_said_and_counted(live: Live) -> None:
    done = trio_chat(
        "client", live.address, text="register:ann:pw\nlogin:ann:pw\nchat:9:x\nnonsense\nchat:x\nchat:bob:x\n"
    )
    assert done.returncode == 1
    errors = done.stderr.splitlines()
    assert len(errors) == 4
    assert "no user of this id" in errors[0]
    assert "no command 'nonsense'" in errors[1]
    assert "chat:ID:TEXT" in errors[2]
    assert "no user of this name" in errors[3]


def test_people_are_named_by_name_where_they_are_known(live: Live) -> None:
    """A name of digits logs in; a member of one's group and whoever wrote can be named; anybody else is an id."""
    done = trio_chat(
        "client",
        live.address,
        text="register:ann:pw\nregister:42:other\nlogin:ann:pw\ncreategroup:g\nchat:2:hi\nloginout\n"
        "login:42:other\naddgroup:1\naddfriend:ann\nchat:ann:hi\nhistory:ann\ngrouphistory:g:5\nloginout\n"
        "login:2:other\nfriends\n",
    )
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout.count("logged in as 42, id 2") == 2
    assert "ann is on your list, offline" in done.stdout
    assert "[2] 42: hi" in done.stdout


def test_bytes_that_are_no_text_cost_their_line_only(live: Live) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "trio_chat", "client", live.address],
        input=b"register:ann:pw\r\nlogin:ann:pw\nchat:1:\xff\nchat:1:\xc3\xbc\nchat:1:\x1b[2J\nhistory:ann\nchat:1:the end",
        capture_output=True,
        timeout=40,
        check=False,
    )
    assert done.returncode == 1
    assert done.stderr.decode() == "chat: this line is not text in UTF-8; nothing was sent\n"
    shown = done.stdout.decode()
    assert "ann: ü\n" in shown
    assert "ann: \\x1b[2J\n" in shown


def test_an_address_that_is_none() -> None:
    done = trio_chat("client", "nonsense")
    assert done.returncode == 2
    assert done.stderr == "'nonsense' is not an address; an address looks like 127.0.0.1:6000\n"


def test_an_interrupt_ends_a_client_whose_input_goes_on(standing: Live) -> None:
    command = [sys.executable, "-m", "trio_chat", "client", standing.address]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as client:
        assert client.stdout is not None
        assert "connected" in client.stdout.readline()
        client.send_signal(signal.SIGINT)
        assert client.wait(20) == 130


def test_help_needs_no_login(standing: Live) -> None:
    done = trio_chat("client", standing.address, text="help\nquit\n")
    for command in ("chat:ID:TEXT", "addfriend:ID", "creategroup:NAME", "addgroup:ID", "groupchat:ID:TEXT", "loginout"):
        assert command in done.stdout
    assert done.returncode == 0


def test_no_server() -> None:
    done = trio_chat("client", "127.0.0.1:1")
    assert done.returncode == 1
    assert "trio-chat serve" in done.stderr


@pytest.mark.parametrize("file", SCENARIOS, ids=lambda path: path.stem)
def test_scenario(standing: Live, file: Path) -> None:
    done = trio_chat("script", str(file), "--server", standing.address)
    assert (done.returncode, done.stderr) == (0, ""), done.stdout + done.stderr


def test_a_difference_is_reported(standing: Live, tmp_path: Path) -> None:
    wrong = tmp_path / "wrong.toml"
    wrong.write_text(SCENARIOS[0].read_text().replace('"errno" = 0', '"errno" = 5').replace("errno = 0", "errno = 5"))
    done = trio_chat("script", str(wrong), "--server", standing.address)
    assert done.returncode == 1
    assert "step" in done.stdout
    assert "expected" in done.stdout


def test_sigterm_is_a_clean_exit(live: Live) -> None:
    assert live.stop() == 0


def test_serve_twice_on_one_port_is_one_clear_line(standing: Live, tmp_path: Path) -> None:
    done = trio_chat(
        "serve", "--tcp", standing.address, "--http", "off", "--database", f"sqlite:///{tmp_path / 'other.db'}"
    )
    assert done.returncode == 2
    [line] = done.stderr.splitlines()
    assert line.startswith(f"trio-chat: cannot listen on {standing.address}")


def test_an_interrupt_ends_the_server_too(live: Live) -> None:
    assert live.process is not None
    live.process.send_signal(signal.SIGINT)
    assert live.process.wait(20) == 0
