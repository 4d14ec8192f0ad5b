"""A thin client: the generated stubs over channels that keep themselves alive, retry what is safe, and have deadlines.

    from tideline.client import AsyncClickstream, Clickstream, EventStream, pages

    with Clickstream("localhost:50051") as clickstream:
        for page in pages(clickstream.sessions.ListSessions, ListSessionsRequest(user_id="u-17")):
            print(page.sessions)

    async with AsyncClickstream("localhost:50051") as clickstream, EventStream(clickstream.sessions) as events:
        await events.push("s-1", [Event(event_id="1", object_id="o-1", event_types=["click"])])

What is retried and how long a call may take is in `service_config.json`, for other languages too; a `timeout` of your
own may shorten that, not extend it. Retries of creations are safe for those with an id of yours. Failed calls raise
`grpc.RpcError`, and `reason_of`, `field_of` and `retry_after_s` say what they carry.
"""

from __future__ import annotations

from importlib import resources
from typing import TYPE_CHECKING, Any, ClassVar, Final, Protocol, Self, TypeVar

from tideline.clickstream.v1 import (
    batch_service_pb2_grpc,
    feedback_service_pb2_grpc,
    interaction_service_pb2_grpc,
    privacy_service_pb2_grpc,
    propensity_service_pb2_grpc,
    session_service_pb2_grpc,
    signal_service_pb2_grpc,
    training_service_pb2_grpc,
)
from tideline.event_stream import EventStream
from tideline.improvement.v1 import (
    improvement_service_pb2_grpc,
    object_service_pb2_grpc,
    search_service_pb2_grpc,
)
from tideline.rpc.channels import NOTHING, Access
from tideline.rpc.decoding import MAX_MESSAGE_BYTES
from tideline.rpc.details import field_of, reason_of, retry_after_s
from tideline.rpc.keepalive import keepalive

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Mapping

    import grpc
    from google.protobuf.message import Message

__all__ = [
    "OPTIONS",
    "Access",
    "AsyncClickstream",
    "AsyncImprovement",
    "Clickstream",
    "EventStream",
    "Improvement",
    "aio_pages",
    "field_of",
    "pages",
    "reason_of",
    "retry_after_s",
]

OPTIONS: Final = (
    ("grpc.service_config", resources.files("tideline").joinpath("service_config.json").read_text()),
    # A connection that died silently is noticed within 40 s, even while a stream is idle.
    *keepalive(30, 10),
    ("grpc.http2.max_pings_without_data", 0),
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 5_000),
    ("grpc.max_receive_message_length", MAX_MESSAGE_BYTES),
    ("grpc.max_send_message_length", MAX_MESSAGE_BYTES),
)
"""How a channel to either service is best set up."""


class _Blocking:
    """A service whose calls block; a context manager."""

    _stubs: ClassVar[Mapping[str, Callable[[Any], Any]]]
    channel: grpc.Channel

    def __init__(self, address: str, access: Access = NOTHING) -> None:
        """Prepare a connection; it is made by the first call. `access` says how it is encrypted and who calls."""
        self.channel = access.channel(address, OPTIONS)
        for name, stub in self._stubs.items():
            setattr(self, name, stub(self.channel))

    def close(self) -> None:
        self.channel.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Async:
    """A service whose calls are awaited; an asynchronous context manager."""

    _stubs: ClassVar[Mapping[str, Callable[[Any], Any]]]
    channel: grpc.aio.Channel

    def __init__(self, address: str, access: Access = NOTHING) -> None:
        """Prepare a connection; it is made by the first call. `access` says how it is encrypted and who calls."""
        self.channel = access.aio_channel(address, OPTIONS)
        for name, stub in self._stubs.items():
            setattr(self, name, stub(self.channel))

    async def close(self) -> None:
        await self.channel.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()


_CLICKSTREAM: Final = {
    "sessions": session_service_pb2_grpc.SessionServiceStub,
    "batches": batch_service_pb2_grpc.BatchServiceStub,
    "feedback": feedback_service_pb2_grpc.FeedbackServiceStub,
    "interactions": interaction_service_pb2_grpc.InteractionServiceStub,
    "signals": signal_service_pb2_grpc.SignalServiceStub,
    "training": training_service_pb2_grpc.TrainingServiceStub,
    "propensities": propensity_service_pb2_grpc.PropensityServiceStub,
    "privacy": privacy_service_pb2_grpc.PrivacyServiceStub,
}
_IMPROVEMENT: Final = {
    "objects": object_service_pb2_grpc.ObjectServiceStub,
    "search": search_service_pb2_grpc.SearchServiceStub,
    "runs": improvement_service_pb2_grpc.ImprovementServiceStub,
}


class Clickstream(_Blocking):
    """A clickstream service."""

    _stubs = _CLICKSTREAM
    sessions: session_service_pb2_grpc.SessionServiceStub
    batches: batch_service_pb2_grpc.BatchServiceStub
    feedback: feedback_service_pb2_grpc.FeedbackServiceStub
    interactions: interaction_service_pb2_grpc.InteractionServiceStub
    signals: signal_service_pb2_grpc.SignalServiceStub
    training: training_service_pb2_grpc.TrainingServiceStub
    propensities: propensity_service_pb2_grpc.PropensityServiceStub
    privacy: privacy_service_pb2_grpc.PrivacyServiceStub


class AsyncClickstream(_Async):
    """A clickstream service, for asyncio."""

    _stubs = _CLICKSTREAM
    sessions: session_service_pb2_grpc.SessionServiceAsyncStub
    batches: batch_service_pb2_grpc.BatchServiceAsyncStub
    feedback: feedback_service_pb2_grpc.FeedbackServiceAsyncStub
    interactions: interaction_service_pb2_grpc.InteractionServiceAsyncStub
    signals: signal_service_pb2_grpc.SignalServiceAsyncStub
    training: training_service_pb2_grpc.TrainingServiceAsyncStub
    propensities: propensity_service_pb2_grpc.PropensityServiceAsyncStub
    privacy: privacy_service_pb2_grpc.PrivacyServiceAsyncStub


class Improvement(_Blocking):
    """An improvement service."""

    _stubs = _IMPROVEMENT
    objects: object_service_pb2_grpc.ObjectServiceStub
    search: search_service_pb2_grpc.SearchServiceStub
    runs: improvement_service_pb2_grpc.ImprovementServiceStub


class AsyncImprovement(_Async):
    """An improvement service, for asyncio."""

    _stubs = _IMPROVEMENT
    objects: object_service_pb2_grpc.ObjectServiceAsyncStub
    search: search_service_pb2_grpc.SearchServiceAsyncStub
    runs: improvement_service_pb2_grpc.ImprovementServiceAsyncStub


class _Page(Protocol):
    @property
    def next_page_token(self) -> str: ...


_Request = TypeVar("_Request", bound="Message")
_Response = TypeVar("_Response", bound=_Page)


def pages(call: Callable[[_Request], _Response], request: _Request) -> Iterator[_Response]:
    """Yield the responses to a list request, page by page, from the page that the request asks for."""
    following: str | None = ""
    while following is not None:
        page = call(_at(request, following))
        yield page
        following = page.next_page_token or None


async def aio_pages(call: Callable[[_Request], Awaitable[_Response]], request: _Request) -> AsyncIterator[_Response]:
    """Do the same with a stub for asyncio."""
    following: str | None = ""
    while following is not None:
        page = await call(_at(request, following))
        yield page
        following = page.next_page_token or None


def _at(request: _Request, token: str) -> _Request:
    if not token:
        return request
    following = type(request)()
    following.CopyFrom(request)
    following.page_token = token  # type: ignore[attr-defined]
    return following
