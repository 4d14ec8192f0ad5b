"""Forgetting a user: how it stands, and what was deleted."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import datetime


@dataclass(frozen=True, slots=True)
class Erasure:
    """An erasure that was asked for; under way until it has a `finished_at`. `erased` counts by kind of record."""

    erasure_id: str
    requested_at: datetime
    finished_at: datetime | None
    erased: Mapping[str, int]


@dataclass(frozen=True, slots=True)
class ErasureWork:
    """An erasure that a worker goes on with: that of the user whose keyed hash is `key`.

    `late` grows whenever something was written that the erasure may have missed.
    """

    key: str
    user_id: str
    late: int
