"""What a run needs from outside."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Collection, Iterable, Mapping, Sequence
    from datetime import timedelta

    from improvement_service.domain.feedback import Lease, LeasedUser, Outcome, Session, Settlement, Verdict
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.objects import Original, UserCopies
    from improvement_service.domain.scoring import Floats


class Feedback(Protocol):
    """Where users are leased from, and settled."""

    def lease(
        self, owner: str, duration: timedelta, events_limit: int, began: Callable[[Lease], None]
    ) -> AsyncGenerator[LeasedUser, None]:
        """Lease users until no more are pending; `began` hears of each as soon as it is held."""

    async def renew(self, leases: Sequence[Lease], duration: timedelta) -> list[Lease]:
        """Hold users for `duration` from now; returns the leases that are lost."""

    async def settle(self, lease: Lease, outcomes: Sequence[Outcome]) -> Settlement:
        """Record outcomes and free the user; raises LEASE_LOST."""

    async def release(self, leases: Sequence[Lease]) -> None:
        """Free users as if they had not been leased."""

    async def release_all(self, owner: str) -> None:
        """Free all users that a worker holds, those included that it does not know of."""

    async def requeue_users(self, user_ids: Sequence[str]) -> int:
        """Queue users to be learned anew; returns how many of them are known."""


class Definitions(Protocol):
    """Search indexes by name."""

    async def get(self, name: str) -> SearchIndex:
        """Return a definition; raises `CollectionNotFound`."""


class Embedder(Protocol):
    """Makes vectors of texts."""

    async def embed(self, texts: Sequence[str]) -> list[Floats]:
        """Return a vector [D] for each text."""


class SessionFilter(Protocol):
    """Judges sessions."""

    def judge(self, session: Session) -> Verdict:
        """Say whether a session counts, and how much."""


class Originals(Protocol):
    """Vectors as everybody sees them."""

    async def fetch_originals(self, index: SearchIndex, object_ids: Iterable[str]) -> dict[str, Original]:
        """Return what is scored of the objects that are there."""


class Copies(Protocol):
    """Where personal copies are kept."""

    async def replace_personal_many(self, index: SearchIndex, users: Sequence[UserCopies]) -> int:
        """Make these the users' copies, all of them; returns how many others went."""

    async def base_hashes(self, index: SearchIndex, object_ids: Iterable[str]) -> dict[str, str]:
        """Return the hash of the vectors of each object that is there."""

    async def clock(self) -> int:
        """Return the time on the clock by which what is written is ordered there."""


class Versions(Protocol):
    """Versions of users' copies."""

    async def bump(self, collection: str, user_ids: Collection[str], written_until: int) -> None:
        """Make searches of these users read their copies anew, as written until then on the vector database's clock."""


class Fences(Protocol):
    """Which lease was the last to write a user's copies, and into which collections."""

    async def claim(self, writes: Mapping[Lease, Collection[str]]) -> dict[Lease, frozenset[str]]:
        """Announce writes into these collections; returns all that the user may have copies in.

        Leases with a higher one claimed before are missing.
        """

    async def confirm(self, writes: Mapping[Lease, Collection[str]]) -> set[Lease]:
        """Note where the users have copies now; returns the leases that are still the last to have claimed."""

    async def forgotten(self, user_ids: Collection[str]) -> list[str]:
        """Return the users who claimed writes, and were forgotten since."""


class Forgetting(Protocol):
    """Removes all that was learned of users."""

    async def forget(self, user_id: str) -> int:
        """Forget a user in all collections."""
