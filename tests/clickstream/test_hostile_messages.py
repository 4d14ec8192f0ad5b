"""What nobody means well by: refused with a name for what is wrong, and nothing is written."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any

import grpc
import pytest

from tests.clickstream.calls import Refusal, create, get, refusal
from tests.clickstream.samples import a_session, an_event
from tests.contract.wire import bytes_field, deep_list, varint
from tideline.clickstream.v1 import session_pb2
from tideline.clickstream.v1 import session_service_pb2 as pb
from tideline.rpc.decoding import MAX_MESSAGE_BYTES
from tideline.rpc.server import OPTIONS
from tideline.rpc.status import reason_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from pymongo.database import Database

    from tests.clickstream.conftest import Service

SERVICE = "/tideline.clickstream.v1.SessionService/"
INVALID = grpc.StatusCode.INVALID_ARGUMENT
UNLIMITED = [("grpc.max_send_message_length", -1), *OPTIONS[2:]]


@pytest.fixture
async def channel(service: Service) -> AsyncIterator[Any]:
    """Sends bytes as they are."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{service.port}", options=UNLIMITED) as channel:
        yield channel


def a_request(**fields: Any) -> bytes:
    return pb.CreateSessionRequest(session=a_session("s1", **fields)).SerializeToString()


def with_search_meta(struct: bytes) -> bytes:
    """A request with these bytes as `session.search_meta`."""
    return bytes_field(1, a_session("s1").SerializeToString() + bytes_field(6, struct))


@pytest.mark.parametrize(
    ("raw", "field"),
    [
        (a_request()[:-3], "session"),
        (a_request()[:1], "session"),
        (bytes_field(1, a_session("s1").SerializeToString()[:-1]), "session.search_results[2]"),
        (a_request().replace(b"ann", b"a\xffn"), "session.user_id"),
        (a_request().replace(b"red shoes", b"red\xc0\xafhoes"), "session.search_query.text"),
        *((with_search_meta(deep_list(depth)), "session.search_meta") for depth in (60, 100, 200)),
        (b"\xff" * 30, ""),
        (varint(1 << 3) + b"\xff" * 11, "session"),
    ],
)
async def test_a_message_that_cannot_be_read_is_refused_with_the_field_at_which_it_goes_wrong(
    channel: Any, database: Database[dict[str, Any]], raw: bytes, field: str
) -> None:
    refused = await refusal(channel.unary_unary(f"{SERVICE}CreateSession")(raw))
    assert refused == Refusal(INVALID, "MALFORMED_MESSAGE", field)
    assert database.sessions.count_documents({}) == 0


async def test_a_struct_that_can_be_read_and_is_too_deep_is_refused_too(channel: Any) -> None:
    refused = await refusal(channel.unary_unary(f"{SERVICE}CreateSession")(with_search_meta(deep_list(30))))
    assert refused == Refusal(INVALID, "INVALID_FIELD", "session.search_meta")


async def test_a_message_of_a_stream_that_cannot_be_read_ends_it_after_the_answers_before_it(
    service: Service, channel: Any
) -> None:
    await create(service.sessions, a_session("s1"))
    good = pb.StreamEventsRequest(sequence=1, session_id="s1", events=[an_event("e1")]).SerializeToString()
    call = channel.stream_stream(f"{SERVICE}StreamEvents")(iter([good, good[:-1], good]))
    assert pb.StreamEventsResponse.FromString(await call.read()).sequence == 1
    assert await refusal(call.read()) == Refusal(INVALID, "MALFORMED_MESSAGE", "events[0]")
    assert len((await get(service.sessions, "s1")).events) == 1


async def test_a_message_of_70_mb_is_refused_with_a_reason_and_not_worth_sending_again(
    channel: Any, database: Database[dict[str, Any]]
) -> None:
    raw = with_search_meta(bytes(70_000_000))
    call = channel.unary_unary(f"{SERVICE}CreateSession")(raw)
    assert await refusal(call) == Refusal(grpc.StatusCode.RESOURCE_EXHAUSTED, "MESSAGE_TOO_LARGE", "")
    assert dict(await call.trailing_metadata())["grpc-retry-pushback-ms"] == "-1"
    assert database.sessions.count_documents({}) == 0


async def test_a_message_that_unpacks_to_more_than_it_may_have_is_refused(service: Service) -> None:
    async with grpc.aio.insecure_channel(
        f"127.0.0.1:{service.port}", options=UNLIMITED, compression=grpc.Compression.Gzip
    ) as channel:
        raw = with_search_meta(bytes(3 * MAX_MESSAGE_BYTES))
        code, _, _ = await refusal(channel.unary_unary(f"{SERVICE}CreateSession")(raw))
    assert code == grpc.StatusCode.RESOURCE_EXHAUSTED


@pytest.mark.parametrize(
    ("fields", "field"),
    [
        ({"query_vector": [0.0, float("nan")]}, "session.query_vector[1]"),
        ({"query_vector": [float("inf")]}, "session.query_vector[0]"),
        ({"search_results": [session_pb2.SearchResult(object_id="a", rank=-1)]}, "session.search_results[0].rank"),
        ({"sort_by": [session_pb2.SortBy(field="f", order=99)]}, "session.sort_by[0].order"),  # type: ignore[arg-type]
        ({"user_id": "a\0n"}, "session.user_id"),
        ({"session_id": "s" * 513}, "session.session_id"),
    ],
)
async def test_a_value_that_the_contract_does_not_take_is_refused_by_name(
    service: Service, fields: dict[str, Any], field: str
) -> None:
    assert await refusal(create(service.sessions, a_session(**{"session_id": "s1", **fields}))) == Refusal(
        INVALID, "INVALID_FIELD", field
    )


async def test_what_a_caller_sent_is_not_echoed_with_control_characters(service: Service) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await create(service.sessions, a_session("a\0b\x1b"))
    assert (failure.value.details() or "").isprintable()
    request = pb.PushEventsRequest(session_id="s1", events=[an_event("a\0")], allow_missing=True)
    outcomes = (await service.sessions.PushEvents(request)).outcomes
    assert outcomes[0].message.isprintable()


async def test_a_frame_that_is_cut_off_does_not_disturb_others(service: Service) -> None:
    """HTTP/2 as it is on the wire: a gRPC frame of 1,000 bytes, of which three come before the stream ends.

    gRPC leaves such a call unanswered until its deadline; without one, until the connection ends.
    """
    headers = b"".join(
        b"\x00" + bytes([len(name)]) + name + bytes([len(value)]) + value
        for name, value in (
            (b":method", b"POST"),
            (b":scheme", b"http"),
            (b":path", f"{SERVICE}CreateSession".encode()),
            (b":authority", b"localhost"),
            (b"content-type", b"application/grpc"),
            (b"te", b"trailers"),
            (b"grpc-timeout", b"100m"),
        )
    )
    data = b"\x00" + (1000).to_bytes(4, "big") + b"abc"
    reader, writer = await asyncio.open_connection("127.0.0.1", service.port)
    writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + _frame(4, 0, 0, b""))
    writer.write(_frame(1, 4, 1, headers) + _frame(0, 1, 1, data))
    await writer.drain()
    answered = b""
    # Trailers (a HEADERS frame that ends the stream) or RST_STREAM: the call has ended, one way or the other.
    while not _ends_stream_1(answered):
        received = await reader.read(65_536)
        assert received
        answered += received
    writer.close()
    await create(service.sessions, a_session("s1"))


def _frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    return len(payload).to_bytes(3, "big") + bytes([kind, flags]) + stream.to_bytes(4, "big") + payload


def _ends_stream_1(answered: bytes) -> bool:
    at = 0
    while at + 9 <= len(answered):
        kind, flags, stream = answered[at + 3], answered[at + 4], int.from_bytes(answered[at + 5 : at + 9], "big")
        if stream == 1 and (kind == 3 or (kind == 1 and flags & 1)):
            return True
        at += 9 + int.from_bytes(answered[at : at + 3], "big")
    return False


async def test_a_frame_larger_than_the_transport_takes_is_refused_by_it(channel: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError) as failure:
        await channel.unary_unary(f"{SERVICE}CreateSession")(with_search_meta(bytes(2 * MAX_MESSAGE_BYTES)))
    assert failure.value.code() == grpc.StatusCode.RESOURCE_EXHAUSTED
    assert reason_of(failure.value) == ""
