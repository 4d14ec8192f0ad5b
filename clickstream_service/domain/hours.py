"""Time in whole hours since 1970, UTC: what rollups count by."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Final

DAY: Final = 24

_EPOCH: Final = datetime.fromtimestamp(0, UTC)
_HOUR: Final = timedelta(hours=1)


def hour_of(at: datetime) -> int:
    """Return the hour that a time falls into."""
    return (at - _EPOCH) // _HOUR


def day_of(hour: int) -> int:
    """Return the first hour of the day that an hour falls into."""
    return hour - hour % DAY


def begin_of(hour: int) -> datetime:
    """Return when an hour begins."""
    return _EPOCH + hour * _HOUR
