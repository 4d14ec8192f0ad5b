"""Turns failures into gRPC statuses with details, and back."""

from __future__ import annotations

import random
import uuid
from typing import TYPE_CHECKING, Any, Final

import grpc
import structlog
from google.protobuf import any_pb2
from google.protobuf.duration_pb2 import Duration
from google.rpc import error_details_pb2, status_pb2
from grpc_status import rpc_status

from tideline.errors import DependencyUnavailable, InvalidField, TidelineError
from tideline.rpc import logs, tracing
from tideline.rpc.details import DOMAIN, field_of, reason_of

if TYPE_CHECKING:
    from google.protobuf.message import Message

__all__ = ["CODES", "DOMAIN", "RETRIED", "RETRY_AFTER_S", "abort", "field_of", "reason_of", "to_status"]

_CODES: Final = {
    grpc.StatusCode.INVALID_ARGUMENT: (
        "INVALID_FIELD", "INVALID_PAGE_TOKEN", "TIME_OUT_OF_RANGE", "INVALID_VECTOR", "INVALID_ADJUSTER",
        "STREAM_TOO_LARGE", "UNKNOWN_SEGMENT", "MALFORMED_MESSAGE",
    ),
    grpc.StatusCode.NOT_FOUND: (
        "SESSION_NOT_FOUND", "BATCH_NOT_FOUND", "COLLECTION_NOT_FOUND", "OBJECT_NOT_FOUND", "RUN_NOT_FOUND",
        "INTERACTION_NOT_FOUND", "VERSION_NOT_FOUND", "SNAPSHOT_NOT_FOUND", "MONITOR_NOT_FOUND",
    ),
    grpc.StatusCode.ALREADY_EXISTS: ("SESSION_CONFLICT", "EVENT_CONFLICT", "COLLECTION_CONFLICT"),
    grpc.StatusCode.FAILED_PRECONDITION: (
        "SESSION_IRRELEVANT", "SESSION_WITHOUT_USER", "NO_OPEN_BATCH", "NO_EMBEDDER", "USER_BEING_ERASED",
    ),
    grpc.StatusCode.ABORTED: ("LEASE_LOST", "STRENGTHS_CONFLICT"),
    grpc.StatusCode.UNAUTHENTICATED: ("UNAUTHENTICATED",),
    grpc.StatusCode.PERMISSION_DENIED: ("PERMISSION_DENIED",),
    grpc.StatusCode.RESOURCE_EXHAUSTED: ("OVERLOADED", "MESSAGE_TOO_LARGE", "RATE_LIMITED"),
    grpc.StatusCode.UNAVAILABLE: ("DEPENDENCY_UNAVAILABLE", "SERVER_STOPPING"),
    grpc.StatusCode.DEADLINE_EXCEEDED: ("DEADLINE_EXCEEDED",),
    grpc.StatusCode.INTERNAL: ("INTERNAL",),
}  # fmt: skip
CODES: Final = {reason: code for code, reasons in _CODES.items() for reason in reasons}
"""The status of each reason in `tideline.common.v1.ErrorReason`."""

RETRY_AFTER_S: Final = {"OVERLOADED": 1, "RATE_LIMITED": 1, "DEPENDENCY_UNAVAILABLE": 1, "SERVER_STOPPING": 1}
"""After how many seconds a failure is worth repeating."""

RETRIED: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.RESOURCE_EXHAUSTED)
"""The statuses that clients retry by themselves, where the service config has it."""

_PUSHBACK: Final = "grpc-retry-pushback-ms"
_LONGEST: Final = 256
_log = structlog.get_logger(__name__)


def to_status(error: TidelineError) -> status_pb2.Status:
    """Describe a failure: its reason, its facts, the field to blame, when to try again."""
    field, said = _cut(error.field), _cut(str(error))
    details: list[Message] = [
        error_details_pb2.ErrorInfo(
            reason=error.reason, domain=DOMAIN, metadata={name: _cut(fact) for name, fact in error.facts.items()}
        ),
    ]
    if field or isinstance(error, InvalidField):
        violation = error_details_pb2.BadRequest.FieldViolation(field=field, description=said)
        details.append(error_details_pb2.BadRequest(field_violations=[violation]))
    if (seconds := _retry_after_s(error)) is not None:
        delay = Duration(seconds=int(seconds), nanos=round(seconds % 1 * 1e9))
        details.append(error_details_pb2.RetryInfo(retry_delay=delay))
    return status_pb2.Status(
        code=CODES[error.reason].value[0],
        message=f"{field}: {said}" if field else said,
        details=[_pack(detail) for detail in details],
    )


async def abort(context: grpc.aio.ServicerContext[Any, Any], error: BaseException) -> None:
    """End the call with the status of `error`; what nobody foresaw is logged, and leaves without detail."""
    if not isinstance(error, TidelineError):
        trace_id = tracing.trace_id() or uuid.uuid4().hex
        _log.error("unexpected failure", trace_id=trace_id, **logs.describe(error))
        error = TidelineError("internal error", facts={"trace_id": trace_id})
    elif isinstance(error, DependencyUnavailable) and error.__cause__ is not None:
        _log.warning("dependency unavailable", **logs.describe(error.__cause__))
    described = rpc_status.to_status(to_status(error))
    trailers = (*(described.trailing_metadata or ()), *_pushback(error))
    await context.abort(described.code, described.details, trailing_metadata=trailers)


def _retry_after_s(error: TidelineError) -> float | None:
    return error.retry_after_s or RETRY_AFTER_S.get(error.reason)


def _pushback(error: TidelineError) -> tuple[tuple[str, str], ...]:
    """Tell gRPC's own retries what RetryInfo says, or not to try again where only that status would have them."""
    if (seconds := _retry_after_s(error)) is not None:
        # Up to half as long again, so that those who were refused together do not come back together.
        return ((_PUSHBACK, str(round(1000 * seconds * random.uniform(1, 1.5)))),)  # noqa: S311
    return ((_PUSHBACK, "-1"),) if CODES[error.reason] in RETRIED else ()


def _cut(text: str) -> str:
    """Keep what a client named itself from filling the trailers, which gRPC limits to 8 KiB."""
    raw = text.encode(errors="replace")
    return text if len(raw) <= _LONGEST else f"{raw[:_LONGEST].decode(errors='ignore')}..."


def _pack(message: Message) -> any_pb2.Any:
    packed = any_pb2.Any()
    packed.Pack(message)
    return packed
