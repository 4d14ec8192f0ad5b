"""A user on the way from moved vectors to settled sessions."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np

from improvement_service.domain.feedback import Outcome, Reason, State
from improvement_service.domain.objects import UserCopies
from improvement_service.domain.run import Turned
from tideline.errors import DependencyUnavailable

if TYPE_CHECKING:
    from improvement_service.domain.feedback import Lease
    from improvement_service.domain.index import SearchIndex
    from improvement_service.learning.reading import UserFeedback


@dataclass
class MovedUser:
    """A user whose vectors are computed, or could not be."""

    feedback: UserFeedback
    copies: dict[str, UserCopies] = field(default_factory=dict)
    """By collection."""
    turned: Turned = field(default_factory=Turned)
    failed: Reason | None = None
    detail: str = ""
    outage: bool = False
    """Whether it failed for a reason that has nothing to do with this user."""

    @property
    def lease(self) -> Lease:
        return self.feedback.lease

    def fail(self, reason: Reason, detail: str = "", *, outage: bool = False) -> None:
        """Say why nothing was learned about this user; `detail` has no personal data."""
        self.failed, self.detail, self.outage = reason, detail, outage

    def fail_to_write(self, error: Exception) -> None:
        self.fail(Reason.UPSERT_FAILED, type(error).__name__, outage=isinstance(error, DependencyUnavailable))

    def copies_in(self, index: SearchIndex) -> UserCopies:
        """Return what the user is to have in a collection; nothing when no session there counts."""
        none = UserCopies(self.lease.user_id, (), np.zeros((0, index.dimension), np.float32))
        return self.copies.get(index.name, none)

    def outcomes(self) -> list[Outcome]:
        """Return what became of the sessions.

        When the user failed, so have the sessions that wait; those that were learned from before stay as they are.
        """
        found: list[Outcome] = []
        for session in self.feedback.sessions:
            done = Outcome(session.session_id, State.DONE)
            outcome = self.feedback.outcomes.get(session.session_id, done)
            if outcome is done and self.failed:
                if session.waiting:
                    found.append(replace(done, state=State.FAILED, reason=self.failed, detail=self.detail))
            else:
                found.append(outcome)
        return found
