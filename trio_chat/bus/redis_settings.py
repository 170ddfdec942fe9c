"""Where Redis is and what its bus may use: the URL, TLS, and every limit by name."""

from __future__ import annotations

import ssl
from typing import Self
from urllib.parse import parse_qsl, unquote, urlsplit

import attrs
import trio
from attrs.validators import gt

from trio_chat.errors import StartupError

__all__ = ["RedisAddress", "RedisLimits"]

#: The options that a URL's query may have; those of TLS only with rediss://. Named as redis-py names them.
OPTIONS = frozenset({"db"})
TLS_OPTIONS = frozenset({"ssl_ca_certs", "ssl_certfile", "ssl_keyfile", "ssl_cert_reqs", "ssl_check_hostname"})

DEFAULT_PORT = 6379


@attrs.frozen(kw_only=True)
class RedisLimits:
    """Times in seconds, sizes in bytes."""

    #: Name resolution and TCP; then TLS, AUTH and SELECT have `handshake_seconds`.
    connect_seconds: float = attrs.field(default=1.5, validator=gt(0))
    handshake_seconds: float = attrs.field(default=1.5, validator=gt(0))
    #: A connection that brought nothing for this long is asked by PING …
    ping_seconds: float = attrs.field(default=0.5, validator=gt(0))
    #: … and given up when it then brings nothing for this long.
    silence_seconds: float = attrs.field(default=1.5, validator=gt(0))
    #: The pause between attempts to connect doubles from the first to the second, less up to half of it by chance.
    retry_min_seconds: float = attrs.field(default=0.1, validator=gt(0))
    retry_max_seconds: float = attrs.field(default=1.0, validator=gt(0))
    #: Published but not yet written to Redis. When it is full the newest are dropped, and every node is told to look.
    publish_bytes: int = attrs.field(default=8 << 20, validator=gt(0))
    #: Read from Redis but not yet taken by the Trio thread. When it is full the newest are dropped, then `missed`.
    handover_bytes: int = attrs.field(default=8 << 20, validator=gt(0))
    #: Events that one call of `receive` is given, about: what is more waits for the next turn of the scheduler.
    batch_events: int = attrs.field(default=1000, validator=gt(0))
    #: One event may have this many bytes; a connection that brings a longer one is given up.
    event_bytes: int = attrs.field(default=16 << 20, validator=gt(0))
    #: Channels in one SUBSCRIBE, and channels that may wait for Redis's confirmation at a time.
    subscribe_chunk: int = attrs.field(default=1000, validator=gt(0))
    subscribe_window: int = attrs.field(default=10_000, validator=gt(0))
    #: How long `wait_subscribed` waits at most.
    subscribe_seconds: float = attrs.field(default=0.5, validator=gt(0))


@attrs.frozen(kw_only=True)
class RedisAddress:
    """What `redis://[user:password@]host[:port][/db]` says; `rediss://` is the same over TLS.

    `str()` and `repr()` never show the password.
    """

    host: str = "localhost"
    port: int = DEFAULT_PORT
    db: int = 0
    username: str | None = None
    password: str | None = attrs.field(default=None, repr=False)
    tls: ssl.SSLContext | None = attrs.field(default=None, repr=False, eq=False)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{'rediss' if self.tls else 'redis'}://{host}:{self.port}/{self.db}"

    @classmethod
    def parse(cls, url: str) -> Self:
        """Raises `StartupError` that names what is wrong, without repeating any value: it may be part of a password."""
        try:
            parts = urlsplit(url)
            port = parts.port
            host = unquote(parts.hostname) if parts.hostname else "localhost"
            host.encode("idna")  # as the resolver will
        except ValueError:
            raise StartupError(
                "the Redis URL has a wrong host or port; in a password, percent-encode the characters /?#[]@:%"
            ) from None
        if parts.scheme not in ("redis", "rediss"):
            raise StartupError("the Redis URL must begin with redis:// or rediss://")
        if "@" in parts.path + parts.query + parts.fragment or parts.netloc.count("@") > 1:
            raise StartupError("in the password of the Redis URL, percent-encode the characters /?#[]@:%")
        if parts.fragment:
            raise StartupError("the Redis URL must not have a #fragment")
        password = unquote(parts.password) if parts.password else None
        if parts.username and password is None:
            raise StartupError("the Redis URL has a user but no password; the form is redis://user:password@host")
        options = _options(parts.query, tls=parts.scheme == "rediss")
        path = parts.path.removeprefix("/")
        if path and "db" in options:
            raise StartupError("the Redis URL names its database twice, in the path and in the option db")
        return cls(
            host=host,
            port=port or DEFAULT_PORT,
            db=_database(path or options.pop("db", "0")),
            username=unquote(parts.username) if parts.username else None,
            password=password,
            tls=_tls(options) if parts.scheme == "rediss" else None,
        )

    async def connect(self, limits: RedisLimits) -> trio.SocketStream:
        """A new TCP connection. Raises `OSError` or, after `limits.connect_seconds`, `trio.TooSlowError`."""
        with trio.fail_after(limits.connect_seconds):
            return await trio.open_tcp_stream(self.host, self.port)


def _database(text: str) -> int:
    if not (text.isascii() and text.isdigit()):
        raise StartupError("the database in the Redis URL must be a number, as in redis://host:6379/0")
    return int(text)


def _options(query: str, *, tls: bool) -> dict[str, str]:
    options: dict[str, str] = {}
    for name, value in parse_qsl(query, keep_blank_values=True):
        if name in TLS_OPTIONS and not tls:
            raise StartupError(f"the option {name} in the Redis URL needs rediss://")
        if name not in OPTIONS | TLS_OPTIONS:
            known = ", ".join(sorted(OPTIONS | TLS_OPTIONS))
            raise StartupError(f"the Redis URL has an unsupported option {name}; there are: {known}")
        if name in options:
            raise StartupError(f"the option {name} is twice in the Redis URL")
        options[name] = value
    return options


def _tls(options: dict[str, str]) -> ssl.SSLContext:
    try:
        # create_default_context loads the system's authorities only when it is given none.
        context = ssl.create_default_context(cafile=options.get("ssl_ca_certs"))
    except OSError as error:
        raise StartupError(f"ssl_ca_certs in the Redis URL cannot be loaded: {error.strerror or error}") from None
    if certificate := options.get("ssl_certfile"):
        try:
            # The password function keeps OpenSSL from asking the terminal for the one of an encrypted key.
            context.load_cert_chain(certificate, options.get("ssl_keyfile"), password=lambda: "")
        except OSError as error:
            raise StartupError(
                f"ssl_certfile or ssl_keyfile in the Redis URL cannot be loaded: {error.strerror or error}"
            ) from None
    elif "ssl_keyfile" in options:
        raise StartupError("ssl_keyfile in the Redis URL needs ssl_certfile")
    verify = _choice(options, "ssl_cert_reqs", {"required": True, "none": False})
    context.check_hostname = verify and _choice(
        options, "ssl_check_hostname", {"true": True, "yes": True, "1": True, "false": False, "no": False, "0": False}
    )
    context.verify_mode = ssl.CERT_REQUIRED if verify else ssl.CERT_NONE
    return context


def _choice(options: dict[str, str], name: str, choices: dict[str, bool]) -> bool:
    value = options.get(name, next(iter(choices))).lower()
    if value not in choices:
        raise StartupError(f"the option {name} in the Redis URL must be one of {', '.join(choices)}")
    return choices[value]
