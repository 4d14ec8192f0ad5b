"""A breaker: a dependency that keeps failing is left alone for a moment, and callers hear so at once."""

from __future__ import annotations

import random
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING

from tideline.errors import DependencyUnavailable
from tideline.rpc import deadline

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

FAILURES = 5
"""After so many outages in a row it opens."""
PAUSE_S = 1.0
"""For about so long it stays open; then one call finds out how things are."""


class Breaker:
    """Stands before one dependency, in one process.

    Only `DependencyUnavailable` counts: an answer that refuses is an answer. One that was cancelled says nothing.
    """

    def __init__(self, what: str, clock: Callable[[], float] = time.monotonic) -> None:
        """`what` does not answer, as errors have it: "the vector database"."""
        self._what = what
        self._clock = clock
        self._failures = 0
        self._closed_at = 0.0

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Around a call; raises `DependencyUnavailable` instead of making it while the breaker is open."""
        if self._failures >= FAILURES:
            now = self._clock()
            if now < self._closed_at:
                raise DependencyUnavailable(f"{self._what} does not answer")
            # This call goes ahead; others wait for what becomes of it.
            self._open(now)
        try:
            yield
        except DependencyUnavailable:
            # One who waited too briefly has learned nothing.
            if not deadline.over():
                self._failures += 1
                self._open(self._clock())
            raise
        else:
            self._failures = 0

    def _open(self, now: float) -> None:
        # Replicas that saw an outage together shall not come back together.
        self._closed_at = now + PAUSE_S * random.uniform(0.5, 1.5)  # noqa: S311
