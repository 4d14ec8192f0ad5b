"""Interactions: the events of all sessions and those that came without one, as one list.

An interaction is an `Event`; these are the words to ask for some of them.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, NamedTuple, TypeAlias

if TYPE_CHECKING:
    from datetime import datetime

    from clickstream_service.domain.event import Event


@dataclass(frozen=True, slots=True)
class Match:
    """One of each that is named; an empty field asks nothing."""

    object_ids: tuple[str, ...] = ()
    user_ids: tuple[str, ...] = ()
    session_ids: tuple[str, ...] = ()
    query_texts: tuple[str, ...] = ()
    event_types: tuple[str, ...] = ()
    created_from: datetime | None = None
    created_before: datetime | None = None


@dataclass(frozen=True, slots=True)
class AllOf:
    """What all of these take."""

    filters: tuple[InteractionFilter, ...]


@dataclass(frozen=True, slots=True)
class AnyOf:
    """What any of these takes."""

    filters: tuple[InteractionFilter, ...]


@dataclass(frozen=True, slots=True)
class NoneOf:
    """What this does not take."""

    filter: InteractionFilter


InteractionFilter: TypeAlias = Match | AllOf | AnyOf | NoneOf


@dataclass(frozen=True, slots=True)
class Choice:
    """Which interactions; those of irrelevant sessions and noise only when they are wanted, too."""

    filter: InteractionFilter = Match()
    include_excluded: bool = False


class Place(NamedTuple):
    """Where an interaction is in the order of time."""

    created_at: datetime
    session_id: str
    event_id: str


@dataclass(frozen=True, slots=True)
class InteractionPage:
    """Some interactions; `more` when there are others after them."""

    interactions: tuple[Event, ...]
    more: bool
