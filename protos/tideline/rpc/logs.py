"""Structured logs, a JSON object a line, without personal data unless a setting allows it."""

from __future__ import annotations

import logging
import sys
import threading
import traceback
from typing import TYPE_CHECKING, Any, Final

import structlog

from tideline.rpc import tracing

if TYPE_CHECKING:
    from types import TracebackType

    from structlog.typing import EventDict

_TELL_ALL: Final = ("py.warnings", "opentelemetry")
"""Libraries whose messages are logged with what is filled in: nothing that a caller has sent."""

_allowed = False


def configure(level: str, *, personal: bool = False) -> None:
    """Write logs of `level` ("debug", "info", ...) and above to standard output, those of libraries and crashes too.

    `personal` lets `personal()` and the texts of errors through.
    """
    global _allowed  # noqa: PLW0603 - read once, and by every line
    _allowed = personal
    number = logging.getLevelNamesMapping()[level.upper()]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            _with_trace_id,
            structlog.processors.EventRenamer("message"),
            structlog.processors.JSONRenderer(),
        ],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        cache_logger_on_first_use=True,
    )
    # What libraries say below that is about their own affairs.
    logging.basicConfig(handlers=[_OfLibraries()], level=max(number, logging.WARNING), force=True)
    logging.captureWarnings(capture=True)
    sys.excepthook = _crashed
    threading.excepthook = _thread_crashed


def describe(error: BaseException) -> dict[str, object]:
    """Return what a log may say of `error`: its type, its causes' types and where it came from.

    Not its text, unless personal data are allowed: a database driver quotes the ids and queries that it failed on.
    """
    kinds: list[str] = []
    cause: BaseException | None = error
    while cause is not None and len(kinds) < 5:
        kinds.append(type(cause).__qualname__)
        cause = cause.__cause__ or cause.__context__
    frames = traceback.extract_tb(error.__traceback__)[-12:]
    at = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": kinds, "at": at, **personal(said=str(error))}


def personal(**facts: object) -> dict[str, object]:
    """Return facts that may tell who somebody is or what they searched for; none unless the setting allows them."""
    return facts if _allowed else {}


class _OfLibraries(logging.Handler):
    """Logs what libraries log, without what they fill into their messages unless that is allowed."""

    def emit(self, record: logging.LogRecord) -> None:
        tells_all = _allowed or record.name.startswith(_TELL_ALL)
        message = record.getMessage() if tells_all else str(record.msg)
        error = record.exc_info[1] if record.exc_info else None
        structlog.get_logger().log(
            record.levelno,
            message.splitlines()[0] if message else "",
            library=record.name,
            **(describe(error) if error is not None else {}),
        )


def _with_trace_id(_: Any, __: str, event: EventDict) -> EventDict:
    if "trace_id" not in event and (trace_id := tracing.trace_id()):
        event["trace_id"] = trace_id
    return event


def _crashed(kind: type[BaseException], error: BaseException, frames: TracebackType | None) -> None:
    if issubclass(kind, KeyboardInterrupt):
        return
    structlog.get_logger().critical("crashed", **describe(error.with_traceback(frames)))


def _thread_crashed(crash: threading.ExceptHookArgs) -> None:
    if crash.exc_value is not None:
        structlog.get_logger().error("a thread crashed", **describe(crash.exc_value))
