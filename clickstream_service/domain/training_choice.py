"""Which sessions models are trained on, and keeping to that choice."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from enum import IntEnum
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.domain.query import family_key

if TYPE_CHECKING:
    from clickstream_service.domain.session import Struct
    from clickstream_service.domain.training import Search

MIN_INTERACTIONS: Final = 1
MAX_NEGATIVES: Final = 10
MAX_WEIGHT: Final = 10.0
_EPOCH: Final = datetime.fromtimestamp(0, UTC)


@dataclass(frozen=True, slots=True)
class TrainingChoice:
    """Which interactions to train on; None and 0 are as in the contract."""

    created_from: datetime | None = None
    created_before: datetime | None = None
    min_interactions: int = 0
    interaction_types: frozenset[str] = frozenset()
    surfaces: frozenset[str] = frozenset()
    max_negatives: int = 0
    max_weight: float = 0.0
    propensity_version: int = 0
    strengths_version: int = 0

    def filled(self, before: datetime, propensity_version: int, strengths_version: int) -> TrainingChoice:
        """Return the choice with everything in it that was left to the service."""
        return replace(
            self,
            created_before=before if self.created_before is None else self.created_before,
            min_interactions=self.min_interactions or MIN_INTERACTIONS,
            max_negatives=self.max_negatives or MAX_NEGATIVES,
            max_weight=self.max_weight or MAX_WEIGHT,
            propensity_version=propensity_version,
            strengths_version=strengths_version,
        )


@dataclass(frozen=True, slots=True)
class TrainingSnapshot:
    """A choice with every version and time filled in, of what was recorded before a time."""

    snapshot_id: str
    choice: TrainingChoice
    recorded_before: datetime
    created_at: datetime
    meta: Struct | None


def snapshot_id(choice: TrainingChoice, recorded_before: datetime) -> str:
    """Return the SHA-256, in hex, of all that a snapshot freezes."""
    frozen = {
        "created_from": _microseconds(choice.created_from),
        "created_before": _microseconds(choice.created_before),
        "min_interactions": choice.min_interactions,
        "interaction_types": sorted(choice.interaction_types),
        "surfaces": sorted(choice.surfaces),
        "max_negatives": choice.max_negatives,
        "max_weight": choice.max_weight,
        "propensity_version": choice.propensity_version,
        "strengths_version": choice.strengths_version,
        "recorded_before": _microseconds(recorded_before),
    }
    return hashlib.sha256(json.dumps(frozen, sort_keys=True).encode()).hexdigest()


class SplitKey(IntEnum):
    """What must not be in two parts of a split, numbered as in the contract."""

    NONE = 0
    USER = 1
    QUERY = 2


@dataclass(frozen=True, slots=True)
class TrainingSplit:
    """One of several parts of the data that share no user, or no query."""

    key: SplitKey
    fractions: tuple[float, ...]
    part: int

    def takes(self, search: Search) -> bool:
        """Whether a session is in this part: by a hash of its key, so whatever else there is, it stays there.

        A session without a user is a user of its own.
        """
        if self.key is SplitKey.QUERY:
            key = b"q" + family_key(search.query or "")
        elif search.user_id:
            key = b"u" + search.user_id.encode()
        else:
            key = b"s" + search.session_id.encode()
        place = int.from_bytes(hashlib.sha256(key).digest()[:8], "big") / 2**64
        below = sum(self.fractions[: self.part])
        # The last part takes what rounding leaves.
        last = self.part == len(self.fractions) - 1
        return below <= place and (last or place < below + self.fractions[self.part])


def _microseconds(at: datetime | None) -> Any:
    return None if at is None else (at - _EPOCH) // timedelta(microseconds=1)
