"""How strong a signal each type of interaction is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

CLICK: Final = "click"
LONG_VIEW: Final = "long_view"


class Level(IntEnum):
    """How strong a signal is, in words, numbered as in the contract."""

    NEUTRAL = 1
    WEAK = 2
    MODERATE = 3
    STRONG = 4
    NEGATIVE = 5


_WEIGHTS: Final = {Level.NEUTRAL: 0.0, Level.WEAK: 0.25, Level.MODERATE: 1.0, Level.STRONG: 2.0, Level.NEGATIVE: -1.0}


@dataclass(frozen=True, slots=True)
class Strength:
    """What one interaction of a type says about its object: above 0 for it, below 0 against it."""

    level: Level
    own_weight: float | None = None
    """Instead of the weight that goes with the level."""

    @property
    def weight(self) -> float:
        return _WEIGHTS[self.level] if self.own_weight is None else self.own_weight


@dataclass(frozen=True, slots=True)
class Strengths:
    """The strengths of all known types, as of one version; a type that is not known weighs nothing."""

    version: int
    by_type: Mapping[str, Strength]
    long_view_threshold: timedelta
    """A click that lasted at least so long is a long view."""
    created_at: datetime

    def weight(self, event_types: Iterable[str], dwell: timedelta | None = None) -> float:
        """Return what an event weighs: the sum over its types, negative ones counting against.

        A click that is also a long view, by its types or by how long it lasted, is one signal: the stronger of the two.
        """
        types = set(event_types)
        weight = sum(self._of(each) for each in types - {CLICK, LONG_VIEW})
        looked = types & {CLICK, LONG_VIEW}
        if CLICK in types and dwell is not None and dwell >= self.long_view_threshold:
            looked.add(LONG_VIEW)
        return weight + max(map(self._of, looked), default=0.0)

    def changed(
        self, strengths: Mapping[str, Strength], long_view_threshold: timedelta | None, at: datetime
    ) -> Strengths:
        """Return the next version, which says something else about these types."""
        return replace(
            self,
            version=self.version + 1,
            by_type={**self.by_type, **strengths},
            long_view_threshold=self.long_view_threshold if long_view_threshold is None else long_view_threshold,
            created_at=at,
        )

    def _of(self, event_type: str) -> float:
        known = self.by_type.get(event_type)
        return 0.0 if known is None else known.weight


BUILT_IN: Final = Strengths(
    version=1,
    by_type={
        "view": Strength(Level.NEUTRAL),
        CLICK: Strength(Level.MODERATE),
        LONG_VIEW: Strength(Level.STRONG),
        "positive_feedback": Strength(Level.STRONG),
        "negative_feedback": Strength(Level.NEGATIVE),
        "purchase": Strength(Level.STRONG),
        "add_to_cart": Strength(Level.STRONG),
        "wishlist": Strength(Level.MODERATE),
        "share": Strength(Level.MODERATE),
        "bookmark": Strength(Level.MODERATE),
        # Half as sure as somebody who says so: one click and one return still leave a little.
        "skip": Strength(Level.NEGATIVE, -0.5),
        "return_to_results": Strength(Level.NEGATIVE, -0.5),
        "query_refinement": Strength(Level.NEUTRAL),
        "zero_results": Strength(Level.NEUTRAL),
        "filter_toggle": Strength(Level.NEUTRAL),
    },
    # The satisfied click of the literature: Fox et al., Evaluating implicit measures to improve web search, 2005.
    long_view_threshold=timedelta(seconds=30),
    created_at=datetime.fromtimestamp(0, UTC),
)
"""What Tideline comes with."""
