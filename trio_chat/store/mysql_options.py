"""Where the MySQL or MariaDB server is and how to reach it, and the URL that says so. Pure."""

from __future__ import annotations

import re
import ssl
from urllib.parse import unquote, urlsplit

import attrs

from trio_chat.errors import StartupError

__all__ = ["MySQLOptions", "parse_url"]

_EXAMPLE = "mysql://USER:PASSWORD@HOST:PORT/DATABASE"
_HINT = f"write {_EXAMPLE}, with / @ ? # % in the password as %2F %40 %3F %23 %25"


@attrs.frozen(kw_only=True)
class MySQLOptions:
    """Everything about one database server.

    `unix_socket` goes before `host` and `port`. `tls` is the context to verify the server with, None for plain text;
    nothing between: where it is set, a server without TLS is refused. `timeout` is in seconds, for a whole transaction or
    read, with waiting for a connection and connecting. `pool` is the largest number of connections that run
    transactions, and again of those that read.
    """

    user: str
    password: str = attrs.field(default="", repr=False)
    host: str = "127.0.0.1"
    port: int = 3306
    database: str
    unix_socket: str = ""
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False)
    timeout: float = attrs.field(default=3.0, validator=attrs.validators.gt(0))
    pool: int = attrs.field(default=8, validator=attrs.validators.ge(1))

    @property
    def place(self) -> str:
        """Where the server is, for texts."""
        return self.unix_socket or f"{f'[{self.host}]' if ':' in self.host else self.host}:{self.port}"


def parse_url(url: str, *, timeout: float, pool: int) -> MySQLOptions:
    """The options in `mysql://USER:PASSWORD@HOST:PORT/DATABASE`, each part percent-encoded where it needs to be.

    The query may have `unix_socket=/path`, and for TLS `ssl=verify` with the system's authorities or those in the file
    `ssl_ca=/path`; with that file also `ssl=verify-ca`, which does not look at the name in the server's certificate (the
    ones that MySQL makes itself have no useful name). Default `ssl=off`, or `verify` where `ssl_ca` is given. Raises
    `StartupError`; its text never has the password.
    """
    # Where the password has a character that should have been encoded, any part may be a piece of it: texts quote none
    # but the names of options, and those only after everything else was right.
    try:
        parts = urlsplit(url)
        port = parts.port or 3306
    except ValueError:
        raise StartupError(f"the database URL is not valid; {_HINT}") from None
    database = unquote(parts.path.removeprefix("/"))
    if parts.scheme not in {"mysql", "mariadb"} or parts.fragment or "@" in parts.query or not parts.hostname:
        raise StartupError(f"the database URL is not valid; {_HINT}")
    if not database or not parts.username:
        raise StartupError(f"the database URL needs a user and a database; {_HINT}")
    options = _query(parts.query)
    return MySQLOptions(
        user=unquote(parts.username),
        password=unquote(parts.password or ""),
        host=unquote(parts.hostname),
        port=port,
        database=database,
        unix_socket=options.get("unix_socket", ""),
        tls=_tls(options),
        timeout=timeout,
        pool=pool,
    )


def _query(query: str) -> dict[str, str]:
    options: dict[str, str] = {}
    for item in filter(None, query.split("&")):
        name, _, value = item.partition("=")
        if name not in {"unix_socket", "ssl", "ssl_ca"}:
            shown = f"'{name}'" if re.fullmatch(r"[a-z_-]{1,32}", name) else "one that is not a name"
            raise StartupError(f"the database URL has an unknown option, {shown}; known: unix_socket, ssl, ssl_ca")
        options[name] = unquote(value)
    return options


def _tls(options: dict[str, str]) -> ssl.SSLContext | None:
    mode = options.get("ssl", "verify" if "ssl_ca" in options else "off")
    if mode not in {"verify", "verify-ca", "off"}:
        raise StartupError("the database URL's option ssl is 'verify', 'verify-ca' or 'off'")
    if (mode == "off" and "ssl_ca" in options) or (mode == "verify-ca" and "ssl_ca" not in options):
        raise StartupError("the database URL has ssl=off with ssl_ca, or ssl=verify-ca without it")
    if mode == "off":
        return None
    if "unix_socket" in options:
        raise StartupError("the database URL has TLS on a unix socket: leave out one of them")
    file = options.get("ssl_ca")
    try:
        context = ssl.create_default_context(cafile=file)
    except (OSError, ValueError) as error:  # ssl.SSLError is an OSError
        reason = "it has no certificate" if isinstance(error, ssl.SSLError) else error
        raise StartupError(f"the database URL's ssl_ca, {file!r}, cannot be used: {reason}") from error
    context.check_hostname = mode == "verify"
    return context
