"""What the settings alone say: what is open to whom, and what the process may use. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

from trio_chat.address import Address
from trio_chat.check.finding import Finding, note, ok, problem, warning
from trio_chat.config import Settings

__all__ = ["check_settings", "is_local"]

#: Descriptors beside those of clients and of the database: listeners, Redis, the log, files that are being served.
_SPARE = 64
#: Below this a password is found by trying, however long the waits; as NIST SP 800-63B has it.
_SHORT = 8


def is_local(host: str) -> bool:
    """Whether only this machine reaches this host, or this host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_settings(settings: Settings, *, descriptors: int) -> Iterator[Finding]:
    """Look the settings over. `descriptors` is how many files this process may have open."""
    yield from _listening(settings)
    yield from _origins(settings)
    yield from _newcomers(settings)
    yield from _nodes(settings)
    yield from _logs(settings)
    yield _descriptors(settings, descriptors)


def _listening(settings: Settings) -> Iterator[Finding]:
    open_to_all = [address for address in settings.tcp if not is_local(address.host)]
    shown = ", ".join(map(str, open_to_all))
    if not open_to_all:
        yield ok("tcp", f"only this machine reaches {', '.join(map(str, settings.tcp))}")
    elif settings.proxy_protocol:
        yield warning(
            "tcp",
            f"whoever reaches {shown} can say with a PROXY header that he is anybody",
            "let nobody but the load balancer reach it: by the address it listens on, or by a firewall",
        )
    else:
        yield warning(
            "tcp",
            f"passwords and messages cross the network readable on {shown}",
            "listen on 127.0.0.1 and let a proxy end TLS",
        )
    if settings.http is not None:
        yield from _http(settings.http, settings)


def _http(address: Address, settings: Settings) -> Iterator[Finding]:
    if is_local(address.host):
        yield ok("http", f"only this machine reaches {address}")
        return
    yield warning(
        "http",
        f"passwords and messages cross the network readable on {address}",
        "listen on 127.0.0.1 and let a proxy end TLS",
    )
    yield warning(
        "http",
        f"/metrics, /readyz and /livez are for everybody who reaches {address}",
        "let a proxy or a firewall keep them to those who watch the server",
    )
    if settings.proxy_protocol:
        yield warning(
            "http",
            f"whoever reaches {address} can say with X-Forwarded-For that he is anybody",
            "let nobody but the load balancer reach it",
        )


def _origins(settings: Settings) -> Iterator[Finding]:
    for origin in settings.origins:
        host = urlsplit(origin).hostname or ""
        if "*" in host:
            yield problem("origins", f"{origin} matches no page: there are no wildcards", "name each site")
        elif origin.startswith("http://") and not is_local(host):
            yield warning(
                "origins",
                f"whoever can change what {origin} sends can act for its visitors here",
                "let that site use https",
            )


def _newcomers(settings: Settings) -> Iterator[Finding]:
    addresses = [*settings.tcp, *([settings.http] if settings.http else [])]
    if all(is_local(address.host) for address in addresses) and not settings.proxy_protocol:
        return
    if settings.registration == "open":
        yield note(
            "accounts",
            "everybody who reaches the server may register",
            "registration = invitation, and `trio-chat invite`, where that is not meant",
        )
    if settings.registration != "closed" and settings.password_length < _SHORT:
        yield note(
            "accounts",
            f"a password may have {settings.password_length} character{'s' * (settings.password_length != 1)}",
            f"password_length = {_SHORT} or more",
        )


def _nodes(settings: Settings) -> Iterator[Finding]:
    sqlite = not settings.database.startswith("mysql:")
    if settings.bus.startswith("local:"):
        if not sqlite:
            yield note("bus", "the bus is local: this database then serves one node")
    elif sqlite:
        yield note("bus", "a SQLite file serves one node: it has nobody to talk to on the bus", "leave `bus` out")
    elif not settings.node:
        yield note(
            "node",
            "the node's name is made of the machine's name, which clones share",
            "set `node`, another one for each node",
        )


def _logs(settings: Settings) -> Iterator[Finding]:
    if settings.log_level == "debug":
        yield note("log", "log_level debug says much about who does what when", "use info where nothing is sought")


def _descriptors(settings: Settings, descriptors: int) -> Finding:
    stores = 2 * settings.store_connections if settings.database.startswith("mysql:") else 8
    wanted = settings.limits.connections + stores + _SPARE
    if descriptors < wanted:
        return warning(
            "descriptors",
            f"a process started like this one may open {descriptors:,} files; "
            f"{settings.limits.connections:,} connections (limits.connections) need {wanted:,}",
            f"ulimit -n {wanted}, or LimitNOFILE={wanted} in the systemd unit, or a lower limit",
        )
    return ok("descriptors", f"{descriptors:,} files may be open, {wanted:,} are needed")
