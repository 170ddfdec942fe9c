"""Tokens: secrets that log an account in again. The database keeps their digests only."""

from __future__ import annotations

import hashlib
import secrets
import time

import attrs

__all__ = ["Origin", "digest_of", "make_token", "now_ms"]


@attrs.frozen
class Origin:
    """Where a login comes from, as its owner is shown it: what the client calls itself, and its address."""

    client: str = ""
    address: str = ""


def make_token() -> str:
    return secrets.token_urlsafe(32)


def digest_of(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()


def now_ms() -> int:
    """This node's clock, in milliseconds since the epoch."""
    return time.time_ns() // 1_000_000
