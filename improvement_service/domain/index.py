"""Search indexes: what a collection of vectors is compared by and learned with."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime

DEFAULT_ADJUSTER: Final = "bounded_rotation"
DEFAULT_GATE: Final = 0.6


class Metric(Enum):
    """How close a query and a vector are."""

    COSINE = "COSINE"
    DOT = "DOT"
    EUCLID = "EUCLID"


class Aggregation(Enum):
    """What an object of several parts counts for: its nearest part, or the average of all."""

    MIN = "MIN"
    AVG = "AVG"


@dataclass(frozen=True)
class SearchIndex:
    """A search index, which the contract calls a collection."""

    name: str
    dimension: int
    metric: Metric
    aggregation: Aggregation = Aggregation.MIN
    adjuster: str = DEFAULT_ADJUSTER
    parameters: Mapping[str, float] = field(default_factory=dict)
    gate: float = DEFAULT_GATE
    """The least cosine of a search's query and a query that a copy was learned from for the copy to count."""
    created_at: datetime | None = None
    vectors: str = ""
    """What the vector database calls it: a name of its own for each creation, so that a deleted index stays deleted."""

    def same_definition(self, other: SearchIndex) -> bool:
        """Whether both are defined alike, whenever they were created."""
        return self._definition() == other._definition()

    def _definition(self) -> tuple[object, ...]:
        return (
            self.name,
            self.dimension,
            self.metric,
            self.aggregation,
            self.adjuster,
            dict(self.parameters),
            self.gate,
        )
