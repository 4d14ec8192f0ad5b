"""By which rules rollups are made, and how far they are."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import timedelta

FORMAT: Final = 2
"""Grows when the same data would be counted otherwise, so that what was counted before is counted again."""


@dataclass(frozen=True, slots=True)
class RollupRules:
    """What decides how data is counted: rollups made by other rules are of no use."""

    segments: tuple[str, ...]
    long_view_threshold: timedelta
    format: int = FORMAT


class ChangesLost(Exception):
    """The database does not know any more what was changed since; everything has to be counted again."""


class RoleLost(Exception):
    """Another replica has taken over."""
