"""What a task in the background makes of an error: nothing but its cancellation may end it, and with it the node."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import structlog

from trio_chat.errors import Unavailable

__all__ = ["as_unavailable"]

log = structlog.get_logger(__name__)


@contextmanager
def as_unavailable(task: str) -> Iterator[None]:
    """Whatever fails inside is `Unavailable` outside: something to try again.

    What is not so by itself (a defect, an error of the database that nobody thought of) is logged with its traceback.
    """
    try:
        yield
    except Unavailable:
        raise
    except Exception as error:
        log.exception("task failed; it is tried again", task=task)
        raise Unavailable from error
