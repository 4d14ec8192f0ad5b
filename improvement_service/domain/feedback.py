"""Feedback as it is leased: sessions of a user, what they say, and what became of them."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime, timedelta

    from improvement_service.domain.scoring import Floats


class Reason(StrEnum):
    """Why a session was left out or failed; a session filter may have others."""

    IRRELEVANT = "irrelevant"
    NO_POSITIVE = "no_positive"
    TOO_SHORT = "too_short"
    AMBIGUOUS = "ambiguous"
    NO_QUERY_VECTOR = "no_query_vector"
    UNKNOWN_COLLECTION = "unknown_collection"
    NO_KNOWN_OBJECTS = "no_known_objects"
    DIMENSION_MISMATCH = "dimension_mismatch"
    INVALID_QUERY_VECTOR = "invalid_query_vector"
    EMBEDDING_FAILED = "embedding_failed"
    FILTER_FAILED = "filter_failed"
    ADJUST_FAILED = "adjust_failed"
    UPSERT_FAILED = "upsert_failed"
    ORIGINAL_CHANGED = "original_changed"


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on the feedback of one user; of two, the one with the higher fence counts."""

    user_id: str
    fence: int


@dataclass(frozen=True, slots=True)
class Event:
    """Something the user did with a result, or with the search as a whole."""

    object_id: str
    """Empty for the search as a whole."""
    event_types: tuple[str, ...]
    weight: float
    """What it says about its object: above 0 for it, below 0 against it, 0 when it is neutral."""
    created_at: datetime
    position: int | None = None
    """From 0; None when it is not known."""
    dwell: timedelta | None = None


@dataclass(frozen=True, slots=True)
class Session:
    """A search and what was done with its results."""

    session_id: str
    collection: str
    """Empty for the default one."""
    created_at: datetime
    text: str
    """Empty for a search that was not text."""
    query_vector: Floats | None
    """As it came, [D]; nobody has checked it."""
    results: tuple[tuple[str, int], ...]
    """(object id, rank) as shown, ranks from 1."""
    events: tuple[Event, ...]
    """Oldest first."""
    search_meta: Mapping[str, Any]
    irrelevant: bool = False
    examination: tuple[float, ...] = ()
    """How likely each rank from 1 on was looked at; empty for 1/rank."""
    waiting: bool = True
    """Whether the queue waits for an outcome; False for what was settled by an earlier run."""
    trace: str = ""
    """The span of the search, as a W3C traceparent; empty when it is not known."""

    def weights(self) -> dict[str, float]:
        """Return what all events together say about each object they are about."""
        weights: dict[str, float] = {}
        for event in self.events:
            if event.object_id:
                weights[event.object_id] = weights.get(event.object_id, 0.0) + event.weight
        return weights

    def positives(self) -> dict[str, float]:
        """Return the objects that the events speak for, and how much."""
        return {object_id: weight for object_id, weight in self.weights().items() if weight > 0}

    def turned_down(self) -> frozenset[str]:
        """Return the objects that an event speaks against, and all events together no less than for."""
        weights = self.weights()
        return frozenset(
            event.object_id
            for event in self.events
            if event.weight < 0 and event.object_id and weights[event.object_id] <= 0
        )


@dataclass(frozen=True, slots=True)
class LeasedUser:
    """A user and all submitted sessions that are retained."""

    lease: Lease
    sessions: tuple[Session, ...]


@dataclass(frozen=True, slots=True)
class Verdict:
    """What a filter says of a session: left out for a `reason`, else its positives count `weight` times."""

    reason: str = ""
    """A short name. Example: "too_short"."""
    weight: float = 1.0


class State(StrEnum):
    """What became of a session."""

    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a session, and why it was not learned from."""

    session_id: str
    state: State
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class Settlement:
    """Whether the user waits again, and how many sessions failed for the last time."""

    pending_again: bool
    parked: int
