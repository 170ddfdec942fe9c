"""The web client's files, as they are served: read once at the start, so a path is looked up and never put together."""

from __future__ import annotations

import gzip
import hashlib
from collections.abc import Iterator
from importlib import resources
from importlib.resources.abc import Traversable

import trio
from websockets.datastructures import Headers

from trio_chat.transport.http import Page, Reply

__all__ = ["CONTENT_TYPES", "file_page", "static_pages"]

#: What a file is, by the end of its name. Files with other names are not served.
CONTENT_TYPES = {
    "css": "text/css; charset=utf-8",
    "html": "text/html; charset=utf-8",
    "ico": "image/x-icon",
    "js": "text/javascript; charset=utf-8",
    "json": "application/json",
    "png": "image/png",
    "svg": "image/svg+xml",
    "txt": "text/plain; charset=utf-8",
    "webmanifest": "application/manifest+json",
    "woff2": "font/woff2",
}
_COMPRESSED_ALREADY = {"ico", "png", "woff2"}


def static_pages() -> dict[str, Page]:
    """The page at `/`, and every file of the package's folder `web` under `/static/`."""
    pages = {}
    for path, file in _files(resources.files("trio_chat") / "web"):
        page = file_page(path, file.read_bytes())
        pages[f"/static/{path}"] = page
        if path == "index.html":
            pages["/"] = page
        elif path == "favicon.ico":
            pages["/favicon.ico"] = page
    return pages


def _files(directory: Traversable, prefix: str = "") -> Iterator[tuple[str, Traversable]]:
    if not directory.is_dir():
        return
    for entry in sorted(directory.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _files(entry, f"{prefix}{entry.name}/")
        elif entry.name.rpartition(".")[2] in CONTENT_TYPES and not entry.name.startswith("."):
            yield prefix + entry.name, entry


def file_page(name: str, content: bytes) -> Page:
    """Serves one file: compressed where that helps, and not at all where the browser has it (its ETag says so)."""
    extension = name.rpartition(".")[2]
    content_type = CONTENT_TYPES[extension]
    tag = hashlib.sha256(content).hexdigest()[:32]
    packed = gzip.compress(content, mtime=0) if extension not in _COMPRESSED_ALREADY else content
    worth_it = len(packed) < len(content)

    async def page(headers: Headers) -> Reply:
        await trio.lowlevel.checkpoint()
        compressed = worth_it and _accepts_gzip(headers)
        etag = f'"{tag}-gz"' if compressed else f'"{tag}"'
        # no-cache: kept, but asked for each time; a new version of the server must not meet the old page.
        answer = {"ETag": etag, "Cache-Control": "no-cache"}
        if worth_it:
            answer["Vary"] = "Accept-Encoding"
        known = {value.strip().removeprefix("W/") for value in ",".join(headers.get_all("If-None-Match")).split(",")}
        if etag in known or "*" in known:
            return Reply(304, headers=answer)
        if compressed:
            answer["Content-Encoding"] = "gzip"
        return Reply(200, packed if compressed else content, content_type, answer)

    return page


def _accepts_gzip(headers: Headers) -> bool:
    for offer in ",".join(headers.get_all("Accept-Encoding")).split(","):
        coding, _, quality = offer.strip().partition(";")
        if coding.strip().lower() == "gzip":
            return quality.replace(" ", "") not in {"q=0", "q=0.0", "q=0.00", "q=0.000"}
    return False
