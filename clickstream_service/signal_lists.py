"""Which objects and queries stand out, and what a user has consumed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, Protocol

from clickstream_service.domain import intervals
from clickstream_service.domain.hours import DAY, day_of
from clickstream_service.domain.signal import ConsumedObject, QueryMetrics, Scope, SkippedObject, TopObject

if TYPE_CHECKING:
    from collections.abc import Callable, Collection, Mapping, Sequence
    from datetime import datetime, timedelta

    from clickstream_service.domain.strength import Strengths
    from clickstream_service.strengths import StrengthVersions

SMOOTHING: Final = 5.0
"""What is added to both scores before they are divided, so that a first click is no trend."""


@dataclass(frozen=True, slots=True)
class QueryFilter:
    """Which queries: below this CTR if there is one, and those that found nothing if that is wanted."""

    max_ctr: float | None
    zero_results: bool
    min_sessions: int


@dataclass(frozen=True, slots=True)
class Ranking:
    """How objects are ranked: by the weights of sets of types, halved after each `half_life`, or by their growth."""

    weights: Mapping[str, float]
    half_life: timedelta | None
    trending: bool
    smoothing: float = SMOOTHING


class SignalListStore(Protocol):
    """Where rollups of objects and queries are read."""

    async def skipped(
        self, scope: Scope, max_rank: int, min_impressions: int, limit: int
    ) -> list[tuple[str, int, int]]:
        """Return objects shown at these ranks with impressions and skips, most skips first; raises `UnknownSegment`."""

    async def queries(self, scope: Scope, which: QueryFilter, limit: int) -> list[tuple[str, int, int, int]]:
        """Return queries with sessions, clicked and zero-result sessions, most first; raises `UnknownSegment`."""

    async def type_sets(self, scope: Scope) -> dict[str, tuple[str, ...]]:
        """Return which sets of types events had, by their keys."""

    async def top(self, scope: Scope, ranking: Ranking, limit: int) -> list[TopObject]:
        """Return the objects that rank first."""


class ConsumedStore(Protocol):
    """Where the events of a user are read."""

    async def consumed(self, user_id: str, since: datetime, types: Collection[str], limit: int) -> list[ConsumedObject]:
        """Return objects with events of these types, of all but view when empty, newest first."""


class SignalLists:
    """What can be asked about objects and queries."""

    def __init__(
        self,
        store: SignalListStore,
        consumed: ConsumedStore,
        strengths: StrengthVersions,
        now: Callable[[], datetime],
    ) -> None:
        self._store = store
        self._consumed = consumed
        self._strengths = strengths
        self._now = now

    async def skipped(self, scope: Scope, max_rank: int, min_impressions: int, limit: int) -> list[SkippedObject]:
        """Return objects that are shown high and passed over, most often first."""
        found = await self._store.skipped(_in_days(scope), max_rank, min_impressions, limit)
        return [
            SkippedObject(object_id, impressions, skips, intervals.rate(skips, impressions))
            for object_id, impressions, skips in found
        ]

    async def queries(self, scope: Scope, which: QueryFilter, limit: int) -> list[QueryMetrics]:
        """Return queries that do badly, most searched first."""
        found = await self._store.queries(_in_days(scope), which, limit)
        return [
            QueryMetrics(text, sessions, intervals.rate(clicked, sessions), zero)
            for text, sessions, clicked, zero in found
        ]

    async def top(
        self, scope: Scope, types: Collection[str], half_life: timedelta | None, limit: int, *, trending: bool
    ) -> list[TopObject]:
        """Return the objects that most was done with, or for which that grew most.

        score = sum over interactions of weight 2^(-age / half life); trending ranks by
        (score + s) / (score of the time before + s).
        """
        length = scope.before - scope.since
        both = replace(scope, since=scope.since - length) if trending else scope
        sets = await self._store.type_sets(both)
        weights = _weights(await self._strengths.current(), sets, types)
        if not weights:
            return []
        return await self._store.top(scope, Ranking(weights, half_life, trending), limit)

    async def consumed(
        self, user_id: str, types: Collection[str], within: timedelta, limit: int
    ) -> list[ConsumedObject]:
        """Return the objects that a user did something with, newest first."""
        return await self._consumed.consumed(user_id, self._now() - within, types, limit)


def _in_days(scope: Scope) -> Scope:
    """Return the days that a scope touches, by which objects and queries are counted."""
    return replace(scope, since=day_of(scope.since), before=day_of(scope.before + DAY - 1))


def _weights(strengths: Strengths, sets: Mapping[str, Sequence[str]], wanted: Collection[str]) -> dict[str, float]:
    """Return what an interaction of each set of types weighs: those that have a wanted type, or weigh something."""
    weights: dict[str, float] = {}
    for key, types in sets.items():
        counting = [each for each in types if each in wanted] if wanted else types
        weight = strengths.weight(counting)
        if counting and (wanted or weight):
            weights[key] = weight
    return weights
