"""Wiring of privacy."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any, Final

from clickstream_service.improvement.client import ImprovementClient
from clickstream_service.privacy import Erasures, PersonalData
from clickstream_service.retention import Retention
from clickstream_service.roles import Role
from clickstream_service.storage.mongo_erasures import MongoErasures
from clickstream_service.storage.mongo_retention import MongoRetention
from clickstream_service.storage.mongo_roles import MongoRoles
from clickstream_service.storage.mongo_rollups import MongoRollups
from clickstream_service.storage.personal_records import PersonalRecords
from tideline.errors import DependencyUnavailable

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Coroutine
    from datetime import datetime

    from clickstream_service.config import Settings
    from clickstream_service.domain.session import SessionWithEvents
    from clickstream_service.storage.database import Database
    from clickstream_service.storage.erasure_guard import ErasureGuard
    from clickstream_service.storage.mongo_events import MongoEvents
    from clickstream_service.storage.mongo_interactions import MongoInteractions
    from clickstream_service.storage.mongo_sessions import Requeue

ROLLUPS_PATIENCE_S: Final = 20.0
"""How long an erasure waits for the rollups before it lets others go first."""


@dataclass(frozen=True, slots=True)
class PrivacyParts:
    """What erases users, tells them what is known, and lets go of what is too old."""

    erasures: Erasures
    data: PersonalData
    improvement: ImprovementClient | None
    retention: Retention | None
    retention_role: Role

    def background(self, settings: Settings) -> list[Coroutine[Any, Any, None]]:
        work = [self.erasures.run(settings.erasure_every)]
        if (retention := self.retention) is not None:
            work.append(self.retention_role.perform(lambda _: retention.run(settings.retention_every)))
        return work

    async def close(self) -> None:
        if self.improvement is not None:
            await self.improvement.close()


class _Rollups:
    """The rollups, which another replica may be following, or none for the moment."""

    def __init__(self, rollups: MongoRollups) -> None:
        self._rollups = rollups

    async def caught_up(self) -> None:
        try:
            async with asyncio.timeout(ROLLUPS_PATIENCE_S):
                await self._rollups.caught_up()
        except TimeoutError as late:
            raise DependencyUnavailable("the rollups do not catch up") from late


class _Records:
    """The records of users, events with them."""

    def __init__(self, records: PersonalRecords, events: MongoEvents) -> None:
        self.sessions: Callable[[str], AsyncGenerator[SessionWithEvents, None]] = partial(
            records.sessions, page=events.page
        )


async def privacy_parts(
    database: Database,
    settings: Settings,
    guard: ErasureGuard,
    *,
    events: MongoEvents,
    interactions: MongoInteractions,
    requeue_in: Requeue,
    now: Callable[[], datetime],
) -> PrivacyParts:
    records = PersonalRecords(database)
    erasures = MongoErasures(database, guard, records, settings.erasure_grace)
    await erasures.prepare()
    address = settings.improvement_address
    improvement = (
        ImprovementClient(address, settings.improvement_patience, settings.improvement_access()) if address else None
    )
    rollups = _Rollups(MongoRollups(database))
    return PrivacyParts(
        Erasures(erasures, improvement, rollups, settings.erasure_patience, now),
        PersonalData(_Records(records, events), interactions),
        improvement,
        Retention(MongoRetention(database, requeue_in), settings.retention, now) if settings.retention else None,
        Role(MongoRoles(database), "retention", settings.role_lease),
    )
