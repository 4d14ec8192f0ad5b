"""Interactions, filters and strengths to and from messages of the contract."""

from __future__ import annotations

import hashlib
import uuid
from typing import TYPE_CHECKING, Final

from clickstream_service.domain.interaction import AllOf, AnyOf, Choice, InteractionFilter, Match, NoneOf
from clickstream_service.domain.strength import Level, Strength
from clickstream_service.rpc import convert
from tideline.clickstream.v1 import event_pb2, interaction_pb2
from tideline.clickstream.v1 import interaction_service_pb2 as pb
from tideline.errors import InvalidField
from tideline.rpc.structs import (
    datetime_from_pb,
    datetime_to_pb,
    struct_to_pb,
    timedelta_to_pb,
)
from tideline.rpc.validation import first_violation

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime

    from clickstream_service.domain.event import Event
    from clickstream_service.domain.strength import Strengths

DEEPEST: Final = 8
"""How deep filters may be nested."""
MOST: Final = 256
"""How many there may be in all."""

_EVENT_FIELDS: Final = {"created_at": "occurred_at", "meta": "metadata", "dwell": "duration"}


def checked_interaction_from_pb(message: interaction_pb2.Interaction, now: datetime) -> Event | InvalidField:
    """Return the interaction, or the first rule of the contract that it breaks."""
    return first_violation(message) or interaction_from_pb(message, now)


def interaction_from_pb(message: interaction_pb2.Interaction, now: datetime) -> Event | InvalidField:
    """Return an interaction that came in `now`; gets an id when it has none."""
    same = event_pb2.Event(
        event_id=message.interaction_id or uuid.uuid4().hex,
        object_id=message.feature_id,
        event_types=message.interaction_types,
        position=message.position if message.HasField("position") else None,
        dwell=message.duration if message.HasField("duration") else None,
        meta=message.metadata if message.HasField("metadata") else None,
        created_at=message.occurred_at if message.HasField("occurred_at") else None,
    )
    event = convert.event_from_pb(message.session_id, same, now)
    if isinstance(event, InvalidField):
        return type(event)(str(event), field=_EVENT_FIELDS[event.field])
    # What an event has not, too, but for the user, who is compared by itself; of a session, the text is no content of
    # its own.
    more = interaction_pb2.Interaction(
        query_text="" if message.session_id else message.query_text,
        document_score=message.document_score if message.HasField("document_score") else None,
        result_set_size=message.result_set_size if message.HasField("result_set_size") else None,
    ).SerializeToString(deterministic=True)
    return event._replace(
        user_id=message.user_id,
        query_text=message.query_text,
        document_score=message.document_score if message.HasField("document_score") else None,
        result_set_size=message.result_set_size if message.HasField("result_set_size") else None,
        # The same as that of the event when there is no more: whichever way it comes, it is the same.
        fingerprint=hashlib.sha256(event.fingerprint + more).digest() if more else event.fingerprint,
        nbytes=event.nbytes + len(more),
    )


def interaction_to_pb(event: Event) -> interaction_pb2.Interaction:
    message = interaction_pb2.Interaction(
        interaction_id=event.event_id,
        feature_id=event.object_id,
        interaction_types=event.event_types,
        position=event.position,
        user_id=event.user_id,
        session_id=event.session_id,
        query_text=event.query_text,
        document_score=event.document_score,
        result_set_size=event.result_set_size,
        flags=map(event_pb2.EventFlag.ValueType, event.flags),
        noise=event.noise,
    )
    if event.dwell is not None:
        timedelta_to_pb(event.dwell, message.duration)
    if event.meta is not None:
        struct_to_pb(event.meta, message.metadata)
    datetime_to_pb(event.created_at, message.occurred_at)
    return message


def choice_from_pb(request: pb.ListInteractionsRequest | pb.ExportInteractionsRequest) -> Choice:
    """Return which interactions are asked for; raises `InvalidField`."""
    if not request.HasField("filter"):
        return Choice(include_excluded=request.include_excluded)
    return Choice(_Filters().read(request.filter, "filter", DEEPEST), request.include_excluded)


class _Filters:
    """Reads filters, and counts them."""

    def __init__(self) -> None:
        self._room = MOST

    def read(self, message: interaction_pb2.InteractionFilter, path: str, depth: int) -> InteractionFilter:
        """Return the filter at `path`, which may hold others `depth` deep; raises `InvalidField`."""
        self._room -= 1
        if depth == 0:
            raise InvalidField(f"filters are nested more than {DEEPEST} deep", field="filter")
        if self._room < 0:
            raise InvalidField(f"has more than {MOST} filters in all", field="filter")
        kind = message.WhichOneof("kind")
        if kind == "all_of":
            return AllOf(self._all(message.all_of.filters, f"{path}.all_of", depth))
        if kind == "any_of":
            return AnyOf(self._all(message.any_of.filters, f"{path}.any_of", depth))
        if kind == "none_of":
            return NoneOf(self.read(message.none_of, f"{path}.none_of", depth - 1))
        return _match(message.match, f"{path}.match")

    def _all(
        self, messages: Iterable[interaction_pb2.InteractionFilter], path: str, depth: int
    ) -> tuple[InteractionFilter, ...]:
        return tuple(
            self.read(message, f"{path}.filters[{index}]", depth - 1) for index, message in enumerate(messages)
        )


def _match(message: interaction_pb2.InteractionMatch, path: str) -> Match:
    return Match(
        object_ids=tuple(message.feature_ids),
        user_ids=tuple(message.user_ids),
        session_ids=tuple(message.session_ids),
        query_texts=tuple(message.query_texts),
        event_types=tuple(message.interaction_types),
        created_from=datetime_from_pb(message.occurred_from, f"{path}.occurred_from")
        if message.HasField("occurred_from")
        else None,
        created_before=datetime_from_pb(message.occurred_before, f"{path}.occurred_before")
        if message.HasField("occurred_before")
        else None,
    )


def strengths_from_pb(messages: Iterable[interaction_pb2.Strength]) -> dict[str, Strength]:
    """Return the strength of each type; of one that comes twice, the last."""
    return {
        message.interaction_type: Strength(Level(message.level), message.weight if message.HasField("weight") else None)
        for message in messages
    }


def strengths_to_pb(strengths: Strengths) -> interaction_pb2.Strengths:
    message = interaction_pb2.Strengths(
        version=strengths.version,
        strengths=[
            interaction_pb2.Strength(
                interaction_type=name,
                level=interaction_pb2.StrengthLevel.ValueType(strength.level),
                weight=strength.weight,
            )
            for name, strength in sorted(strengths.by_type.items())
        ],
    )
    timedelta_to_pb(strengths.long_view_threshold, message.long_view_threshold)
    datetime_to_pb(strengths.created_at, message.created_at)
    return message
