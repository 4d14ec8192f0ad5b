"""Whether a message plainly keeps the rules of the contract, seen at a tenth of the cost of applying them.

Who says yes must be right: tests hold these against the rules in the protos. A no means nothing but that the rules have
to be applied, so that what is rare, or wrong, goes that way. A text of at most a quarter of the bytes that it may have
is not too long, whatever its characters; a sum is finite only if all that was summed up is.
"""

from __future__ import annotations

import re
import sys
from array import array
from math import isfinite
from typing import TYPE_CHECKING, Final

from tideline.clickstream.v1 import session_service_pb2 as pb

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from clickstream_service.domain.session import SearchResult, Session
    from tideline.clickstream.v1 import event_pb2
    from tideline.rpc.interceptor import PlainCheck

_ID: Final = 512 // 4
_TYPE: Final = 64 // 4
_TEXT: Final = 16_384 // 4
_YEAR_S: Final = 31_622_400
_EVENTS: Final = 10_000
_SESSIONS: Final = 1_000
_COLLECTION: Final = re.compile("([A-Za-z_][A-Za-z0-9_]{0,62})?").fullmatch


def plainly_valid_event(message: event_pb2.Event) -> bool:
    """Say whether an event surely keeps the rules of `tideline.clickstream.v1.Event`."""
    event_id, object_id, types = message.event_id, message.object_id, message.event_types
    if not 0 < len(event_id) <= _ID or len(object_id) > _ID or "\0" in event_id or "\0" in object_id:
        return False
    if len(types) != 1 or not 0 < len(types[0]) <= _TYPE or message.position < 0 or message.flags:
        return False
    if message.HasField("dwell"):
        dwell = message.dwell
        return 0 <= dwell.seconds < _YEAR_S and 0 <= dwell.nanos < 1_000_000_000
    return True


def plainly_valid_events(message: pb.PushEventsRequest | pb.StreamEventsRequest) -> bool:
    """Say whether events of a session surely keep the rules that are not each event's own."""
    session_id = message.session_id
    return 0 < len(session_id) <= _ID and "\0" not in session_id and 0 < len(message.events) <= _EVENTS


def plainly_valid_sessions(message: pb.BatchCreateSessionsRequest) -> bool:
    """Say whether sessions surely keep the rules that are not each session's own."""
    return 0 < len(message.sessions) <= _SESSIONS


PLAINLY_VALID: Final[Mapping[type, PlainCheck]] = {
    pb.PushEventsRequest: plainly_valid_events,
    pb.StreamEventsRequest: plainly_valid_events,
    pb.BatchCreateSessionsRequest: plainly_valid_sessions,
}
"""Requests that bring many items; each item is checked when it is converted."""


def plainly_valid_session(session: Session) -> bool:
    """Say whether the message of which a session was made surely keeps the rules of its type in the contract."""
    if len(session.session_id) > _ID or len(session.user_id) > _ID:
        return False
    if "\0" in session.session_id or "\0" in session.user_id:
        return False
    if session.sort_by or not _COLLECTION(session.collection):
        return False
    if isinstance(session.query, str) and len(session.query) > _TEXT:
        return False
    vector = session.query_vector
    if vector and (len(vector) > 4 * 32_768 or sys.byteorder != "little" or not isfinite(sum(array("f", vector)))):
        return False
    return not session.results or _plainly_valid(session.results)


def _plainly_valid(results: Sequence[SearchResult]) -> bool:
    ids, ranks, scores, _ = zip(*results, strict=True)
    if len(ids) > 1_000 or min(ranks) < 0:
        return False
    lengths = [*map(len, ids)]
    if min(lengths) == 0 or max(lengths) > _ID or "\0" in "".join(ids):
        return False
    return isfinite(sum(scores) if None not in scores else sum(score for score in scores if score is not None))
