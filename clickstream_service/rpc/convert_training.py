"""Training data between messages of the contract and the domain."""

from __future__ import annotations

import math
import sys
from array import array
from typing import TYPE_CHECKING

from clickstream_service.domain.training import Selection
from clickstream_service.domain.training_choice import SplitKey, TrainingChoice, TrainingSplit
from tideline.clickstream.v1 import session_pb2
from tideline.clickstream.v1 import training_service_pb2 as pb
from tideline.errors import InvalidField
from tideline.rpc.structs import datetime_from_pb, datetime_to_pb, struct_from_pb, struct_to_pb

if TYPE_CHECKING:
    from datetime import datetime

    from clickstream_service.domain.session import Struct
    from clickstream_service.domain.training import FineTuningInput, TrainingPair
    from clickstream_service.domain.training_choice import TrainingSnapshot


def choice_from_pb(request: pb.ExportTrainingPairsRequest | pb.CreateTrainingSnapshotRequest) -> TrainingChoice:
    """Return what is chosen; raises `InvalidField`."""
    choice = request.choice
    return TrainingChoice(
        created_from=_time(choice, "created_from", "choice."),
        created_before=_time(choice, "created_before", "choice."),
        min_interactions=choice.min_interactions,
        interaction_types=frozenset(choice.interaction_types),
        surfaces=frozenset(choice.surfaces),
        max_negatives=choice.max_negatives,
        max_weight=choice.max_weight,
        propensity_version=choice.propensity_version,
        strengths_version=choice.strengths_version,
    )


def snapshot_id_from_pb(request: pb.ExportTrainingPairsRequest) -> str:
    """Return the snapshot that is named; raises `InvalidField` when there is a choice as well."""
    if request.snapshot_id and request.HasField("choice"):
        raise InvalidField("a snapshot has its own choice", field="choice")
    return request.snapshot_id


def split_from_pb(request: pb.ExportTrainingPairsRequest) -> TrainingSplit | None:
    """Return which part is wanted; None for all. Raises `InvalidField`."""
    split = request.split
    if split.key == pb.SPLIT_KEY_UNSPECIFIED:
        if split.fractions or split.part:
            raise InvalidField("says what must not be in two parts", field="split.key")
        return None
    if not math.isclose(sum(split.fractions), 1.0, abs_tol=1e-6):
        raise InvalidField("have to add up to 1", field="split.fractions")
    if split.part >= len(split.fractions):
        raise InvalidField("is not one of the parts", field="split.part")
    return TrainingSplit(SplitKey(split.key), tuple(split.fractions), split.part)


def selection_from_pb(request: pb.ExportFineTuningInputsRequest) -> Selection:
    """Return which sessions are wanted; raises `InvalidField`."""
    return Selection(
        created_from=_time(request, "created_from"),
        created_before=_time(request, "created_before"),
        batch_id=request.batch_id,
        include_irrelevant=request.include_irrelevant,
        vectors=True,
    )


def meta_from_pb(request: pb.CreateTrainingSnapshotRequest) -> Struct | None:
    return struct_from_pb(request.meta, "meta") if request.HasField("meta") else None


def snapshot_to_pb(snapshot: TrainingSnapshot) -> pb.TrainingSnapshot:
    choice = snapshot.choice
    message = pb.TrainingSnapshot(
        snapshot_id=snapshot.snapshot_id,
        choice=pb.TrainingChoice(
            min_interactions=choice.min_interactions,
            interaction_types=sorted(choice.interaction_types),
            surfaces=sorted(choice.surfaces),
            max_negatives=choice.max_negatives,
            max_weight=choice.max_weight,
            propensity_version=choice.propensity_version,
            strengths_version=choice.strengths_version,
        ),
    )
    if choice.created_from is not None:
        datetime_to_pb(choice.created_from, message.choice.created_from)
    if choice.created_before is not None:
        datetime_to_pb(choice.created_before, message.choice.created_before)
    datetime_to_pb(snapshot.recorded_before, message.recorded_before)
    datetime_to_pb(snapshot.created_at, message.created_at)
    if snapshot.meta is not None:
        struct_to_pb(snapshot.meta, message.meta)
    return message


def pair_to_pb(pair: TrainingPair) -> pb.TrainingPair:
    return pb.TrainingPair(
        query=_query_to_pb(pair.query),
        positive_object_id=pair.positive,
        negative_object_ids=pair.negatives,
        weight=pair.weight,
        propensity_version=pair.propensity_version,
        strengths_version=pair.strengths_version,
        position=pair.position,
        session_ids=pair.session_ids,
        interaction_count=pair.interactions,
    )


def input_to_pb(given: FineTuningInput) -> pb.FineTuningInput:
    search = given.search
    vector = array("f", search.query_vector)
    if sys.byteorder == "big":
        vector.byteswap()
    return pb.FineTuningInput(
        session_id=search.session_id,
        query=_query_to_pb(search.query),
        query_vector=vector,
        result_object_ids=[object_id for object_id, _ in search.results],
        ranks=[rank for _, rank in search.results],
        events=[
            pb.FineTuningEvent(object_id=event.object_id, importance=event.importance, event_types=event.types)
            for event in given.events
        ],
        not_event_object_ids=given.not_events,
        is_irrelevant=search.irrelevant,
        batch_id=search.batch_id,
        session_number=search.session_number,
    )


def _query_to_pb(query: str | Struct | None) -> session_pb2.SearchQuery | None:
    if query is None or isinstance(query, str):
        return None if query is None else session_pb2.SearchQuery(text=query)
    message = session_pb2.SearchQuery()
    struct_to_pb(query, message.structured)
    return message


def _time(
    message: pb.TrainingChoice | pb.ExportFineTuningInputsRequest, name: str, prefix: str = ""
) -> datetime | None:
    return datetime_from_pb(getattr(message, name), prefix + name) if message.HasField(name) else None  # type: ignore[arg-type]
