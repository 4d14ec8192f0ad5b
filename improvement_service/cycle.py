"""A pass over the pending feedback: lease -> fetch -> adjust -> upsert -> settle.

Users go through it in chunks. While one chunk is settled, the next is confirmed, the one after it written, and so on; a
chunk or two wait in between, no more, so that memory does not grow with the number of pending users.
"""

from __future__ import annotations

import asyncio
from collections import defaultdict
from contextlib import AsyncExitStack, aclosing
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from improvement_service.domain.feedback import Reason
from improvement_service.domain.run import Stage
from improvement_service.learning.ahead import ahead, until
from improvement_service.learning.fetching import fetch, rows_of
from improvement_service.learning.leases import Leases
from improvement_service.learning.moved_user import MovedUser
from tideline.rpc import tracing

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Iterator, Sequence

    from improvement_service.adjust.evidence import SessionSignals
    from improvement_service.domain.feedback import LeasedUser
    from improvement_service.domain.index import SearchIndex
    from improvement_service.domain.run import Tally
    from improvement_service.learning.fetching import OriginalsOf
    from improvement_service.learning.moving import Mover
    from improvement_service.learning.ports import Feedback, Originals
    from improvement_service.learning.reading import Reader, UserFeedback
    from improvement_service.learning.writing import Writer, Written


@dataclass(frozen=True)
class CycleRules:
    """How much a run takes on at a time."""

    lease: timedelta = timedelta(minutes=5)
    """How long users are held without being renewed, which happens three times as often."""
    chunk_users: int = 200
    """A chunk ends at this many users,"""
    chunk_sessions: int = 2_000
    """at this many sessions,"""
    chunk_results: int = 50_000
    """or when its sessions have shown this many results."""
    chunk_vectors: int = 20_000
    """How many vectors are moved at once; a user who has more is moved alone."""
    events_limit: int = 10_000
    """How many events of a session are looked at, the first ones."""


@dataclass(frozen=True)
class _Chunk:
    """Users with what they say, and the originals of what they speak of."""

    users: Sequence[UserFeedback]
    indexes: dict[str, SearchIndex]
    originals: OriginalsOf


class Cycle:
    """Runs over the pending feedback."""

    def __init__(
        self,
        feedback: Feedback,
        originals: Originals,
        rules: CycleRules,
        *,
        reader: Reader,
        mover: Mover,
        writer: Writer,
    ) -> None:
        self._feedback = feedback
        self._reader = reader
        self._originals = originals
        self._mover = mover
        self._writer = writer
        self._rules = rules

    async def run(self, owner: str, tally: Tally, stop: asyncio.Event) -> None:
        """Learn from all users who are pending now, and count up `tally` meanwhile.

        When `stop` is set, no more users are leased, those being written are settled, and the others are given back.
        Raises `DependencyUnavailable` when it cannot go on; what was settled stays, and the rest is pending.
        """
        async with Leases(self._feedback, self._rules.lease, owner) as leases, AsyncExitStack() as stages:
            leased = await stages.enter_async_context(ahead(self._lease(owner, leases, tally, stop)))
            fetched = await stages.enter_async_context(ahead(self._fetch(leased, tally)))
            adjusted = await stages.enter_async_context(ahead(self._adjust(fetched, tally)))
            written = await stages.enter_async_context(ahead(self._write(adjusted, leases, tally, stop)))
            confirmed = await stages.enter_async_context(ahead(self._confirm(written, leases, tally)))
            async for users in confirmed:
                await self._writer.settle(users, leases, tally)

    async def _lease(
        self, owner: str, leases: Leases, tally: Tally, stop: asyncio.Event
    ) -> AsyncGenerator[list[LeasedUser], None]:
        """Yield the pending users in chunks."""
        chunk: list[LeasedUser] = []
        sessions = results = 0
        pending = self._feedback.lease(owner, self._rules.lease, self._rules.events_limit, leases.add)
        async with aclosing(until(stop, pending)) as users:
            while True:
                with tally.timing(Stage.LEASE):
                    user = await anext(users, None)
                if user is None:
                    if not stop.is_set():
                        leases.know_all()
                    break
                tally.users_leased += 1
                chunk.append(user)
                sessions += len(user.sessions)
                results += sum(len(session.results) for session in user.sessions)
                if self._is_full(len(chunk), sessions, results):
                    yield chunk
                    chunk, sessions, results = [], 0, 0
        if chunk:
            yield chunk

    async def _fetch(self, chunks: AsyncIterator[list[LeasedUser]], tally: Tally) -> AsyncGenerator[_Chunk, None]:
        """Read the sessions of each chunk, and the originals that they speak of."""
        async for leased in chunks:
            users, indexes = await self._reader.read(leased, tally)
            with tally.timing(Stage.FETCH), tracing.span("fetch"):
                originals = await fetch(self._originals, users, indexes)
            yield _Chunk(users, indexes, originals)

    async def _adjust(self, chunks: AsyncIterator[_Chunk], tally: Tally) -> AsyncGenerator[list[MovedUser], None]:
        """Move the vectors of each chunk, in portions."""
        async for chunk in chunks:
            for portion in _portions(chunk, self._rules.chunk_vectors):
                searches = (session.trace for user in portion for session in user.sessions)
                with tally.timing(Stage.ADJUST), tracing.span("adjust", kept=searches):
                    moved = await self._move(chunk, portion)
                yield moved

    async def _write(
        self, portions: AsyncIterator[list[MovedUser]], leases: Leases, tally: Tally, stop: asyncio.Event
    ) -> AsyncGenerator[Written, None]:
        """Write the copies of each portion."""
        async for users in portions:
            if stop.is_set():
                return
            yield await self._writer.write(users, leases, tally)

    async def _confirm(
        self, portions: AsyncIterator[Written], leases: Leases, tally: Tally
    ) -> AsyncGenerator[list[MovedUser], None]:
        """Let searches see each portion that was written."""
        async for written in portions:
            yield await self._writer.confirm(written, leases, tally)

    async def _move(self, chunk: _Chunk, users: Sequence[UserFeedback]) -> list[MovedUser]:
        moved = {user.lease.user_id: MovedUser(user) for user in users}
        by_collection: dict[str, dict[str, list[SessionSignals]]] = defaultdict(dict)
        for user in users:
            for name, sessions in user.signals.items():
                if sessions:
                    by_collection[name][user.lease.user_id] = sessions
        for name, sessions_of in by_collection.items():
            done = await asyncio.to_thread(self._mover.move, chunk.indexes[name], sessions_of, chunk.originals[name])
            for copies in done.copies:
                moved[copies.user_id].copies[name] = copies
                moved[copies.user_id].turned += done.turned[copies.user_id]
            for user_id, detail in done.failed.items():
                moved[user_id].fail(Reason.ADJUST_FAILED, detail)
        return list(moved.values())

    def _is_full(self, users: int, sessions: int, results: int) -> bool:
        rules = self._rules
        return users >= rules.chunk_users or sessions >= rules.chunk_sessions or results >= rules.chunk_results


def _portions(chunk: _Chunk, most_vectors: int) -> Iterator[list[UserFeedback]]:
    """Yield the users of a chunk some at a time, so that there are not too many vectors to move."""
    portion: list[UserFeedback] = []
    vectors = 0
    for user in chunk.users:
        own = rows_of(user, chunk.originals)
        if portion and vectors + own > most_vectors:
            yield portion
            portion, vectors = [], 0
        portion.append(user)
        vectors += own
    if portion:
        yield portion
