"""Recording and finding interactions: the events of all sessions and those that came without one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

from clickstream_service.domain.errors import InteractionNotFound
from clickstream_service.domain.event import Event, Stored
from tideline.errors import InvalidField, TidelineError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from clickstream_service.domain.interaction import Choice, InteractionPage, Place

PAGE_BYTES: Final = 3_800_000
"""How large a page may get: what gRPC clients take unless they are told otherwise is 4 MiB."""

_FIELDS: Final = {"created_at": "occurred_at", "event_id": "interaction_id"}


class Recorder(Protocol):
    """What records events, whether they belong to a session or not."""

    async def record(
        self, events: Sequence[Event | InvalidField], *, allow_missing: bool, historical: bool, patient: bool
    ) -> list[Stored | TidelineError]:
        """Record the events that keep the rules; the outcome of each says what is wrong. Raises `Overloaded`."""


class InteractionStore(Protocol):
    """Where interactions are found."""

    async def get(self, session_id: str, interaction_id: str) -> Event | None:
        """Return an interaction; None when it is not there."""

    async def delete(self, session_id: str, interaction_id: str) -> bool:
        """Delete an interaction and have it unlearned; returns whether it was there."""

    async def page(
        self, choice: Choice, after: Place | None, limit: int, max_bytes: int, *, newest_first: bool
    ) -> InteractionPage:
        """Return up to `limit` interactions in the order of time, after a place in it."""

    def export(self, choice: Choice) -> AsyncGenerator[Event, None]:
        """Yield all interactions, oldest first."""


class Interactions:
    """What can be done with interactions."""

    def __init__(self, recorder: Recorder, store: InteractionStore) -> None:
        self._recorder = recorder
        self._store = store

    async def record(self, interaction: Event | InvalidField, *, historical: bool) -> tuple[Event, bool]:
        """Record an interaction and return it as it is recorded, and whether it was there; raises what is wrong.

        Errors name the field as a path from `interaction`.
        """
        [outcome] = await self.record_many([interaction], historical=historical)
        if isinstance(outcome, TidelineError):
            outcome.field = ".".join(filter(None, ("interaction", outcome.field)))
            raise outcome
        assert isinstance(interaction, Event)  # noqa: S101 - it was recorded
        return await self.get(interaction.session_id, interaction.event_id), outcome.duplicate

    async def record_many(
        self, interactions: Sequence[Event | InvalidField], *, historical: bool
    ) -> list[Stored | TidelineError]:
        """Record the interactions that keep the rules; the outcome of each says what is wrong with it.

        Raises `Overloaded` when too much is waiting to be written.
        """
        outcomes = await self._recorder.record(interactions, allow_missing=False, historical=historical, patient=False)
        return [_in_words_of_interactions(outcome) for outcome in outcomes]

    async def get(self, session_id: str, interaction_id: str) -> Event:
        """Return an interaction; raises `InteractionNotFound`."""
        found = await self._store.get(session_id, interaction_id)
        if found is None:
            raise InteractionNotFound("no interaction has this id", field="key.interaction_id")
        return found

    async def delete(self, session_id: str, interaction_id: str) -> bool:
        """Delete an interaction and have it unlearned; returns whether it was there."""
        return await self._store.delete(session_id, interaction_id)

    async def page(self, choice: Choice, after: Place | None, limit: int, *, newest_first: bool) -> InteractionPage:
        """Return interactions in the order of time, after a place in it."""
        return await self._store.page(choice, after, limit, PAGE_BYTES, newest_first=newest_first)

    def export(self, choice: Choice) -> AsyncGenerator[Event, None]:
        """Yield all interactions, oldest first."""
        return self._store.export(choice)


def _in_words_of_interactions(outcome: Stored | TidelineError) -> Stored | TidelineError:
    """Blame the field by its name in an interaction, which differs from that in an event."""
    if isinstance(outcome, TidelineError):
        outcome.field = _FIELDS.get(outcome.field, outcome.field)
    return outcome
