"""Users who were leased together, and wait until it is their turn to be sent."""

from __future__ import annotations

import asyncio
import contextvars
from collections import deque
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from clickstream_service.domain.feedback import FeedbackSession, Lease

    GiveBack = Callable[[Sequence[Lease]], asyncio.Task[None]]


class LeasedGroup:
    """Leases and what is known of their users; those whose turn does not come in time are given back.

    The time of a lease counts from when it was taken, but whoever reads slowly neither knows of it nor renews it until
    it was sent: in a group that waits for long, leases would end unnoticed, and users be held whom others could have.
    """

    def __init__(
        self,
        leases: Sequence[Lease],
        sessions: AsyncGenerator[FeedbackSession | None, None],
        until: float,
        give_back: GiveBack,
    ) -> None:
        """`sessions` has those of each user in turn, and None behind each; `until` is a time of the event loop.

        The first user is not given back: somebody has to be sent, however little time there is.
        """
        self._waiting = deque(leases)
        self._sessions = sessions
        self._give_back = give_back
        self._given_back: asyncio.Task[None] | None = None
        self._until = until
        self._timer: asyncio.TimerHandle | None = None

    @property
    def late(self) -> bool:
        """Whether users were given back, as their turn did not come in time."""
        return self._given_back is not None

    def next(self) -> Lease | None:
        """Return whose turn it is; None when nobody is left. Whoever is returned does not wait any more."""
        loop = asyncio.get_running_loop()
        first = self._timer is None
        if not first and loop.time() >= self._until:
            self.give_back()
        lease = self._waiting.popleft() if self._waiting else None
        if first:
            self._timer = loop.call_at(self._until, self.give_back, context=contextvars.Context())
        return lease

    async def sessions(self) -> AsyncGenerator[FeedbackSession, None]:
        """Yield the sessions of the user whose turn it is; all of them have to be read before the next one's turn."""
        while (session := await anext(self._sessions)) is not None:
            yield session

    def give_back(self) -> None:
        """Give back, in the background, all who still wait."""
        if self._waiting:
            leases, self._waiting = [*self._waiting], deque()
            self._given_back = self._give_back(leases)

    async def end(self) -> None:
        """Return once whoever was given back can be leased again."""
        await self._sessions.aclose()
        if self._given_back is not None:
            await asyncio.wait([self._given_back])

    def close(self) -> None:
        """Give back all who still wait, as nobody asks for them any more."""
        if self._timer is not None:
            self._timer.cancel()
        self.give_back()
