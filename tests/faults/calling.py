"""Calls of any RPC with messages as they are on the wire, and whether the answers are what the contract says."""

from __future__ import annotations

import asyncio
import importlib
import pkgutil
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import grpc
from google.rpc import error_details_pb2
from grpc_status import rpc_status

import tideline.clickstream.v1
import tideline.improvement.v1
from tideline.rpc.details import DOMAIN, reason_of

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from google.protobuf.descriptor import MethodDescriptor

Code = grpc.StatusCode
Channels = tuple[grpc.aio.Channel, grpc.Channel]
ALLOWED: Final = {
    Code.OK, Code.INVALID_ARGUMENT, Code.RESOURCE_EXHAUSTED, Code.NOT_FOUND, Code.ALREADY_EXISTS,
    Code.FAILED_PRECONDITION, Code.ABORTED,
}  # fmt: skip
OWN: Final = {Code.DEADLINE_EXCEEDED, Code.CANCELLED}
"""What the caller brought about: it waits so long for an answer, and reads so many of a stream."""
PATIENCE_S: Final = 20.0
MOST_ANSWERS: Final = 50


@dataclass(frozen=True)
class Method:
    """An RPC."""

    path: str
    service: str
    descriptor: MethodDescriptor

    @property
    def reads(self) -> bool:
        return self.descriptor.GetOptions().idempotency_level == 1


def methods() -> Iterator[Method]:
    """All RPCs of both services."""
    for service, package in (("clickstream", tideline.clickstream.v1), ("improvement", tideline.improvement.v1)):
        for module in pkgutil.iter_modules(package.__path__):
            if module.name.endswith("_service_pb2"):
                file: Any = importlib.import_module(f"{package.__name__}.{module.name}").DESCRIPTOR
                for declared in file.services_by_name.values():
                    for method in declared.methods:
                        yield Method(f"/{declared.full_name}/{method.name}", service, method)


async def answer(channels: Channels, method: Method, raw: Sequence[bytes]) -> tuple[grpc.StatusCode, str]:
    """How a method answers to these messages, and what is wrong with that."""
    try:
        if method.descriptor.client_streaming:
            await asyncio.to_thread(_stream, channels[1], method, raw)
        else:
            await _call(channels[0], method, raw)
    except grpc.RpcError as error:
        code: grpc.StatusCode = error.code()
        said = f"{code.name} ({error.details()})"
        if code in OWN and not reason_of(error):
            return code, ""
        if code not in ALLOWED | OWN:
            return code, f"answered {said}"
        return code, "" if has_error_info(error) else f"answered {said} without ErrorInfo"
    return Code.OK, ""


def has_error_info(error: grpc.RpcError) -> bool:
    status = rpc_status.from_call(error)
    info = error_details_pb2.ErrorInfo()
    return status is not None and any(detail.Unpack(info) and info.domain == DOMAIN for detail in status.details)


async def _call(channel: Any, method: Method, raw: Sequence[bytes]) -> None:
    if not method.descriptor.server_streaming:
        await channel.unary_unary(method.path)(raw[0], timeout=PATIENCE_S)
        return
    call = channel.unary_stream(method.path)(raw[0], timeout=PATIENCE_S)
    for _ in range(MOST_ANSWERS):
        if await call.read() is grpc.aio.EOF:
            return
    call.cancel()


def _stream(channel: Any, method: Method, raw: Sequence[bytes]) -> None:
    """Send a stream; not with asyncio, whose clients lose the status of a stream that ends while they send."""
    if method.descriptor.server_streaming:
        for _ in channel.stream_stream(method.path)(iter(raw), timeout=PATIENCE_S):
            pass
    else:
        channel.stream_unary(method.path)(iter(raw), timeout=PATIENCE_S)
