"""Messages as rows, the same in every file format: what is no number, text or list of them is JSON."""

from __future__ import annotations

import json
from datetime import UTC
from typing import TYPE_CHECKING, Any, Final

from google.protobuf.json_format import MessageToDict

if TYPE_CHECKING:
    from google.protobuf.struct_pb2 import Struct

    from tideline.clickstream.v1 import session_pb2
    from tideline.clickstream.v1 import training_service_pb2 as pb
    from tideline.clickstream.v1.interaction_pb2 import Interaction

Row = dict[str, Any]

_TEXTS: Final = "list<string>"
COLUMNS: Final = {
    "training-pairs": {
        "query_text": "string",
        "query_structured": "string",
        "positive_object_id": "string",
        "negative_object_ids": _TEXTS,
        "weight": "double",
        "propensity_version": "int64",
        "strengths_version": "int64",
        "position": "int32",
        "session_ids": _TEXTS,
        "interaction_count": "int32",
    },
    "fine-tuning-inputs": {
        "session_id": "string",
        "query_text": "string",
        "query_structured": "string",
        "query_vector": "list<float>",
        "result_object_ids": _TEXTS,
        "ranks": "list<int32>",
        "event_object_ids": _TEXTS,
        "event_importances": "list<double>",
        "event_types": "list<list<string>>",
        "not_event_object_ids": _TEXTS,
        "is_irrelevant": "bool",
        "batch_id": "string",
        "session_number": "int64",
    },
    "interactions": {
        "interaction_id": "string",
        "feature_id": "string",
        "interaction_types": _TEXTS,
        "position": "int32",
        "user_id": "string",
        "session_id": "string",
        "query_text": "string",
        "document_score": "double",
        "result_set_size": "int32",
        "duration_us": "int64",
        "metadata": "string",
        "occurred_at": "timestamp",
    },
}
"""The type of each column, by kind."""


def of_pair(pair: pb.TrainingPair) -> Row:
    return {
        **_query(pair.query),
        "positive_object_id": pair.positive_object_id,
        "negative_object_ids": list(pair.negative_object_ids),
        "weight": pair.weight,
        "propensity_version": pair.propensity_version,
        "strengths_version": pair.strengths_version,
        "position": pair.position if pair.HasField("position") else None,
        "session_ids": list(pair.session_ids),
        "interaction_count": pair.interaction_count,
    }


def of_input(given: pb.FineTuningInput) -> Row:
    return {
        "session_id": given.session_id,
        **_query(given.query),
        "query_vector": list(given.query_vector),
        "result_object_ids": list(given.result_object_ids),
        "ranks": list(given.ranks),
        "event_object_ids": [event.object_id for event in given.events],
        "event_importances": [event.importance for event in given.events],
        "event_types": [list(event.event_types) for event in given.events],
        "not_event_object_ids": list(given.not_event_object_ids),
        "is_irrelevant": given.is_irrelevant,
        "batch_id": given.batch_id,
        "session_number": given.session_number,
    }


def of_interaction(done: Interaction) -> Row:
    return {
        "interaction_id": done.interaction_id,
        "feature_id": done.feature_id,
        "interaction_types": list(done.interaction_types),
        "position": done.position if done.HasField("position") else None,
        "user_id": done.user_id,
        "session_id": done.session_id,
        "query_text": done.query_text,
        "document_score": done.document_score if done.HasField("document_score") else None,
        "result_set_size": done.result_set_size if done.HasField("result_set_size") else None,
        "duration_us": done.duration.ToMicroseconds() if done.HasField("duration") else None,
        "metadata": _json(done.metadata) if done.HasField("metadata") else None,
        "occurred_at": done.occurred_at.ToDatetime(UTC),
    }


def _query(query: session_pb2.SearchQuery) -> Row:
    kind = query.WhichOneof("query")
    return {
        "query_text": query.text if kind == "text" else None,
        "query_structured": _json(query.structured) if kind == "structured" else None,
    }


def _json(struct: Struct) -> str:
    """Return a Struct as JSON that is always the same for the same content."""
    return json.dumps(MessageToDict(struct), sort_keys=True, separators=(",", ":"), ensure_ascii=False)
