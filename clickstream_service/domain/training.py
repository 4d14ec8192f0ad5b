"""What models are trained on, made of sessions."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable
    from datetime import datetime, timedelta

    from clickstream_service.domain.session import Struct


@dataclass(frozen=True, slots=True)
class Action:
    """Something that was done with an object."""

    object_id: str
    types: tuple[str, ...]
    dwell: timedelta | None


@dataclass(frozen=True, slots=True)
class Search:
    """What training needs of a session: `results` are (object, rank from 1 on) in shown order; actions oldest first.

    `query_key` is as `query_key()` has it, `query_vector` little-endian float32.
    """

    session_id: str
    user_id: str
    query: str | Struct | None
    query_key: bytes | None
    query_vector: bytes
    results: tuple[tuple[str, int], ...]
    surface: str
    irrelevant: bool
    batch_id: str
    session_number: int
    actions: tuple[Action, ...]


@dataclass(frozen=True, slots=True)
class Selection:
    """Which sessions to read; None and empty for any. Noise is never among them.

    What was recorded from `recorded_before` on does not count, be it a session or an event.
    """

    created_from: datetime | None = None
    created_before: datetime | None = None
    recorded_before: datetime | None = None
    batch_id: str = ""
    include_irrelevant: bool = False
    surface: str = ""
    device: str = ""
    vectors: bool = False
    """Whether to read the vectors of queries, which are large."""


@dataclass(frozen=True, slots=True)
class TrainingPair:
    """A query, what was meant, and what was not; `position` counts from 0."""

    query: str | Struct
    positive: str
    negatives: tuple[str, ...]
    weight: float
    propensity_version: int
    strengths_version: int
    position: int | None
    session_ids: tuple[str, ...]
    interactions: int

    @property
    def nbytes(self) -> int:
        """About how large it is as a message, the query left out."""
        return 64 + _bytes(self.negatives) + _bytes(self.session_ids) + len(self.positive)


@dataclass(frozen=True, slots=True)
class FineTuningEvent:
    """What was done with one object, in all."""

    object_id: str
    importance: float
    types: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class FineTuningInput:
    """A session as an input to fine-tune on: what was acted on, most important first, and what was not."""

    search: Search
    events: tuple[FineTuningEvent, ...]
    not_events: tuple[str, ...]

    @property
    def nbytes(self) -> int:
        """About how large it is as a message."""
        shown = _bytes(object_id for object_id, _ in self.search.results)
        return 128 + 2 * shown + len(self.search.query_vector) + _bytes(event.object_id for event in self.events)


def _bytes(texts: Iterable[str]) -> int:
    return sum(len(text) + 8 for text in texts)
