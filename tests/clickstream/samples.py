"""Sessions and events to try things with."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from hypothesis import strategies as st

from tideline.clickstream.v1 import event_pb2, session_pb2

if TYPE_CHECKING:
    from collections.abc import Sequence

AWKWARD_IDS = (
    "it's",
    'say "hi"',
    "back\\slash",
    "under_score",
    "two words",
    "\U0001f9e6 socks",
    "$dollar.dot%41",
    "a_b\nc",
    "é" * 256,
)

IDS = st.text(st.characters(exclude_characters="\0", exclude_categories=("Cs",)), min_size=1, max_size=120)

STRUCTS = st.recursive(
    st.dictionaries(
        st.text(st.characters(exclude_categories=("Cs",)), max_size=12)
        | st.sampled_from(["a.b", "$set", "$ref", "$id", "", "%2E", "%", "\0", "_id"]),
        st.none()
        | st.booleans()
        | st.floats(allow_nan=False, allow_infinity=False)
        | st.text(st.characters(exclude_categories=("Cs",))),
        max_size=4,
    ),
    lambda structs: st.dictionaries(
        st.text("ab.$%", max_size=3),
        structs
        | st.lists(
            structs | st.none() | st.lists(st.floats(allow_nan=False, allow_infinity=False), max_size=3), max_size=3
        ),
        max_size=3,
    ),
    max_leaves=8,
)


def a_session(session_id: str, *, objects: Sequence[str] = ("a", "b", "c"), **fields: Any) -> session_pb2.Session:
    """A session that showed these objects; `created_at` may be a datetime."""
    shown = [session_pb2.SearchResult(object_id=object_id) for object_id in objects]
    return session_pb2.Session(
        **{
            "session_id": session_id,
            "user_id": "ann",
            "search_query": session_pb2.SearchQuery(text="red shoes"),
            "search_results": shown,
            **fields,
        }
    )


def an_event(event_id: str, object_id: str = "a", **fields: Any) -> event_pb2.Event:
    """A click."""
    return event_pb2.Event(**{"event_id": event_id, "object_id": object_id, "event_types": ["click"], **fields})
