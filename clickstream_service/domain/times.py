"""Which times are taken."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from clickstream_service.domain.errors import TimeOutOfRange

_EARLIEST: Final = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True)
class TimeLimits:
    """How old what comes in may be, and how far ahead of the server's clock."""

    max_age: timedelta
    max_ahead: timedelta

    def around(self, now: datetime, *, historical: bool = False) -> tuple[datetime, datetime]:
        """Return the first and the last time that is taken `now`."""
        return _EARLIEST if historical else now - self.max_age, now + self.max_ahead

    def fault(self, created_at: datetime, now: datetime, *, historical: bool = False) -> TimeOutOfRange | None:
        """Return what is wrong with a time; None when it is recent, or just past in what is `historical`."""
        if not historical and created_at < now - self.max_age:
            return TimeOutOfRange(f"is more than {self.max_age} ago", field="created_at")
        if created_at > now + self.max_ahead:
            return TimeOutOfRange(f"is more than {self.max_ahead} ahead", field="created_at")
        return None


def to_millisecond(at: datetime) -> datetime:
    """Return a time as MongoDB keeps it."""
    return at - timedelta(microseconds=at.microsecond % 1000)
