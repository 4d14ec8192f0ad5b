"""Submitted sessions wait in a queue; their users are leased, one to one worker at a time, and settled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import timedelta
from enum import Enum, StrEnum, auto
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from datetime import datetime

    from clickstream_service.domain.session import SessionWithEvents


class FeedbackState(StrEnum):
    """What became of a submitted session."""

    PENDING = "pending"
    DONE = "done"
    SKIPPED = "skipped"
    FAILED = "failed"
    """Failed, and waits to be tried again."""
    PARKED = "parked"
    """Failed too often, and is left alone until its user is queued again."""
    IRRELEVANT = "irrelevant"
    """Was marked irrelevant after it had been submitted: it counts no more."""


WAITING: Final = frozenset({FeedbackState.PENDING, FeedbackState.FAILED})
"""A user with a session in one of these states has to be leased again."""

LEASE_EXPIRED: Final = "lease_expired"
"""Why sessions were parked whose user was leased again and again, and never settled."""


@dataclass(frozen=True, slots=True)
class FeedbackRules:
    """How patient the queue is."""

    lease: timedelta = timedelta(minutes=5)
    """How long a worker holds a user without renewing."""
    max_failures: int = 5
    """A session that failed this often is parked."""
    max_attempts: int = 10
    """A user whose lease expired this often in a row has its waiting sessions parked."""
    backoff: timedelta = timedelta(minutes=1)
    """How long a user waits after a first failure; twice as long after each further one."""
    max_backoff: timedelta = timedelta(hours=1)

    def backoff_after(self, failures: int) -> timedelta:
        """Return how long a user waits whose most unlucky session has failed `failures` times."""
        # The exponent is kept small, since a timedelta overflows long before a large one is capped.
        return min(self.backoff * (1 << min(max(failures - 1, 0), 20)), self.max_backoff)


@dataclass(frozen=True, slots=True)
class FeedbackOutcome:
    """What became of a session: DONE, SKIPPED or FAILED by a worker, PARKED by the queue itself."""

    session_id: str
    state: FeedbackState
    reason: str = ""
    detail: str = ""


@dataclass(frozen=True, slots=True)
class QueuedSession:
    """A submitted session as the queue knows it."""

    session_id: str
    state: FeedbackState
    failures: int
    """How often it failed since it was last queued, skipped or done."""
    generation: int
    """The generation of its user that queued it: a lease of an earlier one has not seen what is new about it."""
    settlements: int
    """How often it went from waiting to a state that lasts."""
    reason: str = ""
    detail: str = ""

    def settled(self, outcome: FeedbackOutcome, rules: FeedbackRules) -> QueuedSession:
        """Return what it becomes by `outcome`."""
        state, failures = outcome.state, 0
        if state is FeedbackState.FAILED:
            failures = self.failures + 1
            state = FeedbackState.PARKED if failures >= rules.max_failures else state
        ended = self.state in WAITING and state not in WAITING
        return replace(
            self,
            state=state,
            failures=failures,
            settlements=self.settlements + ended,
            reason=outcome.reason,
            detail=outcome.detail,
        )


@dataclass(frozen=True, slots=True)
class Lease:
    """A hold on the feedback of one user."""

    user_id: str
    fence: int
    leased_at: datetime
    expires_at: datetime
    attempts: int


@dataclass(frozen=True, slots=True)
class FeedbackSession:
    """A session that counts, its events, and its state in the queue."""

    content: SessionWithEvents
    state: FeedbackState
    failures: int


@dataclass(frozen=True, slots=True)
class Settlement:
    """What a settlement led to: whether its user waits again, and how many sessions it parked."""

    pending_again: bool
    parked: int


@dataclass(frozen=True, slots=True)
class Renewal:
    """Until when the leases that were held are held now, and those, as (user, fence), that were not."""

    expires_at: datetime | None
    lost: tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class PendingUser:
    """A user who waits to be learned from."""

    user_id: str
    due_at: datetime
    pending_sessions: int
    owner: str
    lease_expires_at: datetime | None
    attempts: int


@dataclass(frozen=True, slots=True)
class FeedbackCounts:
    """How much is waiting."""

    pending_users: int
    leased_users: int
    sessions: dict[FeedbackState, int]
    oldest_due_at: datetime | None


class Submission(Enum):
    """What became of the wish to learn from a session."""

    SUBMITTED = auto()
    SUBMITTED_BEFORE = auto()
    UNKNOWN = auto()
    IRRELEVANT = auto()
    WITHOUT_USER = auto()


@dataclass(frozen=True, slots=True)
class QuietSession:
    """What decides whether a session that nobody has submitted is submitted by itself."""

    session_id: str
    created_at: datetime
    last_event_at: datetime | None
    irrelevant: bool
