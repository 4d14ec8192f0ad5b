"""Runs: one pass each over the pending feedback."""

from __future__ import annotations

from collections import Counter
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from enum import StrEnum
from time import monotonic
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from improvement_service.domain.feedback import Outcome


class RunState(StrEnum):
    """How a run stands."""

    RUNNING = "running"
    SUCCEEDED = "succeeded"
    FAILED = "failed"
    INTERRUPTED = "interrupted"


class Trigger(StrEnum):
    """What starts a run."""

    SCHEDULE = "schedule"
    REQUEST = "request"


class Stage(StrEnum):
    """Where the time of a run goes."""

    LEASE = "lease"
    EMBED = "embed"
    FETCH = "fetch"
    ADJUST = "adjust"
    UPSERT = "upsert"
    SETTLE = "settle"


@dataclass(frozen=True)
class Turned:
    """By how much personal vectors differ from their originals, in radians."""

    vectors: int = 0
    sum: float = 0.0
    max: float = 0.0

    def __add__(self, other: Turned) -> Turned:
        return Turned(self.vectors + other.vectors, self.sum + other.sum, max(self.max, other.max))

    @property
    def mean(self) -> float:
        return self.sum / self.vectors if self.vectors else 0.0


@dataclass
class Tally:
    """What a run has done so far; it counts up while the run goes on."""

    users_leased: int = 0
    users_settled: int = 0
    users_failed: int = 0
    users_lost: int = 0
    sessions: Counter[str] = field(default_factory=Counter)
    """By state."""
    by_reason: Counter[str] = field(default_factory=Counter)
    """Sessions left out or failed."""
    turned: Turned = field(default_factory=Turned)
    copies_removed: int = 0
    durations: dict[Stage, timedelta] = field(default_factory=lambda: dict.fromkeys(Stage, timedelta(0)))

    def count(self, outcomes: Iterable[Outcome]) -> None:
        """Count sessions by what became of them."""
        for outcome in outcomes:
            self.sessions[outcome.state] += 1
            if outcome.reason:
                self.by_reason[outcome.reason] += 1

    @contextmanager
    def timing(self, stage: Stage) -> Iterator[None]:
        """Add the time that the block takes to a stage."""
        began = monotonic()
        try:
            yield
        finally:
            self.durations[stage] += timedelta(seconds=monotonic() - began)


@dataclass
class Run:
    """One pass over the pending feedback."""

    run_id: str
    trigger: Trigger
    owner: str
    started_at: datetime
    state: RunState = RunState.RUNNING
    finished_at: datetime | None = None
    tally: Tally = field(default_factory=Tally)
    error: str = ""
    """What ended a failed run, without personal data."""
