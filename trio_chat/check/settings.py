"""What the settings alone say: what is open to whom, and what the process may use. Pure."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from urllib.parse import urlsplit

import attrs

from trio_chat.check.finding import Finding, note, ok, problem, warning
from trio_chat.config import NO_LIMIT, Limits, Settings

__all__ = ["check_settings", "is_local"]

#: Descriptors beside those of clients and of the database: listeners, Redis, the log, files that are being served.
_SPARE = 64
#: Below this a password is found by trying, however long the waits; as NIST SP 800-63B has it.
_SHORT = 8
#: A network of load balancers may have this many bits for its hosts, by the version of IP: as much as Docker's own.
_LARGE = {4: 16, 6: 64}


def is_local(host: str) -> bool:
    """Whether only this machine reaches this host, or this host is this machine."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def check_settings(settings: Settings, *, descriptors: int) -> Iterator[Finding]:
    """Look the settings over. `descriptors` is how many files this process may have open."""
    yield from _listening(settings)
    yield from _proxies(settings)
    yield from _origins(settings)
    yield from _newcomers(settings)
    yield from _lifted(settings.limits)
    yield from _nodes(settings)
    yield from _logs(settings)
    yield _descriptors(settings, descriptors)


def _listening(settings: Settings) -> Iterator[Finding]:
    for part, addresses in (("tcp", settings.tcp), ("http", (settings.http,) if settings.http else ())):
        exposed = [address for address in addresses if not is_local(address.host)]
        shown = ", ".join(map(str, exposed))
        if not addresses:
            continue
        if not exposed:
            yield ok(part, f"only this machine reaches {', '.join(map(str, addresses))}")
        elif settings.tls_cert is None:
            yield warning(
                part,
                f"passwords and messages cross the network readable on {shown}",
                "set tls_cert and tls_key, or listen on 127.0.0.1 and let a proxy end TLS",
            )
        else:
            yield ok(part, f"{shown} speaks TLS only")
        if exposed and part == "http":
            yield warning(
                part,
                f"/metrics, /readyz and /livez are for everybody who reaches {shown}",
                "let a proxy or a firewall keep them to those who watch the server",
            )


def _proxies(settings: Settings) -> Iterator[Finding]:
    for text in settings.trusted_proxies:
        network = ipaddress.ip_network(text)
        host_bits = network.max_prefixlen - network.prefixlen
        if network.prefixlen == 0:
            yield problem(
                "proxy",
                f"{text} is everybody: whoever connects can say with a PROXY header that he is anybody",
                "proxy_from names the load balancers only",
            )
        elif host_bits > _LARGE[network.version] and not network.is_loopback:
            yield warning(
                "proxy",
                f"whoever connects from one of the 2^{host_bits} addresses of {text} can say with a PROXY header that he "
                "is anybody",
                "proxy_from names the load balancers only",
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
    if all(is_local(address.host) for address in addresses) and not settings.trusted_proxies:
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


def _lifted(limits: Limits) -> Iterator[Finding]:
    guards = [field.name for field in attrs.fields(Limits) if "off" in field.metadata]
    lifted = [name for name in guards if getattr(limits, name) >= NO_LIMIT]
    if lifted:
        names = "all" if lifted == guards else ", ".join(lifted)
        yield warning(
            "limits",
            f"limits are off ({names}): one client may take what all others need",
            "leave them on, but for a benchmark on a private machine",
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
    if settings.limits.connections >= NO_LIMIT:
        return note("descriptors", f"a process started like this one may open {descriptors:,} files")
    wanted = settings.limits.connections + stores + _SPARE
    if descriptors < wanted:
        return warning(
            "descriptors",
            f"a process started like this one may open {descriptors:,} files; "
            f"{settings.limits.connections:,} connections (limits.connections) need {wanted:,}",
            f"ulimit -n {wanted}, or LimitNOFILE={wanted} in the systemd unit, or a lower limit",
        )
    return ok("descriptors", f"{descriptors:,} files may be open, {wanted:,} are needed")
