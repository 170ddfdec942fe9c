"""The settings: from flags, the environment and a TOML file, in this order of precedence; read once, then frozen.

A setting NAME is `--name` on the command line, `TRIO_CHAT_NAME` in the environment and `name` in the file; one of the
limits is `--limit NAME=VALUE`, `TRIO_CHAT_LIMITS_NAME`, and `name` in the file's section `[limits]`. A variable with
`_FILE` behind its name holds the name of a file, and that the value: for secrets, as container systems hand them out.
"""

from __future__ import annotations

import ipaddress
import math
import os
import re
import tomllib
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, get_type_hints
from urllib.parse import quote

import attrs
import cattrs
import platformdirs
from attrs.validators import ge, gt, instance_of, le, lt

from trio_chat.address import Address
from trio_chat.errors import StartupError

__all__ = ["NO_LIMIT", "Address", "Limits", "Settings", "default_database", "load", "secret_files", "setting_names"]

ENVIRONMENT_PREFIX = "TRIO_CHAT_"
_FILE = "_FILE"

#: What `off` makes of a limit: more than anything that could be counted.
NO_LIMIT = 2**53


def default_database(environment: Mapping[str, str] = os.environ) -> str:
    """SQLite in the user's data directory, or where systemd says that a service keeps its state."""
    # systemd lists several directories, if it has several, with colons in between.
    state, _, _ = environment.get("STATE_DIRECTORY", "").partition(":")
    directory = state or platformdirs.user_data_dir("trio-chat", appauthor=False)
    return f"sqlite:///{quote(str(Path(directory).resolve() / 'trio-chat.db'))}"


# The validators' texts do not repeat the value: it may be a password that was put in the wrong place.


def _scheme(*allowed: str) -> Any:
    def check(_: object, __: attrs.Attribute[str], value: str) -> None:
        if value and not value.startswith(allowed):
            raise ValueError(f"it begins with {' or '.join(allowed)}")

    return check


def _one_of(*allowed: str) -> Any:
    def check(_: object, __: object, value: str) -> None:
        if value not in allowed:
            raise ValueError(f"it is {' or '.join(allowed)}")

    return check


def _origins(_: object, __: object, value: tuple[str, ...]) -> None:
    for origin in value:
        if not re.fullmatch(r"https?://[^/?#@\s]+", origin):
            raise ValueError("an origin is https://HOST or https://HOST:PORT, without anything behind it")


def _networks(_: object, __: object, value: tuple[str, ...]) -> None:
    for network in value:
        try:
            ipaddress.ip_network(network)
        except ValueError:
            raise ValueError("a network is an address, or as 10.0.0.0/8 without bits behind its prefix") from None


def _node_name(_: object, __: object, value: str) -> None:
    if len(value) > 255 or not value.isprintable():
        raise ValueError("it is at most 255 characters that can be printed")


_SECONDS = [gt(0), lt(math.inf)]
#: This machine itself.
_LOOPBACK = ("127.0.0.0/8", "::1/128")


def _setting(default: Any, doc: str, *, validator: Any = None, metavar: str = "") -> Any:
    show = _url_without_password if metavar == "URL" else True
    return attrs.field(default=default, validator=validator, repr=show, metadata={"doc": doc, "metavar": metavar})


def _guard(default: int, doc: str, *, least: int = 1) -> Any:
    """A limit that keeps one client from taking what others need. It may be lifted: `off`."""
    metadata = {"doc": f"{doc}; off: no limit", "metavar": "", "off": True}
    return attrs.field(default=default, validator=ge(least), metadata=metadata)


def _url_without_password(text: str) -> str:
    """A text that may be a URL with a password, as it may be shown: of a URL only how it begins."""
    scheme, colon, _ = text.partition(":")
    return repr(f"{scheme}:…" if colon else text if "@" not in text else "…")


@attrs.frozen(kw_only=True)
class Limits:
    """What bounds each resource. Sizes in bytes unless said otherwise."""

    frame: int = _setting(65536, "a frame, in bytes", validator=ge(1024))
    message: int = _setting(16384, "a message's text, in bytes of UTF-8", validator=ge(1))
    outbox: int = _setting(
        1048576, "unsent bytes of one connection; a client that does not read is closed over it", validator=ge(65536)
    )
    in_flight: int = _setting(
        256,
        "messages of one connection that await their commit; over it the server reads no more from it",
        validator=ge(1),
    )
    requests: int = _setting(
        64,
        "requests of one connection that await their turn; over it the server reads no more from it",
        validator=ge(1),
    )
    queue: int = _setting(
        20000, "messages of all connections that await their commit; over it nobody is read from", validator=ge(1)
    )
    batch: int = _setting(500, "messages in one transaction", validator=[ge(1), le(2000)])
    password_checks: int = _setting(
        1000, "logins and registrations that await their password hash; over it they are rate_limited", validator=ge(1)
    )
    logins: int = _setting(
        64, "logins that ask the database at the same time; the others wait for their turn", validator=ge(1)
    )
    members: int = _setting(1000, "members of groups in one LOGIN_ACK, all groups together", validator=ge(0))
    history: int = _setting(200, "messages in one HISTORY reply", validator=ge(1))
    search: int = _setting(100000, "messages that a search looks at, the latest of its user's", validator=ge(0))
    handshakes: int = _setting(
        1000, "connections within a TLS handshake or a PROXY header; over it the oldest is closed", validator=ge(1)
    )
    handshake_seconds: float = _setting(
        10.0, "how long a TLS handshake with a PROXY header may take", validator=_SECONDS
    )
    connections: int = _guard(
        50000,
        "connections, of all workers together; "
        "over it the one that waits longest without a login makes room, or the new one is closed",
    )
    address_connections: int = _guard(
        5000,
        "connections from one address (IPv6: from one /64), for each worker; over it new ones are told to come later",
    )
    login_seconds: int = _guard(300, "seconds that a connection may take to log in; after that it is closed")
    memory: int = _guard(
        268435456,
        "bytes that all connections together have unsent, half received or waiting; "
        "over it those that hold most are closed",
        least=1048576,
    )
    frames_per_second: int = _guard(
        2000,
        "frames a second from one account's connections; modern ones are then rate_limited, classic ones read slower",
    )
    bytes_per_second: int = _guard(8388608, "bytes a second from one account's connections; likewise", least=1024)
    deliveries_per_second: int = _guard(
        20000, "deliveries a second to members on its node that one account's messages to groups cause; likewise"
    )
    friends: int = _guard(1000, "friends on one list")
    groups: int = _guard(1000, "groups that one user is in")
    group_members: int = _guard(10000, "members of one group")
    guesses: int = _guard(
        10, "wrong passwords for one account from one address; from then on there are growing delays between tries"
    )
    address_guesses: int = _guard(100, "wrong passwords from one address, whatever the accounts; likewise")
    account_guesses: int = _guard(
        100, "wrong passwords for one account from anywhere; then who was wrong has to wait, even if only once"
    )
    guess_delay: int = _setting(900, "the longest of these delays, in seconds", validator=ge(1))
    burst: int = _setting(2, "seconds' worth of frames, bytes and deliveries that may come at once", validator=ge(1))


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that can be set. Times in seconds."""

    tcp: tuple[Address, ...] = _setting(
        (Address("127.0.0.1", 6000),), "listen for chat clients here (repeatable)", metavar="HOST:PORT"
    )
    http: Address | None = _setting(  # noqa: RUF009 (a field as every other)
        Address("127.0.0.1", 8000),
        "serve the web client, WebSockets, health and metrics here; off: nowhere",
        validator=instance_of(Address | None),
        metavar="HOST:PORT",
    )
    origins: tuple[str, ...] = _setting(
        (),
        "other sites whose pages may connect, as https://chat.example.org (repeatable); this server's own page always may",
        validator=_origins,
        metavar="ORIGIN",
    )
    ws_compression: bool = _setting(False, "compress long frames to browsers (permessage-deflate); default off")
    database: str = _setting(
        "",
        "sqlite:///RELATIVE.db, sqlite:////ABSOLUTE.db or mysql://USER:PASSWORD@HOST:PORT/NAME; "
        "default trio-chat.db in the user's data directory",
        validator=_scheme("sqlite:///", "mysql://"),
        metavar="URL",
    )
    bus: str = _setting(
        "local:",
        "local: for one node, redis://HOST:PORT/N between several",
        validator=_scheme("local:", "redis://", "rediss://"),
        metavar="URL",
    )
    node: str = _setting(
        "", "this node's name, unique in the cluster; default host name and port", validator=_node_name, metavar="NAME"
    )
    workers: int = _setting(
        1,
        "processes that serve the same ports, one for each core; more than one need MySQL and Redis",
        validator=[ge(1), le(128)],
        metavar="N",
    )
    tls_cert: Path | None = _setting(  # noqa: RUF009 (a field as every other)
        None, "encrypt `tcp` and `http`: the certificate and those up to its authority, in PEM", metavar="FILE"
    )
    tls_key: Path | None = _setting(  # noqa: RUF009
        None, "the certificate's key, in PEM; default in the same file", metavar="FILE"
    )
    proxy_from: tuple[str, ...] = _setting(
        (),
        "load balancers at these addresses say who the client is: by a PROXY header, over HTTP also by X-Forwarded-For "
        "(repeatable)",
        validator=_networks,
        metavar="NETWORK",
    )
    proxy_protocol: bool = _setting(False, "the same as proxy_from 127.0.0.0/8 and ::1; default off")
    log_format: str = _setting("console", "console or json", validator=_one_of("console", "json"), metavar="FORMAT")
    log_level: str = _setting(
        "info",
        "debug, info, warning or error",
        validator=_one_of("debug", "info", "warning", "error"),
        metavar="LEVEL",
    )
    heartbeat: float = _setting(
        30.0, "ping a modern client after this silence, close after twice that", validator=_SECONDS
    )
    drain: float = _setting(10.0, "how long a graceful stop may take", validator=_SECONDS)
    pace: float = _setting(
        0.02,
        "least time between two frames to a classic client that ends frames with NUL",
        validator=[ge(0), le(10)],
    )
    store_timeout: float = _setting(
        3.0, "how long the database may take before a request is unavailable", validator=_SECONDS
    )
    store_connections: int = _setting(
        8, "connections to MySQL that write, at most; and as many that read", validator=ge(2)
    )
    lease: float = _setting(6.0, "a node that shows no sign of life for this long is dead", validator=[ge(0.5), le(10)])
    sweep: float = _setting(1.0, "how often the database is looked at for what the bus lost", validator=_SECONDS)
    token_days: float = _setting(30.0, "how long a login token lasts, in days", validator=[gt(0), le(36500)])
    registration: str = _setting(
        "open",
        "who may register: open (everybody), invitation (with a code of trio-chat invite), closed (nobody)",
        validator=_one_of("open", "invitation", "closed"),
        metavar="WHO",
    )
    password_length: int = _setting(1, "how many characters a new password has at least", validator=[ge(1), le(1024)])
    limits: Limits = attrs.field(factory=Limits)

    def __attrs_post_init__(self) -> None:
        for limits in (self, self.limits):
            for field in attrs.fields(type(limits)):
                if field.type in {int, "int"} and not isinstance(getattr(limits, field.name), int):
                    raise TypeError(f"{field.name} is an integer")

    @property
    def trusted_proxies(self) -> tuple[str, ...]:
        """The networks of the load balancers that are believed."""
        return (*self.proxy_from, *(_LOOPBACK if self.proxy_protocol else ()))


def setting_names() -> Iterator[tuple[str, attrs.Attribute[Any]]]:
    """Every setting's name, `limits.NAME` for the limits, with its attribute (metadata: doc, metavar)."""
    for field in attrs.fields(Settings):
        if field.name == "limits":
            for limit in attrs.fields(Limits):
                yield f"limits.{limit.name}", limit
        else:
            yield field.name, field


def load(
    flags: Mapping[str, object], environment: Mapping[str, str] = os.environ, file: Path | None = None
) -> Settings:
    """Merge the sources into settings.

    `flags` maps setting names to what the command line gave. `file` comes from `--config`, or else from
    `TRIO_CHAT_CONFIG`. Raises `StartupError`, one line that names the key and where it stands.
    """
    known = dict(setting_names())
    given_by = "--config" if file is not None else "TRIO_CHAT_CONFIG"
    file = _settings_file(environment, file)
    merged: dict[str, tuple[object, str]] = {}
    given: dict[str, tuple[object, str]] = {}
    if file is not None:
        given = {name: (item, f"{name} in {file}") for name, item in _read_file(file, given_by).items()}
        merged.update(_all_limits(given))
    given = {}
    for variable, text in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable != "TRIO_CHAT_CONFIG":
            read = text
            if variable.endswith(_FILE):
                if variable.removesuffix(_FILE) in environment:
                    raise StartupError(f"{variable}: {variable.removesuffix(_FILE)} is set too, leave out one of them")
                read = _read_value(Path(text), variable)
            name = variable.removeprefix(ENVIRONMENT_PREFIX).removesuffix(_FILE).lower()
            if name.startswith("limits_"):
                name = "limits." + name.removeprefix("limits_")
            given[name] = read, variable
    merged.update(_all_limits(given))
    given = {}
    for name, flagged in flags.items():
        flag = (
            f"--limit {name.removeprefix('limits.')}" if name.startswith("limits.") else f"--{name.replace('_', '-')}"
        )
        given[name] = flagged, flag
    merged.update(_all_limits(given))
    values: dict[str, Any] = {}
    limits: dict[str, Any] = {}
    hints = {**get_type_hints(Settings), **{f"limits.{k}": v for k, v in get_type_hints(Limits).items()}}
    for name, (value, where) in merged.items():
        if name not in known:
            raise StartupError(f"{where}: there is no such setting")
        field = known[name]
        try:
            lifted = value == "off" and field.metadata.get("off")
            converted = NO_LIMIT if lifted else _convert(hints[name], value)
            if field.validator is not None:
                field.validator(None, field, converted)
        except (ValueError, TypeError) as error:
            shown = _url_without_password(str(value)) if field.metadata["metavar"] == "URL" else _shown(value)
            raise StartupError(f"{where}: {shown} will not do: {error.args[0]}") from None
        if name.startswith("limits."):
            limits[name.removeprefix("limits.")] = converted
        else:
            values[name] = converted
    values.setdefault("database", default_database(environment))
    return Settings(**values, limits=Limits(**limits))


def secret_files(environment: Mapping[str, str], file: Path | None) -> Iterator[tuple[str, Path]]:
    """The files that `load` reads with these arguments, each with the setting that it holds, `settings` for all."""
    if (settings := _settings_file(environment, file)) is not None:
        yield "settings", settings
    for variable, name in environment.items():
        if variable.startswith(ENVIRONMENT_PREFIX) and variable.endswith(_FILE):
            yield variable.removeprefix(ENVIRONMENT_PREFIX).removesuffix(_FILE).lower(), Path(name)


def _settings_file(environment: Mapping[str, str], file: Path | None) -> Path | None:
    if file is None and "TRIO_CHAT_CONFIG" in environment:
        return Path(environment["TRIO_CHAT_CONFIG"])
    return file


def _read_value(file: Path, variable: str) -> str:
    """A file's text, without the line's end that editors put behind it."""
    try:
        return file.read_text(encoding="utf-8").rstrip("\r\n")
    except OSError as error:
        raise StartupError(f"{variable} {file}: {error.strerror}") from None
    except ValueError:
        raise StartupError(f"{variable} {file}: it is not a text in UTF-8") from None


def _all_limits(given: dict[str, tuple[object, str]]) -> dict[str, tuple[object, str]]:
    """One source's settings, with `limits.all` spelled out; what the source says of one limit goes before that."""
    if "limits.all" not in given:
        return given
    value, where = given["limits.all"]
    if value != "off":
        raise StartupError(f"{where}: all limits together can only be off")
    lifted = {f"limits.{limit.name}": (value, where) for limit in attrs.fields(Limits) if "off" in limit.metadata}
    return {**lifted, **{name: each for name, each in given.items() if name != "limits.all"}}


def _read_file(file: Path, given_by: str) -> dict[str, object]:
    try:
        with file.open("rb") as stream:
            table = tomllib.load(stream)
    except OSError as error:
        raise StartupError(f"{given_by} {file}: {error.strerror}") from None
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise StartupError(f"{given_by} {file}: {error}") from None
    limits = table.pop("limits", {})
    if not isinstance(limits, dict):
        raise StartupError(f"limits in {file}: is a section, [limits]")
    return {**table, **{f"limits.{name}": value for name, value in limits.items()}}


_STRICT = cattrs.Converter()


@_STRICT.register_structure_hook
def _to_int(value: Any, _: type[int]) -> int:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise TypeError("it is a whole number")
    try:
        return int(value)
    except ValueError:
        raise ValueError("it is a whole number") from None


@_STRICT.register_structure_hook
def _to_float(value: Any, _: type[float]) -> float:
    if isinstance(value, bool) or not isinstance(value, str | int | float):
        raise TypeError("it is a number")
    try:
        return float(value)
    except (ValueError, OverflowError):
        raise ValueError("it is a number") from None


@_STRICT.register_structure_hook
def _to_str(value: Any, _: type[str]) -> str:
    if not isinstance(value, str):
        raise TypeError("it is a text")
    return value


@_STRICT.register_structure_hook
def _to_bool(value: Any, _: type[bool]) -> bool:
    words = {"true": True, "yes": True, "on": True, "1": True, "false": False, "no": False, "off": False, "0": False}
    if isinstance(value, str) and value.lower() in words:
        return words[value.lower()]
    if not isinstance(value, bool):
        raise TypeError("it is true or false")
    return value


@_STRICT.register_structure_hook
def _to_address(value: Any, _: type[Address]) -> Address:
    return Address.parse(_to_str(value, str).strip())


def _convert(to: Any, value: object) -> Any:
    if value == "":  # a variable that somebody forgot to fill in must not mean the default
        raise ValueError("it is empty")
    if to == tuple[Address, ...]:
        # One text may hold several, separated by commas.
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple) or not texts:
            raise TypeError("it is one HOST:PORT or a list of them")
        return tuple(_to_address(part, Address) for text in texts for part in _to_str(text, str).split(","))
    if to == tuple[str, ...]:
        texts = [value] if isinstance(value, str) else value
        if not isinstance(texts, list | tuple):
            raise TypeError("it is one text or a list of them")
        return tuple(part.strip() for text in texts for part in _to_str(text, str).split(","))
    if to == Path | None:
        if "://" in _to_str(value, str):
            raise ValueError("it is a file")
        return Path(_to_str(value, str))
    if to == Address | None:
        return None if value == "off" else _to_address(value, Address)
    return _STRICT.structure(value, to)


def _shown(value: object) -> str:
    text = str(value)
    return _url_without_password(text) if "@" in text else repr(text)
