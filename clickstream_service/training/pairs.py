"""Queries with what was meant and what was not, one query at a time."""

from __future__ import annotations

from collections import defaultdict
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from clickstream_service.domain.strength import CLICK, LONG_VIEW
from clickstream_service.domain.training import TrainingPair

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from clickstream_service.domain.strength import Strengths
    from clickstream_service.domain.training import Action, Search
    from clickstream_service.domain.training_choice import TrainingChoice

MAX_SESSION_IDS: Final = 100
MAX_CANDIDATES: Final = 300_000
"""So many (positive, negative) of one query are counted: it may have any number of sessions, memory stays flat."""


@dataclass(slots=True)
class _Positive:
    weight: float = 0.0
    interactions: int = 0
    rank: int | None = None
    session_ids: list[str] = field(default_factory=list)
    passed_over: dict[str, int] = field(default_factory=dict)
    """In how many sessions each object was passed over, in the order in which they came."""


class QueryPairs:
    """The pairs of one query, out of its sessions in the order of their ids.

    What an object is worth to a session is the sum of the strengths of what was done with it. It is a positive when
    that is above 0, and adds worth * min(1 / examination(rank), max_weight) to the weight of its pair: the inverse
    propensity score (Joachims, Swaminathan, Schnabel, Unbiased learning-to-rank with biased feedback, WSDM 2017). One
    that was not among the results was not found by its rank, and adds its worth.

    Hard negatives were shown above the last positive of a session and are no positive there, nor in any other session
    of the query, on whatever surface and by whatever type. Those most often passed over come first.
    """

    def __init__(self, choice: TrainingChoice, strengths: Strengths, examination: Callable[[int], float]) -> None:
        """`choice` has every version and limit filled in."""
        self._choice = choice
        self._strengths = strengths
        self._examination = examination
        self._positives: defaultdict[str, _Positive] = defaultdict(_Positive)
        self._meant: set[str] = set()
        self._candidates = 0
        self._names: dict[str, str] = {}

    def add(self, search: Search) -> None:
        worth: defaultdict[str, float] = defaultdict(float)
        chosen: defaultdict[str, float] = defaultdict(float)
        counts: defaultdict[str, int] = defaultdict(int)
        for action in search.actions:
            if not action.object_id:
                continue
            weight = self._strengths.weight(action.types, action.dwell)
            worth[action.object_id] += weight
            if weight < 0 or self._is_chosen(action):
                chosen[action.object_id] += weight
                counts[action.object_id] += weight > 0
        self._meant.update(object_id for object_id, total in worth.items() if total > 0)
        if self._choice.surfaces and search.surface not in self._choice.surfaces:
            return
        positives = [object_id for object_id, total in chosen.items() if total > 0 and counts[object_id]]
        if not positives:
            return
        ranks = dict(search.results)
        last = max((ranks.get(object_id, 0) for object_id in positives), default=0)
        passed_over = [
            self._names.setdefault(object_id, object_id)
            for object_id, rank in search.results
            if rank < last and worth.get(object_id, 0.0) <= 0
        ]
        for object_id in positives:
            self._add_positive(search, object_id, chosen[object_id], counts[object_id], ranks.get(object_id))
            self._add_passed_over(self._positives[object_id].passed_over, passed_over)

    def pairs(self, search: Search) -> Iterator[TrainingPair]:
        """Yield the pairs in the order of their objects; `search` is any session of the query."""
        for object_id, found in sorted(self._positives.items()):
            if found.interactions < self._choice.min_interactions:
                continue
            negatives = sorted(
                (-count, other) for other, count in found.passed_over.items() if other not in self._meant
            )
            yield TrainingPair(
                query=search.query or "",
                positive=object_id,
                negatives=tuple(other for _, other in negatives[: self._choice.max_negatives]),
                weight=found.weight,
                propensity_version=self._choice.propensity_version,
                strengths_version=self._choice.strengths_version,
                position=None if found.rank is None else found.rank - 1,
                session_ids=tuple(found.session_ids),
                interactions=found.interactions,
            )

    def _is_chosen(self, action: Action) -> bool:
        wanted = self._choice.interaction_types
        if not wanted or not wanted.isdisjoint(action.types):
            return True
        long = action.dwell is not None and action.dwell >= self._strengths.long_view_threshold
        return LONG_VIEW in wanted and CLICK in action.types and long

    def _add_positive(self, search: Search, object_id: str, worth: float, interactions: int, rank: int | None) -> None:
        found = self._positives[object_id]
        inverse = 1.0 if rank is None else min(1 / self._examination(rank), self._choice.max_weight)
        found.weight += worth * inverse
        found.interactions += interactions
        if rank is not None:
            found.rank = rank if found.rank is None else min(found.rank, rank)
        if len(found.session_ids) < MAX_SESSION_IDS:
            found.session_ids.append(search.session_id)

    def _add_passed_over(self, counts: dict[str, int], passed_over: list[str]) -> None:
        for object_id in passed_over:
            if object_id in counts:
                counts[object_id] += 1
            elif self._candidates < MAX_CANDIDATES:
                counts[object_id] = 1
                self._candidates += 1
