"""A server of the whole contract with nothing behind it: what is let through does nothing."""

from __future__ import annotations

from contextlib import asynccontextmanager, closing
from typing import TYPE_CHECKING, Any

import grpc
from google.protobuf import descriptor_pool, message_factory

from clickstream_service.rpc.server import SERVICES as CLICKSTREAM
from improvement_service.rpc.server import SERVICES as IMPROVEMENT
from tideline.rpc import identity, status
from tideline.rpc.security import Security
from tideline.rpc.server import Server
from tideline.rpc.settings import SecuritySettings

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterable
    from pathlib import Path

    from google.protobuf.descriptor import MethodDescriptor

METHODS: dict[str, MethodDescriptor] = {
    f"/{service}/{method.name}": method
    for service in (*CLICKSTREAM, *IMPROVEMENT)
    for method in descriptor_pool.Default().FindServiceByName(service).methods
}
"""Every RPC of both services."""

SEARCH = "/tideline.improvement.v1.SearchService/Search"
"""For clients alone."""
ERASE = "/tideline.clickstream.v1.PrivacyService/EraseUser"
"""For admins alone."""
EVENTS = "/tideline.clickstream.v1.SessionService/StreamEvents"
"""Streams both ways."""
UPSERT = "/tideline.improvement.v1.ObjectService/UpsertObjects"
"""Streams requests."""
EXPORT = "/tideline.clickstream.v1.InteractionService/ExportInteractions"
"""Streams responses."""
SCHEDULE = "/tideline.improvement.v1.ImprovementService/GetSchedule"
"""For internal callers; an empty request is all it takes, so that it gets through to the end."""
NOT_OURS = "/elsewhere.v1.Service/Method"
"""Served, and not in the contract."""

REFUSED = {"UNAUTHENTICATED", "PERMISSION_DENIED", "RATE_LIMITED"}


class Guarded:
    """The server; `callers` are those whom it let through."""

    def __init__(self, security: Security) -> None:
        self.callers: list[identity.Identity] = []
        self._server = Server(reflect=CLICKSTREAM, security=security)
        for name, method in METHODS.items():
            self._add(name, self._handler(method))
        self._add(NOT_OURS, grpc.unary_unary_rpc_method_handler(self._one))
        self.port = self._server.listen("localhost:0")

    async def start(self) -> None:
        await self._server.start()

    async def stop(self) -> None:
        await self._server.stop(0)

    def _add(self, method: str, handler: grpc.RpcMethodHandler[Any, Any]) -> None:
        service, _, name = method.removeprefix("/").partition("/")
        generic = grpc.method_handlers_generic_handler(service, {name: handler})
        self._server.grpc.add_generic_rpc_handlers((generic,))

    def _handler(self, method: MethodDescriptor) -> grpc.RpcMethodHandler[Any, Any]:
        response = message_factory.GetMessageClass(method.output_type)

        async def begin(request: Any) -> None:
            self.callers.append(identity.current())
            if method.client_streaming:
                assert [one async for one in request] == []

        async def one(request: Any, context: Any) -> Any:
            await begin(request)
            return response()

        async def many(request: Any, context: Any) -> AsyncIterator[Any]:
            await begin(request)
            for _ in range(3):
                yield response()

        shape = "_".join(
            "stream" if streams else "unary" for streams in (method.client_streaming, method.server_streaming)
        )
        make = getattr(grpc, f"{shape}_rpc_method_handler")
        request = message_factory.GetMessageClass(method.input_type)
        made: grpc.RpcMethodHandler[Any, Any] = make(
            many if method.server_streaming else one, request.FromString, response.SerializeToString
        )
        return made

    async def _one(self, request: bytes, _: Any) -> bytes:
        self.callers.append(identity.current())
        return request


@asynccontextmanager
async def guarded(**settings: Any) -> AsyncIterator[Guarded]:
    with closing(Security(SecuritySettings(**settings))) as security:
        server = Guarded(security)
        await server.start()
        try:
            yield server
        finally:
            await server.stop()


async def reason(channel: grpc.aio.Channel, method: str, bearer: str = "", metadata: Iterable[Any] = ()) -> str:
    """The reason that a call fails with; empty when it is let through, and its code when it carries no reason."""
    found = METHODS.get(method)
    streams = (found.client_streaming, found.server_streaming) if found else (False, False)
    shape = "_".join("stream" if one else "unary" for one in streams)
    sent = [*metadata, *([("authorization", f"Bearer {bearer}")] if bearer else [])]
    call = getattr(channel, shape)(method)(_nothing() if streams[0] else b"", metadata=sent, timeout=20)
    try:
        if streams[1]:
            assert len([answer async for answer in call]) == 3
        else:
            await call
    except grpc.aio.AioRpcError as error:
        said = status.reason_of(error)
        # Empty requests break rules of the contract: they got as far as that.
        return "" if said == "INVALID_FIELD" else said or error.code().name
    return ""


async def _nothing() -> AsyncIterator[bytes]:
    for _ in ():
        yield b""


def channel_to(server: Guarded, credentials: grpc.ChannelCredentials | None = None) -> grpc.aio.Channel:
    address = f"localhost:{server.port}"
    if credentials is None:
        return grpc.aio.insecure_channel(address)
    # Connections are shared by all channels that look the same.
    options = [("grpc.use_local_subchannel_pool", 1)]
    return grpc.aio.secure_channel(address, credentials, options=options)


def put(file: Path, text: str) -> None:
    """Change a file, as an operator would while the service runs."""
    file.write_text(text, encoding="utf-8")


def lines_of(file: Path) -> list[str]:
    return file.read_text(encoding="utf-8").splitlines(keepends=True)


def remove(file: Path) -> None:
    file.unlink()
