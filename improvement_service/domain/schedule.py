"""When runs happen."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime, timedelta


@dataclass(frozen=True)
class Schedule:
    """When runs happen; `next_run_at` is this replica's, and absent while paused."""

    interval: timedelta
    paused: bool
    next_run_at: datetime | None
