"""Structured logs, a JSON object a line, without personal data."""

from __future__ import annotations

import logging
import traceback

import structlog


def configure(level: str) -> None:
    """Write logs of `level` ("debug", "info", ...) and above to standard output."""
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(logging.getLevelNamesMapping()[level.upper()]),
        cache_logger_on_first_use=True,
    )


def describe(error: BaseException) -> dict[str, object]:
    """Return what a log may say of `error`: its type, its causes' types and where it came from.

    Not its text: a database driver quotes the ids and queries that it failed on.
    """
    kinds: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < 5:
        kinds.append(type(cause).__qualname__)
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    return {"error": kinds, "at": [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]}
