"""A search: who searched for what, and what was shown."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING, Any, NamedTuple

if TYPE_CHECKING:
    from datetime import datetime

    from clickstream_service.domain.event import Event

MAX_BYTES = 3 * 1024 * 1024
"""The largest session, as a message: it fits into a response, and three times over into a MongoDB document."""

Struct = dict[str, Any]
"""A JSON object: None, bool, float, str, lists and objects of these."""


class SortOrder(IntEnum):
    """A direction to sort in, numbered as in the contract."""

    UNSPECIFIED = 0
    ASCENDING = 1
    DESCENDING = 2


@dataclass(frozen=True, slots=True)
class SortBy:
    """An order that was asked for."""

    field: str
    order: SortOrder


class SearchResult(NamedTuple):
    """A result as it was shown; `rank` counts from 1. A tuple, since there are many: it is made in half the time."""

    object_id: str
    rank: int
    score: float | None = None
    meta: Struct | None = None


@dataclass(frozen=True, slots=True)
class Irrelevance:
    """Why and since when a session does not count."""

    reason: str
    marked_at: datetime


@dataclass(frozen=True, slots=True)
class Session:
    """A recorded search, or one about to be recorded.

    `query` is the text, or an object for searches that are not text. `query_vector` is little-endian float32.
    `fingerprint` is a SHA-256 of what the client gave but for the user, `nbytes` its size as a message. The fields from
    `batch_id` on belong to the server.
    """

    session_id: str
    user_id: str
    query: str | Struct | None
    query_vector: bytes
    results: tuple[SearchResult, ...]
    search_meta: Struct | None
    payload_filter: Struct | None
    sort_by: tuple[SortBy, ...]
    created_at: datetime
    collection: str
    fingerprint: bytes
    nbytes: int
    trace: str = ""
    """The span that it came in with, as a W3C traceparent; empty when that is not recorded."""
    batch_id: str = ""
    session_number: int = 0
    irrelevance: Irrelevance | None = None
    submitted: bool = False

    @property
    def place(self) -> tuple[str, str]:
        """The surface and the device of the search, from its `search_meta`; empty for what is not a text there."""
        meta = self.search_meta or {}
        surface, device = meta.get("surface"), meta.get("device")
        return surface if isinstance(surface, str) else "", device if isinstance(device, str) else ""


@dataclass(frozen=True, slots=True)
class Recorded:
    """Where a session was recorded, and what the server knows about it; `created` is False for one sent again."""

    created: bool
    session_id: str
    batch_id: str
    session_number: int
    created_at: datetime
    irrelevance: Irrelevance | None = None
    submitted: bool = False


@dataclass(frozen=True, slots=True)
class SessionWithEvents:
    """A session and its first events, oldest first; `truncated` when it has more."""

    session: Session
    events: tuple[Event, ...]
    truncated: bool

    @property
    def nbytes(self) -> int:
        """Its size as a message, with room for what the server assigned."""
        irrelevance = self.session.irrelevance
        assigned = 128 if irrelevance is None else 128 + len(irrelevance.reason.encode())
        return self.session.nbytes + assigned + sum(event.nbytes + 32 for event in self.events)


@dataclass(frozen=True, slots=True)
class SessionFilter:
    """Which sessions to list; None for any."""

    user_id: str | None = None
    created_from: datetime | None = None
    created_before: datetime | None = None
    irrelevant: bool | None = None
