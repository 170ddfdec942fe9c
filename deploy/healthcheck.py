"""Whether the node in this container answers: says HELLO to it as a client would. Exit status 0 or 1.

It takes the address from the node's own variables. It does not ask after the database: while that is away the node keeps
its connections and says `unavailable`, and killing it would only lose them.
"""

from __future__ import annotations

import json
import os
import socket
import sys

TIMEOUT = 4.0
HELLO = b'{"msgid":20,"version":1,"client":"healthcheck"}\n'
HELLO_ACK = 21
LIMIT = 65536


def check(tcp: str, proxy_protocol: bool) -> None:
    """Exchange one HELLO with the server at `tcp`. Raises `OSError` or `ValueError` when it does not answer as it should."""
    host, _, port = tcp.partition(",")[0].rpartition(":")
    host = host.strip("[]")
    if host in {"0.0.0.0", "::"}:  # noqa: S104 - it listens everywhere; loopback is the nearest of all
        host = "localhost"
    with socket.create_connection((host, int(port)), timeout=TIMEOUT) as connection:
        # UNKNOWN is the header's word for a connection that the proxy makes on its own behalf, such as this one.
        connection.sendall((b"PROXY UNKNOWN\r\n" if proxy_protocol else b"") + HELLO)
        answer = b""
        while b"\n" not in answer and len(answer) <= LIMIT:
            if not (chunk := connection.recv(4096)):
                break
            answer += chunk
    frame = json.loads(answer)
    if not isinstance(frame, dict) or frame.get("msgid") != HELLO_ACK:
        raise ValueError(f"answered {answer[:200]!r}")


def main() -> int:
    """Check the node that this container's environment describes."""
    tcp = os.environ.get("TRIO_CHAT_TCP", "127.0.0.1:6000")
    proxy_protocol = os.environ.get("TRIO_CHAT_PROXY_PROTOCOL", "").lower() in {"1", "true", "yes", "on"}
    try:
        check(tcp, proxy_protocol)
    except (OSError, ValueError) as error:
        print(f"{tcp}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
