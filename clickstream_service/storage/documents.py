"""Sessions and events as MongoDB documents, and back.

Fields are named as in the contract. MongoDB keeps times to the millisecond: what is left of `created_at` is in
`created_us`.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any, Final

from clickstream_service.domain.event import Event, EventFlag
from clickstream_service.domain.query import query_key
from clickstream_service.domain.session import Irrelevance, Recorded, SearchResult, Session, SortBy, SortOrder, Struct
from clickstream_service.storage.structs import escaped, unescaped

Document = dict[str, Any]

RECORDED: Final = dict.fromkeys(
    ("fingerprint", "user_id", "batch_id", "session_number", "created_at", "created_us", "irrelevant", "submitted"), 1
)
"""The fields that `recorded` reads, as a projection."""

_MICROSECOND: Final = timedelta(microseconds=1)
_tuple: Final = tuple.__new__


def from_session(session: Session, batch_id: str, session_number: int, recorded_at: datetime) -> Document:
    """Return the document of a session that takes this place in a batch."""
    document: Document = {
        "_id": session.session_id,
        "batch_id": batch_id,
        "session_number": session_number,
        "user_id": session.user_id,
        **_times(session.created_at),
        "recorded_at": recorded_at,
        "submitted": False,
        "search_results": [
            {"object_id": result.object_id, "rank": result.rank, "score": result.score}
            if result.meta is None and result.score is not None
            else _from_result(result)
            for result in session.results
        ],
        "fingerprint": session.fingerprint,
        "nbytes": session.nbytes,
    }
    if isinstance(session.query, str):
        document["search_query"] = {"text": session.query}
    elif session.query is not None:
        document["search_query"] = {"structured": escaped(session.query)}
    if (key := query_key(session.query)) is not None:
        document["query_key"] = key
    if session.query_vector:
        document["query_vector"] = session.query_vector
    if session.search_meta is not None:
        document["search_meta"] = escaped(session.search_meta)
    if session.payload_filter is not None:
        document["payload_filter"] = escaped(session.payload_filter)
    if session.sort_by:
        document["sort_by"] = [{"field": by.field, "order": int(by.order)} for by in session.sort_by]
    if session.collection:
        document["collection"] = session.collection
    if session.trace:
        document["trace"] = session.trace
    return document


def to_session(document: Document) -> Session:
    query = document.get("search_query")
    if query is not None:
        query = query["text"] if "text" in query else unescaped(query["structured"])
    return Session(
        session_id=document["_id"],
        user_id=document["user_id"],
        query=query,
        query_vector=document.get("query_vector", b""),
        results=tuple(
            [
                # Like `SearchResult(...)`, which takes twice as long.
                _tuple(
                    SearchResult,
                    (
                        result["object_id"],
                        result["rank"],
                        result.get("score"),
                        unescaped(result["meta"]) if "meta" in result else None,
                    ),
                )
                for result in document["search_results"]
            ]
        ),
        search_meta=_to_struct(document.get("search_meta")),
        payload_filter=_to_struct(document.get("payload_filter")),
        sort_by=tuple(SortBy(by["field"], SortOrder(by["order"])) for by in document.get("sort_by", ())),
        created_at=created_at(document),
        collection=document.get("collection", ""),
        fingerprint=document["fingerprint"],
        nbytes=document["nbytes"],
        trace=document.get("trace", ""),
        batch_id=document["batch_id"],
        session_number=document["session_number"],
        irrelevance=_to_irrelevance(document),
        submitted=document["submitted"],
    )


def to_recorded(document: Document) -> Recorded:
    """Read the fields that the server assigned; `document` may have only those of `RECORDED`."""
    return Recorded(
        created=False,
        session_id=document["_id"],
        batch_id=document["batch_id"],
        session_number=document["session_number"],
        created_at=created_at(document),
        irrelevance=_to_irrelevance(document),
        submitted=document["submitted"],
    )


def from_irrelevance(irrelevance: Irrelevance) -> Document:
    return {"reason": irrelevance.reason, "at": irrelevance.marked_at}


def query_text(session: Document) -> str:
    """Return the text that a session searched for; empty when it searched for something else."""
    text: str = session.get("search_query", {}).get("text", "")
    return text


def from_event(
    event: Event, flags: tuple[EventFlag, ...], recorded_at: datetime, user_id: str, query_text: str
) -> Document:
    """Return the document of an event that came in with these flags, of this user and query.

    These are those of its session; until the session is there, it says that it awaits one.
    """
    at = event.created_at
    document: Document = {
        "_id": {"s": event.session_id, "e": event.event_id},
        "session_id": event.session_id,
        "created_at": at,
    }
    if rest := at.microsecond % 1000:
        document["created_us"] = rest
    document["object_id"] = event.object_id
    document["event_types"] = event.event_types
    document["fingerprint"] = event.fingerprint
    document["nbytes"] = event.nbytes
    if event.position is not None:
        document["position"] = event.position
    if event.dwell is not None:
        document["dwell_us"] = event.dwell // _MICROSECOND
    if event.meta is not None:
        document["meta"] = escaped(event.meta)
    if event.document_score is not None:
        document["document_score"] = event.document_score
    if event.result_set_size is not None:
        document["result_set_size"] = event.result_set_size
    if flags:
        document["flags"] = [int(flag) for flag in flags]
    if flags and EventFlag.SESSION_MISSING in flags:
        document["awaits_session"] = True
    else:
        document["user_id"] = user_id
        document["query_text"] = query_text
    document["recorded_at"] = recorded_at
    return document


def to_event(document: Document) -> Event:
    found = document.get
    dwell_us, flags = found("dwell_us"), found("flags")
    # By place, which takes half the time.
    return Event(
        document["session_id"],
        document["_id"]["e"],
        document["object_id"],
        tuple(document["event_types"]),
        found("position"),
        None if dwell_us is None else timedelta(0, 0, dwell_us),
        _to_struct(found("meta")),
        created_at(document),
        document["fingerprint"],
        document["nbytes"],
        tuple(map(EventFlag, flags)) if flags else (),
        found("user_id", ""),
        found("query_text", ""),
        found("document_score"),
        found("result_set_size"),
        tuple(found("noise", ())),
    )


def created_at(document: Document) -> datetime:
    """Return `created_at` to the microsecond."""
    at: datetime = document["created_at"]
    rest = document.get("created_us")
    return at if rest is None else at + timedelta(microseconds=rest)


def _to_struct(document: Document | None) -> Struct | None:
    return None if document is None else unescaped(document)


def _times(at: datetime) -> Document:
    rest = at.microsecond % 1000
    return {"created_at": at, "created_us": rest} if rest else {"created_at": at}


def _from_result(result: SearchResult) -> Document:
    document: Document = {"object_id": result.object_id, "rank": result.rank}
    if result.score is not None:
        document["score"] = result.score
    if result.meta is not None:
        document["meta"] = escaped(result.meta)
    return document


def _to_irrelevance(document: Document) -> Irrelevance | None:
    irrelevant = document.get("irrelevant")
    return None if irrelevant is None else Irrelevance(irrelevant["reason"], irrelevant["at"])
