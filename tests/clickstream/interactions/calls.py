"""Calls of InteractionService in few words."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from tideline.clickstream.v1 import interaction_pb2
from tideline.clickstream.v1 import interaction_service_pb2 as pb
from tideline.clickstream.v1.interaction_pb2 import InteractionFilter, InteractionFilterList, InteractionMatch

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tideline.clickstream.v1.event_pb2 import EventOutcome
    from tideline.clickstream.v1.interaction_service_pb2_grpc import InteractionServiceAsyncStub


def an_interaction(interaction_id: str, feature_id: str = "a", **fields: Any) -> interaction_pb2.Interaction:
    """A click; `occurred_at` may be a datetime."""
    return interaction_pb2.Interaction(
        **{"interaction_id": interaction_id, "feature_id": feature_id, "interaction_types": ["click"], **fields}
    )


def match(**fields: Any) -> InteractionFilter:
    return InteractionFilter(match=InteractionMatch(**fields))


def all_of(*filters: InteractionFilter) -> InteractionFilter:
    return InteractionFilter(all_of=InteractionFilterList(filters=filters))


def any_of(*filters: InteractionFilter) -> InteractionFilter:
    return InteractionFilter(any_of=InteractionFilterList(filters=filters))


def none_of(one: InteractionFilter) -> InteractionFilter:
    return InteractionFilter(none_of=one)


async def record(
    interactions: InteractionServiceAsyncStub, interaction: interaction_pb2.Interaction, *, historical: bool = False
) -> pb.RecordInteractionResponse:
    request = pb.RecordInteractionRequest(interaction=interaction, historical=historical)
    return await interactions.RecordInteraction(request)


async def record_all(
    interactions: InteractionServiceAsyncStub,
    given: Sequence[interaction_pb2.Interaction],
    *,
    historical: bool = False,
) -> Sequence[EventOutcome]:
    request = pb.BatchRecordInteractionsRequest(interactions=given, historical=historical)
    return (await interactions.BatchRecordInteractions(request)).outcomes


async def listed(interactions: InteractionServiceAsyncStub, **request: Any) -> list[interaction_pb2.Interaction]:
    """What is on all pages."""
    found: list[interaction_pb2.Interaction] = []
    token = ""
    while True:
        answer = await interactions.ListInteractions(pb.ListInteractionsRequest(**request, page_token=token))
        found += answer.interactions
        if not (token := answer.next_page_token):
            return found


async def exported(interactions: InteractionServiceAsyncStub, **request: Any) -> list[interaction_pb2.Interaction]:
    """What is in all parts of the stream."""
    stream = interactions.ExportInteractions(pb.ExportInteractionsRequest(**request))
    return [interaction async for part in stream for interaction in part.interactions]


def ids(found: Sequence[interaction_pb2.Interaction]) -> list[str]:
    return [interaction.interaction_id for interaction in found]
