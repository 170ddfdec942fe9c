"""Whether the node in this container answers: says HELLO to it as a client would. Exit status 0 or 1.

It takes the address from the node's own variables. It does not ask after the database: while that is away the node keeps
its connections and says `unavailable`, and killing it would only lose them.
"""

from __future__ import annotations

import ipaddress
import json
import os
import socket
import ssl
import sys

TIMEOUT = 4.0
HELLO = b'{"msgid":20,"version":1,"client":"healthcheck"}\n'
HELLO_ACK = 21
LIMIT = 65536


def check(tcp: str, *, proxied: bool, tls: bool) -> None:
    """Exchange one HELLO with the server at `tcp`. Raises `OSError` or `ValueError` when it does not answer as it should."""
    host, _, port = tcp.partition(",")[0].rpartition(":")
    host = host.strip("[]")
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - it listens everywhere; loopback is the nearest of all
        host = "localhost"
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as plain:
        if proxied:
            # UNKNOWN is the header's word for a connection that the proxy makes on its own behalf, such as this one.
            plain.sendall(b"PROXY UNKNOWN\r\n")
        connection = encrypt(plain) if tls else plain
        connection.sendall(HELLO)
        answer = b""
        while b"\n" not in answer and len(answer) <= LIMIT:
            if not (chunk := connection.recv(4096)):
                break
            answer += chunk
    frame = json.loads(answer)
    if not isinstance(frame, dict) or frame.get("msgid") != HELLO_ACK:
        raise ValueError(f"answered {answer[:200]!r}")


def encrypt(plain: socket.socket) -> ssl.SSLSocket:
    """TLS without a look at the certificate: it is for the name that the clients use, and this is the same machine."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    return context.wrap_socket(plain)


def believed() -> bool:
    """Whether the node takes what comes from its own machine for a load balancer's."""
    if os.environ.get("TRIO_CHAT_PROXY_PROTOCOL", "").lower() in {"1", "true", "yes", "on"}:
        return True
    networks = os.environ.get("TRIO_CHAT_PROXY_FROM", "").split(",")
    here = ipaddress.ip_address("127.0.0.1")
    return any(here in ipaddress.ip_network(network.strip()) for network in networks if network.strip())


def main() -> int:
    """Check the node that this container's environment describes."""
    tcp = os.environ.get("TRIO_CHAT_TCP", "127.0.0.1:6000")
    try:
        check(tcp, proxied=believed(), tls="TRIO_CHAT_TLS_CERT" in os.environ)
    except (OSError, ValueError) as error:
        print(f"{tcp}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
