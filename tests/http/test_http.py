"""Requests written out by hand: what is served, and what a client can do wrong."""

from __future__ import annotations

import gzip
import json
from typing import Any

import pytest
import trio
import trio.testing

import trio_chat
import trio_chat.transport.http as module
from tests.http.raw import address_of, ask, masked, open_raw, request, upgrade
from trio_chat import Address, Server, Settings
from trio_chat.pages import CONTENT_TYPES, file_page, static_pages
from trio_chat.transport.http import Reply

STRICT = {
    "x-content-type-options": "nosniff",
    "referrer-policy": "no-referrer",
    "cross-origin-opener-policy": "same-origin",
    "connection": "close",
}


def strict(headers: dict[str, str]) -> bool:
    policy = headers["content-security-policy"]
    return (
        STRICT.items() <= headers.items()
        and policy.startswith("default-src 'none'; script-src 'self'; style-src 'self'; ")
        and "unsafe" not in policy
        and policy.endswith("base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
    )


@pytest.fixture(autouse=True)
def _a_page(monkeypatch: pytest.MonkeyPatch) -> None:
    """Beside the files of the package: one whose text is known."""
    known = file_page("known.txt", b"known text\n" * 100)
    monkeypatch.setattr("trio_chat.serving.static_pages", lambda: static_pages() | {"/static/known.txt": known})


async def until_answered(http: Address) -> None:
    """Wait until there is room for a request again."""
    with trio.fail_after(10):
        while True:
            try:
                assert (await ask(http, request("/livez"))).status == 200
            except (trio.EndOfChannel, trio.BrokenResourceError):
                await trio.sleep(0.01)
            else:
                return


# -- what is served -----------------------------------------------------------------------------------------------------


async def test_every_file_of_the_package_is_served(http: Address) -> None:
    pages = static_pages()
    assert pages["/"] is pages["/static/index.html"]
    async with trio.open_nursery() as nursery:

        async def check(path: str) -> None:
            answer = await ask(http, request(path))
            assert answer.status == 200, path
            assert strict(answer.headers)
            extension = path.rpartition(".")[2] if path != "/" else "html"
            assert answer.headers["content-type"] == CONTENT_TYPES[extension]
            assert answer.body

        for path in pages:
            nursery.start_soon(check, path)


async def test_a_file_comes_once_and_compressed(http: Address) -> None:
    plain = await ask(http, request("/static/known.txt?v=1"))
    assert (plain.status, plain.body) == (200, b"known text\n" * 100)
    assert (plain.headers["cache-control"], plain.headers["vary"]) == ("no-cache", "Accept-Encoding")
    packed = await ask(http, request("/static/known.txt", Accept_Encoding="br, gzip"))
    assert packed.headers["content-encoding"] == "gzip"
    assert gzip.decompress(packed.body) == plain.body
    refused = await ask(http, request("/static/known.txt", Accept_Encoding="gzip;q=0"))
    assert refused.body == plain.body
    tag = plain.headers["etag"]
    assert tag != packed.headers["etag"]
    for known in (tag, f"W/{tag}", f'"other", {tag}', "*"):
        answer = await ask(http, request("/static/known.txt", If_None_Match=known))
        assert (answer.status, answer.body) == (304, b"")
        assert answer.headers["etag"] == tag
        assert strict(answer.headers)
    assert (await ask(http, request("/static/known.txt", If_None_Match='"other"'))).status == 200


async def test_head_has_the_same_headers_and_no_body(http: Address) -> None:
    got = await ask(http, request("/static/known.txt"))
    head = await ask(http, request("/static/known.txt", "HEAD"))
    assert head.body == b""
    assert head.headers | {"date": ""} == got.headers | {"date": ""}


# -- what is not --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path",
    [
        "/nothing",
        "/static/",
        "/static",
        "/static/../config.py",
        "/static/%2e%2e/config.py",
        "/static/..%2fconfig.py",
        "/static//etc/passwd",
        "/static/./known.txt",
        "//known.txt",
        "/../../../../etc/passwd",
        "/static/known.txt%00.js",
        "/static/__init__.py",
        "http://chat.example/static/known.txt",
        "*",
    ],
)
async def test_nothing_else_is_served(http: Address, path: str) -> None:
    answer = await ask(http, request(path))
    assert answer.status == 404
    assert strict(answer.headers)


@pytest.mark.parametrize(
    ("status", "data"),
    [
        (405, request("/", "POST")),
        (405, request("/", "POST", Content_Length="5") + b"hello"),
        (405, request("/ws", "DELETE")),
        (405, request("/", "OPTIONS")),
        (400, request("/", Content_Length="5") + b"hello"),
        (400, request("/", Transfer_Encoding="chunked")),
        (400, b"hello\r\n\r\n"),
        (400, b"GET / HTTP/2.0\r\n\r\n"),
        (400, b"GET /\xff HTTP/1.1\r\n\r\n"),
        (400, b"GET / HTTP/1.1\r\nNo colon\r\n\r\n"),
        (400, b"\x16\x03\x01\x02\x00\r\n\r\n"),
        (414, request("/" + "x" * 9000)),
        (431, request("/", X="x" * 9000)),
        (431, request("/", **{f"X{number}": "x" for number in range(200)})),
        (431, b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 8000),
        (431, b"x" * 70000),
        (426, request("/ws")),
        (505, upgrade().replace(b"HTTP/1.1", b"HTTP/1.0")),
    ],
    ids=range(18),
)
async def test_what_is_wrong_is_told(http: Address, status: int, data: bytes) -> None:
    answer = await ask(http, data)
    assert answer.status == status
    assert strict(answer.headers)
    assert answer.body


# -- several on one connection ------------------------------------------------------------------------------------------


async def test_a_connection_answers_one_request_after_the_other(http: Address) -> None:
    async with open_raw(http) as raw:
        for path, status in [("/static/known.txt", 200), ("/nothing", 404), ("/livez", 200)]:
            await raw.send(request(path, Connection=""))
            answer = await raw.answer()
            assert (answer.status, answer.headers["connection"]) == (status, "keep-alive")
        await raw.send(request("/static/known.txt", "HEAD", Connection="keep-alive"))
        assert (await raw.answer(body=False)).headers["content-length"] == "1100"
        # Several at once are answered in their order.
        await raw.send(
            request("/livez", Connection="") * 3 + request("/static/known.txt", Connection="Keep-Alive, Close")
        )
        assert [(await raw.answer()).body for _ in range(3)] == [b"alive\n"] * 3
        last = await raw.answer()
        assert (last.status, last.headers["connection"]) == (200, "close")
        assert await raw.at_end()


async def test_a_connection_that_brought_files_may_become_a_websocket(http: Address) -> None:
    async with open_raw(http) as raw:
        await raw.send(request("/static/known.txt", Connection=""))
        await raw.answer()
        await raw.send(upgrade(), masked(9, b"there?"))
        assert (await raw.answer()).status == 101
        assert await raw.event() == (10, b"there?")


async def test_http_1_0_knows_one_request(http: Address) -> None:
    answer = await ask(http, request("/livez", Connection="").replace(b"HTTP/1.1", b"HTTP/1.0"))
    assert (answer.status, answer.headers["connection"]) == (200, "close")


async def test_nothing_follows_a_request_that_is_wrong(http: Address) -> None:
    async with open_raw(http) as raw:
        await raw.send(request("/", Connection="", Content_Length="50") + request("/livez", Connection=""))
        answer = await raw.answer()
        assert (answer.status, answer.headers["connection"]) == (400, "close")
        assert await raw.at_end()


async def test_a_kept_connection_is_bounded(http: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_REQUESTS", 3)
    async with open_raw(http) as raw:
        await raw.send(request("/livez", Connection="") * 4)
        assert [(await raw.answer()).headers["connection"] for _ in range(3)] == ["keep-alive", "keep-alive", "close"]
        assert await raw.at_end()
    monkeypatch.setattr(module, "_REQUEST", 0.1)
    async with open_raw(http) as raw:
        await raw.send(request("/livez", Connection=""))
        assert (await raw.answer()).headers["connection"] == "keep-alive"
        assert await raw.at_end(), "who asks for nothing more is closed without a word"
    # Where many are connected no place is kept for who may ask again.
    monkeypatch.setattr(module, "_PENDING", 2)
    async with open_raw(http), open_raw(http) as raw:
        await raw.send(request("/livez", Connection=""))
        assert (await raw.answer()).headers["connection"] == "close"


async def test_a_request_may_come_byte_by_byte_but_not_for_ever(http: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    async with open_raw(http) as raw:
        for byte in request("/livez"):
            await raw.send(bytes([byte]))
        assert (await raw.answer()).status == 200
    monkeypatch.setattr(module, "_REQUEST", 0.2)
    async with open_raw(http) as raw:
        await raw.send(b"GET / HTTP/1.1\r\n")
        assert (await raw.answer()).status == 408
    async with open_raw(http) as raw:
        assert await raw.at_end(), "who says nothing hears nothing"


async def test_unanswered_connections_are_bounded(http: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_PENDING", 2)
    async with open_raw(http) as one, open_raw(http) as two:
        await one.send(b"GET")
        await two.send(b"GET")
        async with open_raw(http) as three:
            with pytest.raises((trio.EndOfChannel, trio.BrokenResourceError)):
                await three.send(request("/livez"))
                await three.answer()
    await until_answered(http)


async def test_who_does_not_take_the_answer_is_closed(settings: Settings, monkeypatch: pytest.MonkeyPatch) -> None:
    async def endless(_: object) -> Reply:
        await trio.lowlevel.checkpoint()
        return Reply(200, b"x" * 50_000_000)

    monkeypatch.setattr(module, "_ANSWER", 0.3)
    monkeypatch.setattr(module, "_PENDING", 1)
    monkeypatch.setattr("trio_chat.serving.static_pages", lambda: {"/endless": endless})
    async with trio_chat.open_server(settings) as server, open_raw(address_of(server)) as raw:
        await raw.send(request("/endless"))
        await raw.answer(body=False)
        await until_answered(address_of(server))


# -- health -------------------------------------------------------------------------------------------------------------


async def test_health(server: Server, http: Address, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("trio_chat.health._HOLDS", 0)
    monkeypatch.setattr("trio_chat.health._PATIENCE", 0.3)
    assert (await ask(http, request("/livez"))).body == b"alive\n"
    answer = await ask(http, request("/readyz"))
    facts = {"ready": True, "database": "up", "bus": "up", "draining": False, "node": server.node.name}
    assert (answer.status, json.loads(answer.body)) == (200, facts)
    assert answer.headers["cache-control"] == "no-store"

    async def paused(_: object) -> int:
        await trio.sleep_forever()
        raise AssertionError

    with monkeypatch.context() as patch:
        patch.setattr(type(server.node.messages), "now", paused)
        answer = await ask(http, request("/readyz"))
        assert (answer.status, json.loads(answer.body)) == (503, {**facts, "ready": False, "database": "down"})
        assert (await ask(http, request("/livez"))).status == 200
    server.node.draining = True
    answer = await ask(http, request("/readyz"))
    assert (answer.status, json.loads(answer.body)) == (503, {**facts, "ready": False, "draining": True})


async def test_the_database_is_asked_once_for_many(
    server: Server, http: Address, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = 0
    now = type(server.node.messages).now

    async def counted(log: Any) -> int:
        nonlocal asked
        asked += 1
        return await now(log)

    monkeypatch.setattr("trio_chat.health._HOLDS", 1000)
    monkeypatch.setattr(type(server.node.messages), "now", counted)
    async with trio.open_nursery() as nursery:
        for _ in range(20):
            nursery.start_soon(ask, http, request("/readyz"))
    assert asked == 1


async def test_health_is_answered_while_draining(server: Server, http: Address) -> None:
    # A message that is never stored holds the drain up.
    server.node.writer.queued = 1
    async with trio.open_nursery() as nursery:
        nursery.start_soon(server.drain)
        await trio.testing.wait_all_tasks_blocked(0.05)
        assert (await ask(http, request("/readyz"))).status == 503
        assert (await ask(http, upgrade())).status == 503
        server.node.writer.queued = 0
        server.node.writer._reported.set()
