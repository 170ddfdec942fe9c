"""How a host and a port are written."""

from __future__ import annotations

import pytest

from trio_chat.address import Address
from trio_chat.client.options import Endpoint


@pytest.mark.parametrize(
    ("text", "host", "port"),
    [("127.0.0.1:6000", "127.0.0.1", 6000), ("[::1]:0", "::1", 0), ("chat.example:65535", "chat.example", 65535)],
)
def test_an_address_is_read_and_written(text: str, host: str, port: int) -> None:
    assert Address.parse(text) == (host, port)
    assert str(Address(host, port)) == text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "x",
        ":1",
        "x:",
        "x:65536",
        "x:-1",
        "x:+1",
        "x:٣",
        "http://x:1",
        "u@x:1",
        "[::1:1",
        "x:1/y",
        "a b:1",
        "x:" + "9" * 5000,
    ],
)
def test_what_is_no_address(text: str) -> None:
    with pytest.raises(ValueError, match="HOST:PORT"):
        Address.parse(text)


@pytest.mark.parametrize(
    ("text", "written", "tls"),
    [
        ("h:1", "h:1", False),
        ("tcp://h:1", "h:1", False),
        ("tls://h:1", "tls://h:1", True),
        ("tls://[::1]:1", "tls://[::1]:1", True),
    ],
)
def test_an_endpoint_is_read_and_written(text: str, written: str, tls: bool) -> None:
    endpoint = Endpoint.parse(text)
    assert (str(endpoint), endpoint.tls) == (written, tls)


@pytest.mark.parametrize("text", ["http://h:1", "h:0", "h", "tls://h", "h:1/path", "h:1?x"])
def test_what_is_no_endpoint(text: str) -> None:
    with pytest.raises(ValueError, match="address"):
        Endpoint.parse(text)
