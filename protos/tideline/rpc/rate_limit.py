"""How often one caller may call."""

from __future__ import annotations

import time
from collections import OrderedDict
from typing import TYPE_CHECKING, Final

from tideline.errors import RateLimited

if TYPE_CHECKING:
    from collections.abc import Callable

MOST_CALLERS: Final = 100_000
"""How many callers are remembered; those who called longest ago are forgotten first."""


class RateLimit:
    """A bucket of `burst` calls for each caller, which fills at `per_second`; a stream is one call.

    A caller's bucket is one number: the time at which it is full again (the generic cell rate algorithm, ITU-T I.371).
    """

    def __init__(self, per_second: float, burst: int, now: Callable[[], float] = time.monotonic) -> None:
        self._step = 1 / per_second
        self._depth = burst * self._step
        self._now = now
        self._full_at: OrderedDict[str, float] = OrderedDict()

    def take(self, subject: str) -> None:
        """Count a call of `subject`; raises `RateLimited`, and counts nothing, when it is one too many."""
        now = self._now()
        full_at = max(self._full_at.get(subject, now), now) + self._step
        # A bit of room for what floating point leaves of a whole number of steps.
        if full_at - now > self._depth + self._step * 1e-6:
            raise RateLimited("too many calls by this caller")
        self._full_at[subject] = full_at
        self._full_at.move_to_end(subject)
        if len(self._full_at) > MOST_CALLERS:
            self._full_at.popitem(last=False)
