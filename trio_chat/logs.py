"""Logging for the command line. A program that embeds the server configures structlog as it likes."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from typing import TYPE_CHECKING

import structlog

if TYPE_CHECKING:
    from trio_chat.check.finding import Finding

__all__ = ["configure", "tell"]


def configure(form: str, level: str, **fields: object) -> None:
    """Log to stderr from `level` on, as lines for people (`console`) or as JSON objects (`json`), each with `fields`."""
    renderer: structlog.typing.Processor = (
        structlog.processors.JSONRenderer()
        if form == "json"
        else structlog.dev.ConsoleRenderer(
            colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
        )
    )

    def add_fields(_: object, __: str, event: structlog.typing.EventDict) -> structlog.typing.EventDict:
        event.update(fields)
        return event

    structlog.configure(
        processors=[
            *([add_fields] if fields else []),
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            *([structlog.processors.format_exc_info] if form == "json" else []),
            renderer,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        logger_factory=structlog.WriteLoggerFactory(sys.stderr),
    )


def tell(findings: Iterable[Finding]) -> None:
    """Log what `check` has found, each with what to do about it."""
    log = structlog.get_logger(__name__)
    for finding in findings:
        log.warning(finding.says, remedy=finding.do)
