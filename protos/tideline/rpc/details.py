"""What the failure of a call says, for those who called: reason, field, when to try again."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from google.protobuf.message import Message
from google.rpc import error_details_pb2
from grpc_status import rpc_status

if TYPE_CHECKING:
    from collections.abc import Iterable

    import grpc

DOMAIN: Final = "tideline.dev"

_M = TypeVar("_M", bound=Message)


def reason_of(error: grpc.RpcError) -> str:
    """Return the reason that a failed call carries; empty when the failure did not come from Tideline."""
    for info in _details(error, error_details_pb2.ErrorInfo):
        if info.domain == DOMAIN:
            return str(info.reason)
    return ""


def field_of(error: grpc.RpcError) -> str:
    """Return the field that a failed call blames; empty when it blames none."""
    for bad in _details(error, error_details_pb2.BadRequest):
        return str(bad.field_violations[0].field)
    return ""


def retry_after_s(error: grpc.RpcError) -> float | None:
    """Return after how many seconds the call is worth repeating; None when the failure does not say so."""
    for retry in _details(error, error_details_pb2.RetryInfo):
        return float(retry.retry_delay.seconds + retry.retry_delay.nanos / 1e9)
    return None


def _details(error: grpc.RpcError, kind: type[_M]) -> Iterable[_M]:
    status = rpc_status.from_call(error)
    for detail in status.details if status is not None else ():
        message = kind()
        if detail.Unpack(message):
            yield message
