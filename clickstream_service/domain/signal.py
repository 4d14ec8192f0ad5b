"""Numbers about searches, as they are asked for and answered."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime


class Metric(IntEnum):
    """A number about searches and what was done with their results, numbered as in the contract."""

    SESSIONS = 1
    CTR = 2
    ZERO_RESULT_RATE = 3
    REFINEMENT_RATE = 4
    CONVERSION_RATE = 5
    FIRST_CLICK_RANK = 6
    TIME_TO_FIRST_CLICK = 7
    DWELL = 8
    EVENTS = 9


class Step(IntEnum):
    """The size of a step in time, numbered as in the contract."""

    ALL = 0
    HOUR = 1
    DAY = 2


@dataclass(frozen=True, slots=True)
class Scope:
    """What a signal is taken from: hours since 1970 from `since` on and before `before`, of a surface and a segment.

    `path` is the field of the request that it came from.
    """

    since: int
    before: int
    surface: str = ""
    segment: str = ""
    value: str = ""
    path: str = "scope"


@dataclass(frozen=True, slots=True)
class Value:
    """A number and its 95 % interval; `value` is None when there is nothing to take it from."""

    value: float | None
    low: float
    high: float
    count: int


NOTHING = Value(None, 0.0, 0.0, 0)


@dataclass(frozen=True, slots=True)
class Point:
    """A value in the step that begins `at` this time."""

    at: datetime
    value: Value


@dataclass(frozen=True, slots=True)
class Place:
    """How often results at a position, counted from 0, are clicked."""

    position: int
    impressions: int
    clicks: int
    ctr: Value
    debiased_ctr: Value


@dataclass(frozen=True, slots=True)
class Comparison:
    """A metric in a period and in another one, and how far they are apart."""

    metric: Metric
    value: Value
    baseline: Value
    difference: Value

    @property
    def significant(self) -> bool:
        """Whether the interval of the difference leaves out 0."""
        return self.difference.value is not None and not self.difference.low <= 0 <= self.difference.high


@dataclass(frozen=True, slots=True)
class SkippedObject:
    """An object that is shown high and passed over."""

    object_id: str
    impressions: int
    skips: int
    skip_rate: Value


@dataclass(frozen=True, slots=True)
class QueryMetrics:
    """How a query does."""

    query_text: str
    sessions: int
    ctr: Value
    zero_result_sessions: int


@dataclass(frozen=True, slots=True)
class TopObject:
    """An object that much was done with."""

    object_id: str
    score: float
    count: int
    previous_score: float = 0.0


@dataclass(frozen=True, slots=True)
class ConsumedObject:
    """An object that a user did something with."""

    object_id: str
    types: tuple[str, ...]
    last_at: datetime
    count: int
