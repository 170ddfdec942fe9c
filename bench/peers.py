"""The servers that others use instead: ejabberd, prosody, ngircd, as Debian packages them, each set up at its best.

At their best means: no TLS, no shapers, limits raised beyond need, kernel polling, nothing logged, no archive. ejabberd keeps
accounts and offline messages in Mnesia, prosody in memory, ngircd has none; none of them waits for a disk, so none is durable.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from bench.dialects import Client, Irc, Link, Step, Xmpp
from bench.generator import Generator
from bench.systems import Need, Place, System
from trio_chat.verify.programs.process import ServiceProcess, accepts, find_program, free_port

__all__ = ["Ejabberd", "Ngircd", "Prosody", "XmppSystem"]

_XMPP, _IRC = Xmpp(), Irc()


def _name(user: int) -> str:
    return f"u{user}"


class PeerSystem(System):
    durable = False
    #: The file that shows whether it is installed.
    program = ""
    package = ""

    def missing(self) -> list[str]:
        return [] if Path(self.program).exists() else [self.package]

    def versions(self) -> dict[str, str]:
        command = ["dpkg-query", "--show", "--showformat", "${Version}", self.package]
        return {self.package: subprocess.run(command, capture_output=True, text=True, check=False).stdout or "unknown"}

    def _command(self, directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
        """What starts it on this port, with its configuration and all that it keeps in `directory`."""
        raise NotImplementedError

    @contextmanager
    def _server(self, directory: Path) -> Iterator[tuple[int, int]]:
        """Its port and its process."""
        port = free_port()
        command, env = self._command(directory, port)
        env = {"HOME": os.fspath(directory), **env}
        with ServiceProcess(
            self.name, command, directory=directory, ready=lambda: accepts(port), env=env, start_timeout=40.0
        ) as server:
            yield port, server.pid


class XmppSystem(PeerSystem):
    @contextmanager
    def open(self, directory: Path, need: Need) -> Iterator[Place]:
        with self._server(directory) as (port, pid):
            names = [_name(user) for user in range(need.users)]
            registrations = [Client("x", port, _XMPP.register(name)) for name in names]
            with Generator(self.generator, directory, registrations) as generator:
                generator.login()
            clients = [Client("x", port, _xmpp_steps(user, need)) for user in range(need.users)]

            def direct(number: int, sender: int, receiver: int) -> Link:
                acknowledged = sender in need.storing
                return _XMPP.direct(number, names[receiver], (sender, [receiver]), acknowledged=acknowledged)

            def group(number: int, sender: int, room: int) -> Link:
                others = [user for user in need.groups[room] if user != sender]
                return _XMPP.group(number, f"room{room}", (sender, others))

            yield Place({"server": [pid]}, clients, direct, group)


def _xmpp_steps(user: int, need: Need) -> list[Step]:
    steps = _XMPP.log_in(_name(user))
    for number, members in enumerate(need.groups):
        if user in members:
            steps += _XMPP.join(f"room{number}", _name(user))
    return [*steps, *_XMPP.acknowledged()] if user in need.storing else steps


class Ejabberd(XmppSystem):
    name = "ejabberd"
    title = "ejabberd"
    program = "/usr/sbin/ejabberdctl"
    package = "ejabberd"

    def _command(self, directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
        configuration = directory / "ejabberd.yml"
        configuration.write_text(
            f"""
loglevel: none
hosts: [{_XMPP.host}]
auth_method: [mnesia]
auth_password_format: plain
registration_timeout: infinity
max_fsm_queue: 1000000
listen:
  - {{port: {port}, ip: "127.0.0.1", module: ejabberd_c2s, max_stanza_size: 262144, shaper: none, backlog: 4096}}
access_rules: {{everything: {{allow: all}}}}
shaper_rules: {{offline: infinity}}
modules:
  mod_register: {{access: everything, ip_access: all, password_strength: 0, allow_modules: all}}
  mod_offline: {{access_max_user_messages: offline, db_type: mnesia}}
  mod_stream_mgmt: {{ack_timeout: 3600}}
  mod_muc:
    host: {_XMPP.rooms}
    max_users: 20000
    max_users_admin_threshold: 20000
    max_user_conferences: 10000
    max_users_presence: 0
    history_size: 0
    default_room_options: {{max_users: 20000, mam: false, presence_broadcast: []}}
"""
        )
        erl = [find_program("erl"), "+K", "true", "+P", "250000", "-noinput"]
        env = {
            "EJABBERD_CONFIG_PATH": os.fspath(configuration),
            "EJABBERD_LOG_PATH": os.fspath(directory / "ejabberd-own.log"),
            "ERL_LIBS": os.pathsep.join(
                {os.fspath(path.parents[1]) for path in Path("/usr/lib").glob("*/ejabberd-*/ebin")}
            ),
            "ERL_MAX_PORTS": "60000",
            "ERL_MAX_ETS_TABLES": "20000",
        }
        return [*erl, "-mnesia", "dir", f'"{directory / "mnesia"}"', "-s", "ejabberd"], env


class Prosody(XmppSystem):
    name = "prosody"
    title = "prosody"
    program = "/usr/bin/prosody"
    package = "prosody"

    def _command(self, directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
        configuration = directory / "prosody.cfg.lua"
        configuration.write_text(
            f"""
run_as_root = true
data_path = "{directory}"
pidfile = "{directory}/prosody.pid"
log = {{ error = "*console" }}
modules_enabled = {{ "saslauth", "register_ibr", "smacks" }}
modules_disabled = {{ "s2s", "tls" }}
allow_registration = true
registration_throttle_max = nil
c2s_require_encryption = false
allow_unencrypted_plain_auth = true
authentication = "internal_plain"
storage = "memory"
storage_archive_item_limit = 1000000
c2s_interfaces = {{ "127.0.0.1" }}
c2s_ports = {{ {port} }}
network_settings = {{ tcp_backlog = 4096 }}
VirtualHost "{_XMPP.host}"
Component "{_XMPP.rooms}" "muc"
  muc_room_locking = false
  muc_room_default_history_length = 0
  muc_room_default_presence_broadcast = {{ visitor = false, participant = false, moderator = false }}
"""
        )
        return [self.program, "-F", "--config", os.fspath(configuration)], {}


class Ngircd(PeerSystem):
    name = "ngircd"
    title = "ngIRCd"
    program = "/usr/sbin/ngircd"
    package = "ngircd"
    absent_users = False
    at_once = 8  # it lets the kernel keep ten that wait; those beyond try again after a second and more

    def _command(self, directory: Path, port: int) -> tuple[list[str], dict[str, str]]:
        configuration = directory / "ngircd.conf"
        # No accounts, no name look-ups, no penalties for who is quick.
        configuration.write_text(
            f"""
[Global]
Name = bench.local
Info = benchmark
Listen = 127.0.0.1
Ports = {port}
MotdFile = /dev/null/none
[Limits]
MaxConnections = 0
MaxConnectionsIP = 0
MaxJoins = 0
MaxNickLength = 16
MaxPenaltyTime = 0
MaxListSize = 20000
PingTimeout = 3600
[Options]
DNS = no
Ident = no
PAM = no
SyslogFacility = local1
"""
        )
        return [self.program, "--nodaemon", "--config", os.fspath(configuration)], {}

    @contextmanager
    def open(self, directory: Path, need: Need) -> Iterator[Place]:
        with self._server(directory) as (port, pid):
            clients = []
            for user in range(need.users):
                steps = _IRC.log_in(_name(user))
                for number, members in enumerate(need.groups):
                    if user in members:
                        steps += _IRC.join(f"room{number}")
                clients.append(Client("i", port, steps, _IRC.pong))

            def direct(number: int, sender: int, receiver: int) -> Link:
                return _IRC.direct(number, _name(receiver), (sender, [receiver]))

            def group(number: int, sender: int, room: int) -> Link:
                others = [user for user in need.groups[room] if user != sender]
                return _IRC.group(number, f"room{room}", (sender, others))

            yield Place({"server": [pid]}, clients, direct, group)
