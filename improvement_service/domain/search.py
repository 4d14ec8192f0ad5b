"""Searches and what they find."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from improvement_service.domain.facets import Wanted
    from improvement_service.domain.objects import Payload
    from improvement_service.domain.scoring import Floats


@dataclass(frozen=True)
class Position:
    """Where a page ended."""

    shown: int
    """How many results there were up to here."""
    score: float
    object_id: str


@dataclass(frozen=True)
class Hit:
    """A row that the vector database found."""

    object_id: str
    score: float
    payload: Payload | None


@dataclass(frozen=True)
class Result:
    """An object as the user sees it."""

    object_id: str
    score: float
    base_score: float
    personal: bool
    payload: Payload | None


@dataclass(frozen=True)
class Page:
    """Results, best first; `next` is absent when there are none after them."""

    results: tuple[Result, ...]
    next: Position | None


@dataclass(frozen=True)
class Recording:
    """How a search is recorded as a session."""

    session_id: str
    search_meta: Payload | None


@dataclass(frozen=True)
class Query:
    """A search as it was asked for."""

    collection: str
    vector: Floats | None
    """[D]; else `text` is embedded."""
    text: str
    user_id: str
    limit: int
    after: Position | None
    payload_filter: Payload
    wanted: Wanted
    """What `payload_filter` asks for."""
    recording: Recording | None


@dataclass(frozen=True)
class RecordedSearch:
    """What is recorded of a search."""

    recording: Recording
    query: Query
    vector: Floats
    results: tuple[Result, ...]
    first_rank: int
    """The rank of the first of `results`, from 1."""


@dataclass(frozen=True)
class Found:
    """The answer to a search; `session_id` is empty when it was not recorded, `not_recorded` says why not."""

    page: Page
    session_id: str
    not_recorded: str = ""
