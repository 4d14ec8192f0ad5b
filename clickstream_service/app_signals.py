"""Wiring of signals, rollups and monitors."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from clickstream_service.domain.monitor import DeliveryRules
from clickstream_service.monitors import Monitors, Watch
from clickstream_service.roles import Role
from clickstream_service.rollups import Recount, Rollups
from clickstream_service.signal_lists import SignalLists
from clickstream_service.signals import Examination, Signals
from clickstream_service.storage.mongo_consumed import MongoConsumed
from clickstream_service.storage.mongo_monitors import MongoMonitors
from clickstream_service.storage.mongo_roles import MongoRoles
from clickstream_service.storage.mongo_rollups import MongoRollups
from clickstream_service.storage.mongo_signal_lists import MongoSignalLists
from clickstream_service.storage.mongo_signals import MongoSignals
from clickstream_service.storage.rollup_recount import MongoRecount
from clickstream_service.webhooks import HttpWebhook

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Coroutine, Sequence
    from datetime import datetime

    from clickstream_service.config import Settings
    from clickstream_service.storage.database import Database
    from clickstream_service.strengths import StrengthVersions


@dataclass(frozen=True, slots=True)
class SignalParts:
    """What answers for signals, and what goes on in the background to keep them current."""

    signals: Signals
    lists: SignalLists
    monitors: Monitors
    rollups: Rollups
    watch: Watch
    watch_role: Role

    def background(self, settings: Settings) -> list[Coroutine[Any, Any, None]]:
        return [self.rollups.run(), self.watch.run(self.watch_role, settings.monitor_every)]


def signal_parts(
    database: Database,
    settings: Settings,
    strengths: StrengthVersions,
    examination: Examination,
    now: Callable[[], datetime],
    *,
    lulls: Sequence[Callable[[], Awaitable[None]]],
) -> SignalParts:
    """`lulls` wait each until nothing is being written: what comes in goes before what is counted of it."""

    async def all_quiet() -> None:
        await asyncio.gather(*(lull() for lull in lulls))

    roles = MongoRoles(database)
    signals = Signals(MongoSignals(database), examination)
    monitors, hosts = MongoMonitors(database), frozenset(host.lower() for host in settings.monitor_webhook_hosts)
    deliveries = DeliveryRules(settings.monitor_webhook_attempts, settings.monitor_webhook_backoff)
    webhook = HttpWebhook(settings.monitor_webhook_timeout)
    return SignalParts(
        signals=signals,
        lists=SignalLists(MongoSignalLists(database), MongoConsumed(database), strengths, now),
        monitors=Monitors(monitors, signals, hosts, now),
        rollups=Rollups(
            MongoRollups(database),
            recount(database, settings, strengths),
            Role(roles, "rollups", settings.role_lease),
            settings.signal_delay,
            all_quiet,
        ),
        watch=Watch(monitors, signals, webhook, hosts=hosts, rules=deliveries, now=now),
        watch_role=Role(roles, "monitors", settings.role_lease),
    )


def recount(database: Database, settings: Settings, strengths: StrengthVersions) -> Recount:
    role = Role(MongoRoles(database), "recount", settings.role_lease)
    return Recount(MongoRecount(database), role, settings.signal_segments, strengths)
